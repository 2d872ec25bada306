"""Loops whose workers are killed around each of their packets, whose replies get lost, and that run in threads."""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from faults.broken.walks import cursors_in_memory, marked_ahead
from faults.servers import Server, binaries
from killed_packets import killed, moments
from memory_runs import ask, fresh

import agentcheckpoint as ac
from agentcheckpoint.store.effects import Lost
from agentcheckpoint.store.wire import Wire

pytestmark = pytest.mark.filterwarnings("ignore::agentcheckpoint.errors.DurabilityWarning")
ITEMS = ["a", "b", "c", "d", "e"]


def value_loop(run: ac.Run, log: Path, every: int) -> None:
    def process() -> int:
        cursor = ac.Cursor(int, start=0)
        for number in range(cursor.value, len(ITEMS)):
            note(log, ITEMS[number])
            cursor.set(number + 1)
        return cursor.value

    run.step("process", process)


def ordered_loop(run: ac.Run, log: Path, every: int) -> None:
    for item in run.cursor("index", ITEMS, key=str, every=every):
        note(log, item)


def unordered_loop(run: ac.Run, log: Path, every: int) -> None:
    for item in run.cursor(
        "index", ITEMS[run.attempt % 5 :] + ITEMS[: run.attempt % 5], key=str, ordered=False, every=every
    ):
        note(log, item)


def note(log: Path, item: str) -> None:
    """It survives the process, as what a loop does to the world."""
    with log.open("a") as file:
        file.write(item)


def worked(log: Path) -> str:
    return log.read_text() if log.exists() else ""


LOOPS = {"value": value_loop, "ordered": ordered_loop, "unordered": unordered_loop}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(next(iter(binaries().values())), tmp_path_factory.mktemp("server")) as running:
        yield running


def once(url: str, run_id: str, loop: Callable[[ac.Run, Path, int], None], log: Path, every: int) -> None:
    with ac.run(run_id, store=url, lease=1, wait=30) as run:
        loop(run, log, every)


def outlive_any_kill(url: str, room: Path, kind: str, every: int) -> None:
    """A loop is killed around each of its packets, and another worker goes on with it each time."""
    repeated = Counter[int]()
    for at in moments():
        run_id, log = secrets.token_hex(6), room / f"{at}"
        died = killed(at, lambda run_id=run_id, log=log: once(url, run_id, LOOPS[kind], log, every))  # type: ignore[misc]
        before = worked(log)
        once(url, run_id, LOOPS[kind], log, every)
        again = Counter(worked(log)) - Counter(ITEMS)
        assert set(worked(log)) == set(ITEMS), f"killed at packet {at}, it skips: {before!r}, then {worked(log)!r}"
        assert again.total() <= every, f"killed at packet {at}, it repeats: {worked(log)!r}"
        repeated[again.total()] += 1
        assert not ask(url, "KEYS", "*:marks:*")
        if not died:
            break
    assert repeated[0] and repeated[every], "some kills fall between an item and its mark, and some do not"


EACH = pytest.mark.parametrize(
    ("kind", "every"), [("value", 1), ("ordered", 1), ("ordered", 3), ("unordered", 1), ("unordered", 3)]
)


@EACH
def test_a_kill_around_any_packet_skips_no_item_and_repeats_at_most_the_unstored_ones(
    server: Server, tmp_path: Path, kind: str, every: int
) -> None:
    outlive_any_kill(server.url, tmp_path, kind, every)


@EACH
def test_an_item_that_is_marked_before_its_work_is_skipped_and_a_value_that_is_not_stored_repeats_it(
    server: Server, tmp_path: Path, kind: str, every: int
) -> None:
    broken, said = (cursors_in_memory, "it repeats") if kind == "value" else (marked_ahead, "it skips")
    with broken(), pytest.raises(AssertionError, match=said):
        outlive_any_kill(server.url, tmp_path, kind, every)


@pytest.mark.parametrize("applied", [True, False])
def test_a_value_whose_reply_is_lost_is_set_all_the_same(monkeypatch: pytest.MonkeyPatch, applied: bool) -> None:
    url, exchange, lost = fresh(), Wire.exchange, list[bool]()

    def losing(wire: Wire, commands: Any) -> Any:
        if not lost and any(_sets(command, 2) for command in commands):
            lost.append(True)
            if applied:
                exchange(wire, commands)
            raise Lost("the reply did not come")
        return exchange(wire, commands)

    seen: list[int] = []

    def process(die: bool) -> int:
        cursor = ac.Cursor(int, start=0)
        seen.append(cursor.value)
        for number in range(cursor.value + 1, 4):
            cursor.set(number)
        if die:
            raise KeyboardInterrupt
        return cursor.value

    step = ac.Step("process", ignore=("die",))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt), ac.run("r", store=url) as run:
        patch.setattr(Wire, "exchange", losing)
        run.step(step, process, True)
    with ac.run("r", store=url) as run:
        assert run.step(step, process, False) == 3
    assert lost and seen == [0, 3]


def _sets(command: Any, value: int) -> bool:
    return any(b'"value":"%d"' % value in (word if isinstance(word, bytes) else str(word).encode()) for word in command)


# -- threads -----------------------------------------------------------------------------------------------------------


async def test_a_step_in_a_thread_of_a_loop_sets_its_cursor() -> None:
    url = fresh()

    def count(upto: int) -> int:
        cursor = ac.Cursor(int, start=0)
        for number in range(cursor.value + 1, upto + 1):
            cursor.set(number)
        return cursor.value

    async def step() -> int:
        return await asyncio.to_thread(count, 3)

    async with ac.run("r", store=url) as run:
        assert await run.step("count", step) == 3


def test_a_thread_that_is_bound_sets_the_cursor_of_its_step_and_a_plain_one_is_misuse() -> None:
    raised: list[BaseException] = []

    def in_thread(work: Callable[[], None]) -> None:
        def kept() -> None:
            try:
                work()
            except BaseException as exc:
                raised.append(exc)

        thread = threading.Thread(target=kept)
        thread.start()
        thread.join()

    def step(bound: bool) -> int:
        cursor = ac.Cursor(int, start=0)
        work = run.bind(cursor.set) if bound else cursor.set
        in_thread(lambda: work(1))
        return cursor.value

    with ac.run("r", store=fresh()) as run:
        assert run.step("bound", step, True) == 1 and raised == []
        assert run.step("plain", step, False) == 0
    assert isinstance(raised[0], ac.RunMisuse) and "body of its own step" in str(raised[0])
