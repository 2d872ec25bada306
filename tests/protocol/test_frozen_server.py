"""A server that is connected and answers nothing, being stopped: the waiting ends, and Ctrl-C ends it sooner."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from servers import RedisServer

import agentcheckpoint as ac
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


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """By how much the time-out of each packet that was sent was multiplied; a packet that waits is in it already."""
    begun: list[int] = []
    perform = ThreadDriver._perform

    def noted(self: ThreadDriver, effect: Any, held: Any) -> Any:
        if hasattr(effect, "commands"):
            begun.append(effect.patience)
        return perform(self, effect, held)

    monkeypatch.setattr(ThreadDriver, "_perform", noted)
    return begun


def test_a_step_ends_in_doubt_after_the_time_outs_and_the_end_is_not_tried(
    server: RedisServer, waits: list[int]
) -> None:
    store = ac.connect(server.url)
    store._dial.timeout = 0.1
    store.close()
    tried = 0

    def freezes() -> str:
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
    store._dial.timeout = 5.0
    with ac.run("r", store=store) as run:
        assert run.step("s", lambda: "paid") == "paid"
    assert ac.get("r", store=store).state == "completed"


async def test_a_step_on_a_loop_ends_in_doubt_too(server: RedisServer) -> None:
    store = ac.connect(server.url)
    store._dial.timeout = 0.1
    store.close()

    def freezes() -> str:
        freeze(server)
        return "paid"

    began = time.monotonic()
    with pytest.raises(ac.CommitUnknown) as caught:
        async with ac.run("r", store=store) as run:
            await run.step("connects", str)
            await run.step("s", freezes)
    assert caught.value.value == "paid"
    assert time.monotonic() - began < 8, "six time-outs and the pauses are two seconds; 36 and as many pauses were ten"


async def test_a_step_that_cannot_even_connect_ends_as_soon(server: RedisServer) -> None:
    store = ac.connect(server.url)
    store._dial.timeout = 0.1
    store.close()
    began = time.monotonic()
    with pytest.raises(ac.StoreUnavailable):
        async with ac.run("r", store=store) as run:
            wire = store.loop_driver()._wire
            assert wire is not None
            await wire.close()
            await run.step("s", lambda: freeze(server))
    assert time.monotonic() - began < 16, "it is not in doubt, so the end was tried too"


def test_an_end_whose_step_was_in_doubt_is_not_called_good(server: RedisServer) -> None:
    store = ac.connect(server.url)
    store._dial.timeout = 0.1
    store.close()
    with pytest.raises(ac.CommitUnknown, match="no more steps"), ac.run("r", store=store) as run:  # noqa: SIM117
        with pytest.raises(ac.CommitUnknown):
            run.step("s", lambda: freeze(server))


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
            until(lambda n=n: len(waits) >= n)  # type: ignore[misc]
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
    store._dial.timeout = 5.0
    with ac.run("r", store=store) as run:
        run.step("s2", str)


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)
