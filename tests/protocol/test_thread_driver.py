"""Generators in threads, over real connections: interrupts, forks, and connections that are not what they were."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

import pytest
from faults.servers import until
from servers import UNANSWERED, RedisServer, waiting

from agentcheckpoint.errors import StoreUnavailable
from agentcheckpoint.store import connect as connecting
from agentcheckpoint.store.dial import dial_url
from agentcheckpoint.store.effects import Lost, NotSent, Packet, Pause, Protocol, Refusal
from agentcheckpoint.store.store import Store


class SoftLimit(Exception):
    """What a job queue raises from a signal, anywhere."""


@pytest.fixture
def store(redis_server: RedisServer) -> Store:
    made = Store(dial_url(redis_server.url))
    made._dial.timeout = 60.0  # nothing but an interrupt ends a wait
    return made


def ask(*command: Any, held: bool = False) -> Protocol[Any]:
    return (yield Packet((command,), held=held))[0]


def settling(seen: list[str]) -> Protocol[str]:
    """A commit in small: what left is settled before anything unwinds."""
    try:
        yield UNANSWERED
    except Lost:
        seen.append("lost")
        yield Pause(0.01)
        yield Packet((("PING",),))
    seen.append("settled")
    return "done"


def _raise(number: int, frame: object) -> None:
    raise SoftLimit


def interrupt(when: Callable[[], bool], number: int = signal.SIGINT) -> threading.Thread:
    """A thread that sends this process a signal, Ctrl-C's if no other, as soon as that is true."""

    def strike() -> None:
        until(when, "the moment of the interrupt")
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=strike)
    thread.start()
    return thread


@contextmanager
def interrupted(server: RedisServer, number: int = signal.SIGINT) -> Iterator[None]:
    """Sends this process a signal while an unanswered packet is out."""
    until(lambda: not waiting(server), "the packets of others are gone")
    thread = interrupt(lambda: waiting(server) > 0, number)
    yield
    thread.join()


# -- interrupts -------------------------------------------------------------------------------------------------------


def test_an_interrupt_is_heard_after_the_packet_that_was_out_is_settled(
    store: Store, redis_server: RedisServer
) -> None:
    seen: list[str] = []
    with interrupted(redis_server), pytest.raises(KeyboardInterrupt):
        store.run(settling(seen))
    assert seen == ["lost", "settled"]


def test_whatever_a_signal_raises_is_heard_after_the_packet_is_settled(
    store: Store, redis_server: RedisServer
) -> None:
    seen: list[str] = []
    before = signal.signal(signal.SIGALRM, _raise)
    try:
        with interrupted(redis_server, signal.SIGALRM), pytest.raises(SoftLimit):
            store.run(settling(seen))
    finally:
        signal.signal(signal.SIGALRM, before)
    assert seen == ["lost", "settled"]


def test_an_interrupt_is_not_lost_when_the_settlement_fails(store: Store, redis_server: RedisServer) -> None:
    def failing() -> Protocol[None]:
        try:
            yield UNANSWERED
        except Lost:
            raise StoreUnavailable("the server is away", value="paid") from None

    with interrupted(redis_server), pytest.raises(KeyboardInterrupt) as caught:
        store.run(failing())
    assert isinstance(caught.value.__cause__, StoreUnavailable) and caught.value.__cause__.value == "paid"


def test_the_third_interrupt_ends_it_and_leaves_nobody_waiting(store: Store, redis_server: RedisServer) -> None:
    left: list[str] = []

    def stubborn() -> Protocol[None]:
        try:
            while True:
                until(lambda: not waiting(redis_server), "the packet before is gone")
                interrupt(lambda: waiting(redis_server) > 0)
                with suppress(Lost):
                    yield UNANSWERED
                left.append("lost")
        finally:
            left.append("closed")

    with pytest.raises(KeyboardInterrupt) as caught:
        store.run(stubborn())
    assert left == ["lost", "lost", "closed"], "closed at once, though its traceback is still held"
    assert caught.tb is not None


@pytest.mark.parametrize("came", ["while it waits", "before it waits"])
def test_an_interrupt_ends_a_wait_with_nothing_under_way(store: Store, redis_server: RedisServer, came: str) -> None:
    def pausing() -> Protocol[None]:
        if came == "before it waits":
            with suppress(Lost):
                yield UNANSWERED
        else:
            about_to_wait.set()
        yield Pause(100, idle=True)

    about_to_wait = threading.Event()
    if came == "while it waits":
        interrupt(lambda: about_to_wait.wait(0.1) and not time.sleep(0.1))  # it waits by then
    with interrupted(redis_server) if came == "before it waits" else nullcontext(), pytest.raises(KeyboardInterrupt):
        store.run(pausing())


