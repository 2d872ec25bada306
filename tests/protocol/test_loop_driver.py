"""Generators on an event loop, over one real connection: batches, cancellations, and errors that each caller owns."""

from __future__ import annotations

import asyncio
import gc
import weakref
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

import pytest
from servers import UNANSWERED, RedisServer, hasten, waiting

from agentcheckpoint.errors import StoreRefused
from agentcheckpoint.store.async_wire import AsyncWire
from agentcheckpoint.store.dial import dial_url
from agentcheckpoint.store.effects import Await, Lost, NotSent, Packet, Pause, Protocol, Refusal
from agentcheckpoint.store.store import Store


@pytest.fixture
def store(redis_server: RedisServer) -> Store:
    made = Store(dial_url(redis_server.url))
    made._dial.timeout = 60.0
    return made


async def come_to(server: RedisServer) -> None:
    """Waits until the server has an unanswered packet."""
    while not waiting(server):
        await asyncio.sleep(0.01)


def answer(server: RedisServer) -> None:
    """Lets the server answer it."""
    server.ask("RPUSH", "nothing", "at last")


ANSWERED = [b"nothing", b"at last"]


def ask(*command: Any) -> Protocol[Any]:
    return (yield Packet((command,)))[0]


def caught() -> Protocol[Exception | None]:
    """The error that is thrown into a generator for its packet."""
    try:
        yield Packet((("PING",),))
    except (NotSent, Lost, StoreRefused) as exc:
        return exc
    return None


async def test_packets_that_are_ready_together_leave_in_one_write(store: Store, monkeypatch: Any) -> None:
    writes: list[int] = []
    send = AsyncWire.send

    def counted(wire: AsyncWire, parcels: Any) -> None:
        writes.append(len(parcels))
        send(wire, parcels)

    monkeypatch.setattr(AsyncWire, "send", counted)
    await store.run_async(ask("DEL", "n"))
    writes.clear()
    assert sorted(await asyncio.gather(*(store.run_async(ask("INCR", "n")) for _ in range(50)))) == [*range(1, 51)]
    assert writes == [50]


@pytest.mark.parametrize("how", ["not sent", "lost", "refused"])
async def test_each_caller_of_a_batch_is_told_by_an_exception_of_its_own(
    store: Store, tmp_path: Any, redis_server: RedisServer, how: str
) -> None:
    if how == "not sent":
        store = Store(dial_url(f"unix://{tmp_path}/nothing"))
    elif how == "refused":
        store = Store(dial_url(f"unix://nobody:wrong@{redis_server.socket}"))
    else:
        store.loop_driver().retain()
        await store.run_async(ask("PING"))
        wire: Any = store.loop_driver().lane().wire
        hasten(wire, 0.1)
        blocked = asyncio.ensure_future(store.run_async(ask("BLPOP", "nothing", "600")))
    errors = await asyncio.gather(*(store.run_async(caught()) for _ in range(3)))
    expected = {"not sent": NotSent, "lost": Lost, "refused": StoreRefused}[how]
    assert [type(error) for error in errors] == [expected] * 3
    assert len({id(error) for error in errors}) == 3
    if how == "lost":
        with pytest.raises(Lost):
            await blocked
        store.loop_driver().release()


async def test_a_cancelled_caller_hears_of_it_after_its_packet_is_answered(
    store: Store, redis_server: RedisServer
) -> None:
    seen: list[Any] = []

    def committing() -> Protocol[None]:
        seen.append((yield UNANSWERED)[0])

    task = asyncio.ensure_future(store.run_async(committing()))
    await come_to(redis_server)
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0.02)
    assert not task.done() and seen == []
    answer(redis_server)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == [ANSWERED]


async def test_a_cancellation_carries_the_error_that_the_protocol_ended_with(
    store: Store, redis_server: RedisServer
) -> None:
    def failing() -> Protocol[None]:
        yield UNANSWERED
        raise StoreRefused("no", value="paid")

    task = asyncio.ensure_future(store.run_async(failing()))
    await come_to(redis_server)
    task.cancel()
    answer(redis_server)
    with pytest.raises(asyncio.CancelledError) as cancelled:
        await task
    assert isinstance(cancelled.value.__cause__, StoreRefused) and cancelled.value.__cause__.value == "paid"


@pytest.mark.parametrize("what", ["a pause", "another's step", "a pause after a packet"])
async def test_a_cancellation_ends_a_wait_with_nothing_under_way(
    store: Store, redis_server: RedisServer, what: str
) -> None:
    left: list[str] = []

    def pausing() -> Protocol[None]:
        try:
            if what == "another's step":
                yield Await(Future(), idle=True)
            if what == "a pause after a packet":
                yield UNANSWERED
            yield Pause(100, idle=True)
        finally:
            left.append("closed")

    task = asyncio.ensure_future(store.run_async(pausing()))
    if what == "a pause after a packet":
        await come_to(redis_server)
    else:
        await asyncio.sleep(0.02)
    task.cancel()
    if what == "a pause after a packet":
        answer(redis_server)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert left == ["closed"]


