"""A loop's connection whose transport was taken over, against a server that does what each test says."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from peer import Peer, served
from servers import RedisServer

from agentcheckpoint.errors import StoreRefused
from agentcheckpoint.store.async_wire import LoopWire
from agentcheckpoint.store.dial import dial_url
from agentcheckpoint.store.effects import Lost, NotSent, Packet, Protocol
from agentcheckpoint.store.store import Store


def ask(*command: Any) -> Protocol[Any]:
    return (yield Packet((command,)))[0]


def trouble_of(*command: Any) -> Protocol[Exception | None]:
    try:
        yield Packet((command,))
    except (NotSent, Lost, StoreRefused) as exc:
        return exc
    return None


async def answers(peer: Peer) -> None:
    """As a server does: the first question has been read already."""
    await peer.say(b"+OK\r\n")
    while await peer.asked():
        await peer.say(b"+OK\r\n")


@pytest.mark.parametrize("blocking", [False, True])
@pytest.mark.parametrize("said", [b"+and more\r\n", b"+and a part of mo", b"$3\r\nabc\r\n:1\r\n"])
async def test_a_reply_that_nobody_asked_for_is_taken_for_no_others(
    tmp_path: Path, said: bytes, blocking: bool
) -> None:
    async def talks(peer: Peer) -> None:
        await peer.say(b"+mine\r\n" + said)
        await peer.asked()

    async with served(tmp_path, talks, answers) as store:

        async def answer() -> Any:
            return await (asyncio.to_thread(store.run, ask("PING")) if blocking else store.run_async(ask("PING")))

        assert await answer() == b"mine"
        assert await answer() == b"OK", "it goes on another connection"


async def test_what_an_idle_connection_is_told_ends_it(tmp_path: Path) -> None:
    said = asyncio.Event()

    async def talks(peer: Peer) -> None:
        await peer.say(b"+mine\r\n")
        await said.wait()
        await peer.say(b"+and more\r\n")
        assert await peer.asked() == [], "it is closed at once"
        said.clear()

    async with served(tmp_path, talks, answers) as store:
        assert await store.run_async(ask("PING")) == b"mine"
        said.set()
        while said.is_set():
            await asyncio.sleep(0.001)
        assert await store.run_async(ask("PING")) == b"OK"


@pytest.mark.parametrize("said", [b"HTTP/1.1 400 Bad Request\r\n", b">2\r\n+push\r\n+it\r\n", b"%1\r\n+a\r\n+b\r\n"])
async def test_what_is_no_reply_leaves_the_packet_in_doubt_and_the_next_goes_elsewhere(
    tmp_path: Path, said: bytes
) -> None:
    async def talks(peer: Peer) -> None:
        await peer.say(said)
        await peer.asked()

    async with served(tmp_path, talks, answers) as store:
        assert isinstance(await store.run_async(trouble_of("PING")), Lost)
        assert await store.run_async(ask("PING")) == b"OK"


async def test_a_line_that_is_cut_loses_what_was_sent_and_not_what_was_waiting(tmp_path: Path) -> None:
    arrived, cut = asyncio.Event(), asyncio.Event()

    async def cuts(peer: Peer) -> None:
        arrived.set()
        await cut.wait()
        peer.hang_up()

    async with served(tmp_path, cuts, answers) as store:
        sent = asyncio.ensure_future(store.run_async(trouble_of("SET", "a", "1")))
        await arrived.wait()
        waiting = [asyncio.ensure_future(store.run_async(ask("SET", "b", n))) for n in range(3)]
        await asyncio.sleep(0)
        cut.set()
        lost = await sent
        assert isinstance(lost, Lost) and not lost.timed_out
        assert await asyncio.gather(*waiting) == [b"OK"] * 3


async def test_of_a_packet_whose_line_is_cut_midway_those_count_that_were_answered(tmp_path: Path) -> None:
    async def cuts(peer: Peer) -> None:
        await peer.say(b"+one\r\n+tw")
        peer.hang_up()

    async with served(tmp_path, cuts, answers) as store:
        told = await asyncio.gather(*(store.run_async(trouble_of("PING")) for _ in range(3)))
        assert [type(trouble) for trouble in told] == [type(None), Lost, Lost]


async def test_what_has_waited_leaves_before_those_go_on_who_have_been_answered(tmp_path: Path) -> None:
    """So the server is at work while they are."""
    arrived, told, order = asyncio.Event(), asyncio.Event(), list[str]()

    async def waits(peer: Peer) -> None:
        arrived.set()
        await told.wait()
        await peer.say(b"+OK\r\n")
        while await peer.asked():
            await peer.say(b"+OK\r\n")

    async def goes_on(store: Store) -> None:
        await store.run_async(ask("SET", "a", "1"))
        order.append("went on")

    async with served(tmp_path, waits) as store:
        first = asyncio.ensure_future(goes_on(store))
        await arrived.wait()
        waiting = [asyncio.ensure_future(store.run_async(ask("SET", "b", n))) for n in range(3)]
        await asyncio.sleep(0)
        wire = store.loop_driver().lane().wire
        assert wire is not None
        send = wire.send

        def noted(parcels: Any) -> None:
            order.append(f"sent {len(parcels)}")
            send(parcels)

        wire.send = noted  # type: ignore[method-assign]
        told.set()
        await asyncio.gather(first, *waiting)
    assert order == ["sent 3", "went on"]


@pytest.mark.parametrize("said", [b"", b"$100\r\nabc"])
async def test_a_server_that_falls_silent_is_given_up_after_the_time_out(tmp_path: Path, said: bytes) -> None:
    async def waits(peer: Peer) -> None:
        await peer.say(said)
        while await peer.asked():
            pass

    async with served(tmp_path, waits, answers) as store:
        store._dial.timeout = 0.2
        began = time.monotonic()
        told = await asyncio.gather(*(store.run_async(trouble_of("PING")) for _ in range(3)))
        assert all(isinstance(trouble, Lost) and trouble.timed_out for trouble in told)
        assert 0.19 <= time.monotonic() - began < 2
        assert await store.run_async(ask("PING")) == b"OK"


async def test_one_timer_gives_each_packet_its_whole_time(tmp_path: Path) -> None:
    """It was set for a packet before, and runs out while the next has waited for a part of it alone."""

    async def slow(peer: Peer) -> None:
        for _ in range(4):
            await asyncio.sleep(0.15)
            await peer.say(b"+OK\r\n")
            await peer.asked()

    async with served(tmp_path, slow) as store:
        store._dial.timeout = 0.4
        for _ in range(4):
            assert await store.run_async(ask("PING")) == b"OK"


async def test_a_reply_that_comes_piece_by_piece_is_waited_for_as_long_as_pieces_come(tmp_path: Path) -> None:
    async def slow(peer: Peer) -> None:
        await peer.say(b"$10\r\n")
        for _ in range(10):
            await asyncio.sleep(0.1)
            await peer.say(b"x")
        await peer.say(b"\r\n")
        await peer.asked()

    async with served(tmp_path, slow) as store:
        store._dial.timeout = 0.5
        assert await store.run_async(ask("GET", "k")) == b"x" * 10


BIG = 32_000_000


async def test_a_big_packet_is_waited_for_as_long_as_the_server_takes_some_of_it(tmp_path: Path) -> None:
    async def takes_it_slowly(peer: Peer) -> None:
        await peer.say(b"+OK\r\n")
        taken = 0
        while taken < BIG:
            await asyncio.sleep(0.1)
            taken += len(await peer.reader.read(BIG))
        await peer.say(b"+OK\r\n")
        await peer.asked()

    async with served(tmp_path, takes_it_slowly) as store:
        store._dial.timeout = 0.5
        await store.run_async(ask("PING"))
        began = time.monotonic()
        assert await store.run_async(ask("SET", "k", b"x" * BIG)) == b"OK"
        assert time.monotonic() - began > 1, "it took longer than the time-out"


async def test_a_server_that_takes_no_more_of_a_big_packet_is_given_up_and_never_gets_the_rest(tmp_path: Path) -> None:
    given_up, taken = asyncio.Event(), asyncio.get_running_loop().create_future()

    async def stops(peer: Peer) -> None:
        await peer.say(b"+OK\r\n")
        await given_up.wait()
        taken.set_result(len(await peer.reader.read(-1)))

    async with served(tmp_path, stops, answers) as store:
        store._dial.timeout = 0.3
        await store.run_async(ask("PING"))
        trouble = await store.run_async(trouble_of("SET", "k", b"x" * BIG))
        assert isinstance(trouble, Lost) and trouble.timed_out
        given_up.set()
        assert 0 < await taken < BIG // 2
        assert await store.run_async(ask("PING")) == b"OK"


async def test_a_connection_that_was_closed_while_the_loop_was_blocked_costs_nothing(redis_server: RedisServer) -> None:
    store = Store(dial_url(redis_server.url))
    store.loop_driver().retain()
    idle = await store.run_async(ask("CLIENT", "ID"))
    store.run(ask("CLIENT", "KILL", "ID", idle))  # the loop has had no turn to hear of it
    assert await store.run_async(ask("CLIENT", "ID")) != idle
    store.loop_driver().release()


@pytest.mark.parametrize("where", ["send", "_write", "_hand_out"])
def test_an_interrupt_in_the_middle_of_it_leaves_nobody_waiting(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """A second Ctrl-C is raised in whatever the loop does at the moment."""
    store = Store(dial_url(redis_server.url))
    store._dial.timeout = 0.3
    real = getattr(LoopWire, where)

    def interrupted(wire: LoopWire, *rest: Any) -> None:
        monkeypatch.setattr(LoopWire, where, real)
        raise KeyboardInterrupt

    async def first() -> None:
        store.loop_driver().retain()
        await store.run_async(ask("PING"))

    async def rest() -> Exception | None:
        told = await asked
        store.loop_driver().release()
        return told

    with asyncio.Runner() as runner:
        runner.run(first())
        monkeypatch.setattr(LoopWire, where, interrupted)
        asked = runner.get_loop().create_task(store.run_async(trouble_of("PING")))
        with pytest.raises(KeyboardInterrupt):
            runner.run(asyncio.sleep(5))
        assert isinstance(runner.run(rest()), Lost)