# -- connections ---------------------------------------------------------------------------------------------------


def test_a_connection_that_was_closed_while_idle_is_noticed_before_it_is_used(store: Store) -> None:
    idle = store.run(ask("CLIENT", "ID"))
    assert store.run(ask("CLIENT", "ID")) == idle, "it is kept"
    Store(store._dial).run(ask("CLIENT", "KILL", "ID", idle))
    until(lambda: store._threads._idle[-1].stale(), "the connection is seen to be closed")
    assert store.run(ask("CLIENT", "ID")) != idle


def test_a_watch_whose_connection_died_never_executes_on_another(store: Store) -> None:
    def claiming() -> Protocol[str]:
        watch = yield Packet((("WATCH", "head"), ("CLIENT", "ID")), held=True)
        Store(store._dial).run(ask("CLIENT", "KILL", "ID", watch[1]))
        try:
            yield Packet((("MULTI",), ("SET", "head", "mine"), ("EXEC",)), held=True)
        except Lost:
            return "lost"
        return "executed"

    store.run(ask("DEL", "head"))
    assert store.run(claiming()) == "lost"
    assert store.run(ask("GET", "head")) is None


def test_a_packet_that_goes_on_after_its_watch_broke_is_not_sent_at_all(store: Store) -> None:
    def reckless() -> Protocol[str]:
        watch = yield Packet((("WATCH", "head"), ("CLIENT", "ID")), held=True)
        Store(store._dial).run(ask("CLIENT", "KILL", "ID", watch[1]))
        with suppress(Lost):
            yield Packet((("GET", "head"),), held=True)
        try:
            yield Packet((("MULTI",), ("SET", "head", "mine"), ("EXEC",)), held=True)
        except NotSent:
            return "not sent"
        return "executed"

    store.run(ask("DEL", "head"))
    assert store.run(reckless()) == "not sent"
    assert store.run(ask("GET", "head")) is None


@pytest.mark.parametrize("end", ["watched", "executed", "refused"])
def test_a_connection_with_a_watch_on_it_is_lent_to_nobody(store: Store, end: str) -> None:
    def looking() -> Protocol[int]:
        _, number = yield Packet((("WATCH", "head"), ("CLIENT", "ID")), held=True)
        if end == "executed":
            yield Packet((("MULTI",), ("PING",), ("EXEC",)), held=True)
        elif end == "refused":
            yield Packet((("MULTI",), ("NO-SUCH-COMMAND",), ("EXEC",)), held=True)
        return int(number)

    number = store.run(looking())
    store.run(ask("SET", "head", "another's"))
    assert (store.run(ask("CLIENT", "ID")) == number) is (end == "executed")


def test_error_replies_are_replies_even_those_that_the_client_takes_for_a_broken_line(store: Store) -> None:
    def failing(text: str) -> tuple[str, str, int]:
        return "EVAL", f"return redis.error_reply('{text}')", 0

    def asking() -> Protocol[Any]:
        return (yield Packet((failing("LOADING wait"), failing("NOAUTH no"), failing("ERR so"), ("PING",))))

    refusals = [Refusal("LOADING", "wait"), Refusal("NOAUTH", "no"), Refusal("ERR", "so")]
    assert store.run(asking()) == [*refusals, b"PONG"]


# -- forks ------------------------------------------------------------------------------------------------------------


def in_a_child(act: Any) -> int:
    """The exit code of a forked child that does this; one that hangs is ended."""
    child = os.fork()
    if child == 0:
        try:
            signal.alarm(5)
            os._exit(int(act()))
        finally:
            os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_forked_child_has_connections_of_its_own(store: Store) -> None:
    number = store.run(ask("CLIENT", "ID"))
    assert in_a_child(lambda: store.run(ask("CLIENT", "ID")) == number) == 0
    assert store.run(ask("CLIENT", "ID")) == number, "and the parent's is as it was"


def test_a_child_forked_while_another_thread_connects_can_connect(redis_server: RedisServer) -> None:
    with connecting._lock:
        assert in_a_child(lambda: connecting.connect(redis_server.url).health is not None) == 1
