"""Replies as they come from a socket: whole or in pieces, errors inside of arrays, and what is no reply of RESP2."""

from __future__ import annotations

from typing import Any

import pytest

from agentcheckpoint.store.effects import Refusal
from agentcheckpoint.store.resp import Replies, pack

SAID = (
    b"+OK\r\n:-7\r\n$-1\r\n$0\r\n\r\n$4\r\na\r\nb\r\n*-1\r\n*0\r\n"
    b"*4\r\n-WRONGTYPE not a hash\r\n*2\r\n:1\r\n$1\r\nx\r\n$-1\r\n-no code\r\n"
    b"-MOVED 3999 127.0.0.1:6381\r\n-BUSY a script runs\r\n-\xff\xfe\r\n"
)
MEANT: list[Any] = [
    *(b"OK", -7, None, b"", b"a\r\nb", None, []),
    [Refusal("WRONGTYPE", "not a hash"), [1, b"x"], None, Refusal("ERR", "no code")],
    *(Refusal("MOVED", "3999 127.0.0.1:6381"), Refusal("BUSY", "a script runs"), Refusal("ERR", "\ufffd\ufffd")),
]


def taken(replies: Replies) -> list[Any]:
    """What can be read so far."""
    replies.take_all(found := list[Any]())
    return found


def test_replies_that_come_cut_anywhere_are_the_same() -> None:
    for at in range(len(SAID) + 1):
        replies = Replies()
        replies.feed(SAID[:at])
        first = taken(replies)
        replies.feed(SAID[at:])
        assert [*first, *taken(replies)] == MEANT, at
    replies, got = Replies(), list[Any]()
    for n in range(len(SAID)):
        replies.feed(SAID[n : n + 1])
        got += taken(replies)
    assert got == MEANT


@pytest.mark.parametrize(
    "said",
    [
        *(b"?x\r\n", b":1x\r\n", b"$x\r\n", b"$-5\r\n", b"*-5\r\n", b"hello\r\n"),
        *(b">2\r\n+message\r\n+x\r\n", b"%1\r\n+a\r\n:1\r\n", b"#t\r\n", b",1.5\r\n"),
    ],
)
def test_what_is_no_reply_of_resp2_is_refused_and_not_taken_for_one(said: bytes) -> None:
    replies = Replies()
    replies.feed(b"+OK\r\n" + said + b"+OK\r\n")
    with pytest.raises(ValueError):
        replies.take_all([])


def test_a_packet_has_the_length_of_each_word_in_bytes() -> None:
    assert pack([("SET", "é", b"\r\n"), ("EXPIRE", "k", -30)]) == (
        b"*3\r\n$3\r\nSET\r\n$2\r\n\xc3\xa9\r\n$2\r\n\r\n\r\n*3\r\n$6\r\nEXPIRE\r\n$1\r\nk\r\n$3\r\n-30\r\n"
    )
