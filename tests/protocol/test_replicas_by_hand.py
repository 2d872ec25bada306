"""Replicas that are waited for: in the packet of the write itself, and what is said when they do not follow."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from agentcheckpoint.store.effects import Lost, Packet, Pause, Refusal
from agentcheckpoint.store.replicas import LAGGING_MS, WAIT_MS, Replicas

WRITE = Packet((("MULTI",), ("RPUSH", "log", "line"), ("EXEC",)))
APPLIED: list[Any] = [b"OK", b"QUEUED", [1]]


def sent(*packets: Packet) -> Generator[Any, Any, list[Any]]:
    heard: list[Any] = []
    for packet in packets:
        heard.append((yield packet))
    return heard


def answer(replicas: Replicas, *acknowledged: Any) -> tuple[list[Any], list[Packet]]:
    """What a protocol of so many writes is told, and what left."""
    led, left, outcome = replicas.acknowledged(sent(*[WRITE] * len(acknowledged))), list[Packet](), list[Any]()
    effect: Any = next(led)
    for reply in acknowledged:
        left.append(effect)
        try:
            effect = led.send([*APPLIED, reply])
        except StopIteration as stop:
            outcome = stop.value
    return outcome, left


def test_a_write_and_its_wait_are_one_packet_and_the_protocol_sees_its_own_replies_only() -> None:
    outcome, left = answer(Replicas(2), 2)
    assert left[0].commands == (*WRITE.commands, ("WAIT", 2, WAIT_MS)) and outcome == [APPLIED]


@pytest.mark.parametrize(
    "effect",
    [Packet((("MULTI",), ("SET", "lease", "me"), ("EXEC",))), Packet((("GET", "head"),)), Pause(1)],
)
def test_what_records_nothing_waits_for_nobody(effect: Any) -> None:
    assert next(Replicas(1).acknowledged(sent(effect))) is effect


@pytest.mark.parametrize("reply", [1, Refusal("NOPERM", "wait")])
def test_a_shortfall_is_applied_all_the_same_and_said_once_until_they_follow_again(reply: Any) -> None:
    replicas = Replicas(2)
    outcome, left = answer(replicas, 2, reply, reply)
    assert outcome == [APPLIED] * 3 and replicas.short == 2
    assert [packet.commands[-1][-1] for packet in left] == [WAIT_MS, WAIT_MS, LAGGING_MS]
    assert str(reply) in str(replicas.shortfall()) and replicas.shortfall() is None
    answer(replicas, reply)
    assert replicas.shortfall() is None
    answer(replicas, 2, reply)
    assert replicas.shortfall() is not None


def test_what_was_refused_or_lost_is_no_shortfall() -> None:
    replicas = Replicas(1)
    led = replicas.acknowledged(sent(WRITE, WRITE))
    next(led)
    led.send([b"OK", Refusal("OOM", ""), Refusal("EXECABORT", ""), 0])
    with pytest.raises(Lost):
        led.throw(Lost("cut"))
    assert replicas.short == 0 and replicas.shortfall() is None