async def test_a_loop_that_cancels_every_task_settles_what_was_sent_and_what_was_waiting(
    store: Store, redis_server: RedisServer
) -> None:
    await store.run_async(ask("DEL", "late"))
    slow = asyncio.ensure_future(store.run_async(ask(*UNANSWERED.commands[0])))
    await come_to(redis_server)
    late = asyncio.ensure_future(store.run_async(ask("SET", "late", "1")))
    await asyncio.sleep(0.02)
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
    await asyncio.sleep(0.02)
    assert not slow.done() and not late.done()
    answer(redis_server)
    outcomes = await asyncio.gather(slow, late, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [asyncio.CancelledError] * 2
    assert await store.run_async(ask("GET", "late")) == b"1"


async def test_a_connection_that_was_closed_while_idle_is_noticed_before_it_is_used(store: Store) -> None:
    store.loop_driver().retain()
    idle = await store.run_async(ask("CLIENT", "ID"))
    assert await store.run_async(ask("CLIENT", "ID")) == idle, "it is kept"
    await asyncio.to_thread(store.run, ask("CLIENT", "KILL", "ID", idle))
    wire = store.loop_driver().lane().wire
    assert wire is not None
    while not wire.stale():
        await asyncio.sleep(0.01)
    assert await store.run_async(ask("CLIENT", "ID")) != idle
    store.loop_driver().release()


async def test_a_watch_is_not_ended_by_anothers_commit_on_the_same_loop(store: Store) -> None:
    def claiming() -> Protocol[Any]:
        yield Packet((("WATCH", "head"),), held=True)
        watching.set()
        yield Await(changed)
        return (yield Packet((("MULTI",), ("SET", "head", "mine"), ("EXEC",)), held=True))[-1]

    def committing() -> Protocol[Any]:
        return (yield Packet((("MULTI",), ("SET", "head", "another's"), ("EXEC",))))[-1]

    changed: Future[None] = Future()
    watching = asyncio.Event()
    claim = asyncio.ensure_future(store.run_async(claiming()))
    await watching.wait()
    assert await store.run_async(committing()) == [b"OK"]
    changed.set_result(None)
    assert await claim is None
    assert await store.run_async(ask("GET", "head")) == b"another's"


async def test_a_packet_that_goes_on_after_its_watch_broke_is_not_sent_at_all(store: Store) -> None:
    def reckless() -> Protocol[str]:
        watch = yield Packet((("WATCH", "head"), ("CLIENT", "ID")), held=True)
        store.run(ask("CLIENT", "KILL", "ID", watch[1]))
        with suppress(Lost, NotSent):
            yield Packet((("GET", "head"),), held=True)
        try:
            yield Packet((("MULTI",), ("SET", "head", "mine"), ("EXEC",)), held=True)
        except NotSent:
            return "not sent"
        return "executed"

    store.run(ask("DEL", "head"))
    assert await store.run_async(reckless()) == "not sent"
    assert await store.run_async(ask("GET", "head")) is None


@pytest.mark.parametrize("heard", [True, False])
async def test_what_goes_on_after_its_watch_broke_is_not_sent_on_another_connection(store: Store, heard: bool) -> None:
    def claiming() -> Protocol[str]:
        watch = yield Packet((("WATCH", "head"), ("CLIENT", "ID")), held=True)
        store.run(ask("CLIENT", "KILL", "ID", watch[1]))
        if heard:
            yield Pause(0.05)
        try:
            yield Packet((("WATCH", "lease"),), held=True)
        except NotSent:
            return (yield Packet((("PING",),), held=True))[0].decode()  # who begins anew gets a new one
        return "head is not watched any more"

    assert await store.run_async(claiming()) == "PONG"


async def test_error_replies_are_replies_and_the_next_packet_is_answered_by_its_own(store: Store) -> None:
    def asking() -> Protocol[Any]:
        loading = ("EVAL", "return redis.error_reply('LOADING wait')", 0)
        return (yield Packet((loading, ("PING",), ("MULTI",), ("LPUSH", "text", "x"), ("EXEC",))))

    await store.run_async(ask("SET", "text", "t"))
    answers = await asyncio.gather(store.run_async(asking()), store.run_async(ask("ECHO", "mine")))
    assert answers[0][:2] == [Refusal("LOADING", "wait"), b"PONG"]
    assert answers[0][-1][0].code == "WRONGTYPE"
    assert answers[1] == b"mine"


def test_the_connection_ends_with_its_last_user_and_the_loop_can_be_freed(store: Store) -> None:
    number, loops = [], []

    async def once() -> None:
        loops.append(weakref.ref(asyncio.get_running_loop()))
        number.append(await store.run_async(ask("CLIENT", "ID")))

    asyncio.run(once())
    gc.collect()
    assert loops[0]() is None
    clients = store.run(ask("CLIENT", "LIST"))
    assert f"id={number[0]} ".encode() not in clients
