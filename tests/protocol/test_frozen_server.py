"""A server that is connected and answers nothing, being stopped: the waiting ends, and Ctrl-C ends it sooner."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from faults.servers import until
from servers import RedisServer, hasten

import agentcheckpoint as ac
from agentcheckpoint.store.loop_driver import LoopDriver
from agentcheckpoint.store.thread_driver import INTERRUPTS, ThreadDriver

pytestmark = pytest.mark.filterwarnings("ignore::agentcheckpoint.errors.DurabilityWarning")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not on PATH (apt-get install redis-server)")
    made = RedisServer(tmp_path)
    yield made
    thaw(made)
    made.kill()


def freeze(server: RedisServer) -> None:
    server._process.send_signal(signal.SIGSTOP)


def thaw(server: RedisServer) -> None:
    server._process.send_signal(signal.SIGCONT)


def hurry(store: ac.Store, seconds: float = 0.1) -> None:
    """From now on the store's connections, those that it has and those that it will open, wait only so long."""
    store._dial.timeout = seconds
    for idle in store._threads._idle:
        idle._connection._sock.settimeout(seconds)
        idle._connection._parser._buffer.socket_timeout = seconds  # else it is set back by a look for what is unread
    for driver in store._loops.values():
        if driver.lane().wire is not None:
            hasten(driver.lane().wire, seconds)


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """By how much the time-out of each packet that was sent was multiplied; a packet that waits is in it already."""
    begun: list[int] = []

    def noted(perform: Any) -> Any:
        def performed(self: Any, effect: Any, *rest: Any) -> Any:
            if hasattr(effect, "commands"):
                begun.append(effect.patience)
            return perform(self, effect, *rest)

        return performed

    for driver in (ThreadDriver, LoopDriver):
        monkeypatch.setattr(driver, "_perform", noted(driver._perform))
    return begun


def test_a_step_ends_in_doubt_after_the_time_outs_and_the_end_is_not_tried(
    server: RedisServer, waits: list[int]
) -> None:
    store = ac.connect(server.url)
    tried = 0

    def freezes() -> str:
        hurry(store)
        freeze(server)
        waits.clear()
        return "paid"

    with pytest.raises(ac.CommitUnknown) as caught, ac.run("r", store=store) as run:
        try:
            run.step("s", freezes)
        finally:
            tried = len(waits)
    assert (caught.value.value, caught.value.step) == ("paid", "s")
    assert sum(waits) == 6 and len(waits) == tried
    thaw(server)
    store._dial.timeout = 60.0
    with ac.run("r", store=store) as run:
        assert run.step("s", lambda: "paid") == "paid"
    assert ac.get("r", store=store).state == "completed"


async def test_a_step_on_a_loop_ends_in_doubt_too(server: RedisServer, waits: list[int]) -> None:
    store = ac.connect(server.url)

    def freezes() -> str:
        hurry(store)
        freeze(server)
        waits.clear()
        return "paid"

    with pytest.raises(ac.CommitUnknown) as caught:
        async with ac.run("r", store=store) as run:
            await run.step("connects", str)
            await run.step("s", freezes)
    assert caught.value.value == "paid"
    assert sum(waits) == 6


async def test_a_step_that_cannot_even_connect_ends_as_soon(server: RedisServer, waits: list[int]) -> None:
    store = ac.connect(server.url)

    def freezes() -> None:
        hurry(store)
        freeze(server)
        waits.clear()

    with pytest.raises(ac.StoreUnavailable):
        async with ac.run("r", store=store) as run:
            wire = store.loop_driver().lane().wire
            assert wire is not None
            wire.close()
            await run.step("s", freezes)
    assert sum(waits) == 12, "it is not in doubt, so the end was tried too"


def test_an_end_whose_step_was_in_doubt_is_not_called_good(server: RedisServer) -> None:
    store = ac.connect(server.url)

    def freezes() -> None:
        hurry(store)
        freeze(server)

    with pytest.raises(ac.CommitUnknown, match="no more steps"), ac.run("r", store=store) as run:
        with pytest.raises(ac.CommitUnknown):
            run.step("s", freezes)


@pytest.mark.parametrize("kind", ["step", "llm"])
def test_the_last_interrupt_ends_the_waiting_and_says_so(server: RedisServer, waits: list[int], kind: str) -> None:
    store = ac.connect(server.url)
    store._dial.timeout = 600.0  # nothing but an interrupt ends a wait

    def freezes() -> None:
        store.close()
        freeze(server)
        waits.clear()
        threading.Thread(target=interrupt, daemon=True).start()

    def interrupt() -> None:
        for n in range(1, INTERRUPTS + 1):
            until(lambda n=n: len(waits) >= n, "the next try")  # type: ignore[misc]
            time.sleep(0.2)  # it waits by now
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt) as caught, ac.run("r", store=store) as run:
        if kind == "step":
            run.step("s", freezes)
        else:
            freezes()
            run.llm("s", str)
    assert any("gave up" in note for note in caught.value.__notes__)
    assert len(waits) == INTERRUPTS
    thaw(server)
    store._dial.timeout = 60.0
    with ac.run("r", store=store) as run:
        run.step("s2", str)
