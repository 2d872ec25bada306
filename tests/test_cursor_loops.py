"""run.cursor: an item is done when its body has ended, and what is done is skipped, in both colours."""

from __future__ import annotations

import asyncio
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress

import pytest
from loops import embed, nothing_worked, paid, walk, worked
from memory_runs import fresh, packets

import agentcheckpoint as ac
from agentcheckpoint.stopping import interrupt
from agentcheckpoint.walking import Ordered

__all__ = ["nothing_worked"]


@pytest.mark.parametrize("key", [str, None])
def test_an_item_whose_body_raised_is_not_done_and_what_it_paid_is_replayed(key: Callable[[str], str] | None) -> None:
    url = fresh()
    with pytest.raises(KeyboardInterrupt):
        walk(url, ["a", "b", "c"], "b", key=key)
    walk(url, ["a", "b", "c"], key=key)
    assert worked == ["a", "b", "c"] and paid == ["a", "b", "c"]
    walk(url, ["a", "b", "c"], key=key)
    assert worked == ["a", "b", "c"]


def test_an_item_that_were_done_before_its_body_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control of the test above."""
    enter = Ordered.enter

    def early(loop: Ordered[str]) -> str:
        if loop.attempt.store is not None:
            loop.attempt.store.run(loop.place.write(loop._item))
        return enter(loop)

    monkeypatch.setattr(Ordered, "enter", early)
    url = fresh()
    with pytest.raises(KeyboardInterrupt):
        walk(url, ["a", "b", "c"], "b")
    walk(url, ["a", "b", "c"])
    assert worked == ["a", "c"]


def test_break_leaves_the_item_undone_and_the_steps_after_it_are_not_inside() -> None:
    url = fresh()
    with ac.run("r", store=url) as run:
        for doc in run.cursor("index", ["a", "b"], key=str):
            if doc == "b":
                break
        run.step("after", embed, "x")
        assert {row.slot for row in ac.get("r", store=url).steps} == {"after"}
    with ac.run("r", store=url) as run:
        assert list(run.cursor("index", ["a", "b"], key=str)) == ["b"]
        run.step("after", embed, "x")


def test_a_position_that_is_gone_from_the_items_is_said() -> None:
    url = fresh()
    with pytest.raises(KeyboardInterrupt):
        walk(url, ["a", "b", "c"], "c")
    with pytest.raises(ac.StepMismatch, match="'b' was done last"):
        walk(url, ["a", "c"])
    assert worked == ["a", "b"]


def test_without_keys_another_item_at_the_position_is_said() -> None:
    url = fresh()
    with pytest.raises(KeyboardInterrupt):
        walk(url, ["a", "b", "c"], "c", key=None)
    with pytest.raises(ac.StepMismatch, match="item 2 is not the one"):
        walk(url, ["a", "x", "c"], key=None)


def test_two_items_of_one_key_are_misuse() -> None:
    with pytest.raises(ac.RunMisuse, match="two items have the key 'a'"):
        walk(fresh(), ["a", "a"])


def test_every_saves_packets_and_costs_repeated_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def packets_of(every: int) -> int:
        with ac.run("r", store=fresh()) as run, packets(monkeypatch) as sent:
            assert len(list(run.cursor("index", range(10), every=every))) == 10
            return len(sent)

    assert (packets_of(1), packets_of(5), packets_of(100)) == (11, 3, 1)
    url = fresh()
    with pytest.raises(KeyboardInterrupt):
        walk(url, ["a", "b", "c", "d"], "d", every=2)
    walk(url, ["a", "b", "c", "d"], every=2)
    assert worked == ["a", "b", "c", "c", "d"]


@pytest.mark.parametrize("awaited", [True, False])
def test_on_a_loop(awaited: bool) -> None:
    url = fresh()

    async def source() -> AsyncIterator[int]:
        for number in range(4):
            yield number

    async def once_async(die_at: int) -> list[int]:
        seen: list[int] = []
        async with ac.run("r", store=url) as run:
            async for number in run.cursor("index", source() if awaited else range(4)):
                if number == die_at:
                    raise KeyboardInterrupt
                await run.step("embed", embed, str(number))
                seen.append(number)
        return seen

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(once_async(2))
    assert asyncio.run(once_async(-1)) == [2, 3] and paid == ["0", "1", "2", "3"]


def test_many_items_take_no_more_memory_than_few() -> None:
    def grown(count: int) -> int:
        def source() -> Iterator[int]:
            yield from range(count)

        with ac.run("r", store=fresh()) as run:
            tracemalloc.start()
            for _ in run.cursor("index", source(), every=count // 4):
                pass
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            return peak

    grown(100)
    assert grown(40_000) < grown(100) + 200_000


# -- an attempt that is to end ----------------------------------------------------------------------------------------


def told_in(doc: str, url: str, how: str, *, every: int = 100, ordered: bool = True) -> None:
    """Goes through three items; in the body of one the attempt is told to end."""
    with ac.run("r", store=url) as run:
        for item in run.cursor("index", ["a", "b", "c"], key=str, ordered=ordered, every=every):
            worked.append(item)
            if item == doc and how == "stop":
                interrupt("SIGTERM")
            elif item == doc:
                ac.cancel("r", store=url)


@pytest.mark.parametrize("ordered", [True, False])
def test_what_has_passed_is_stored_when_the_attempt_is_to_end(ordered: bool) -> None:
    url = fresh()
    with pytest.raises(ac.Interrupted):
        told_in("b", url, "stop", ordered=ordered)
    assert worked == ["a", "b"], "it ends with the item under way, whatever every= says"
    told_in("", url, "", ordered=ordered)
    assert worked == ["a", "b", "c"]


async def test_on_a_loop_it_is_the_same_when_the_attempt_is_to_end() -> None:
    url = fresh()
    for _ in range(2):
        with suppress(ac.Interrupted):
            async with ac.run("r", store=url) as run:
                async for item in run.cursor("index", ["a", "b", "c"], key=str, every=100):
                    worked.append(item)
                    if item == "b":
                        interrupt("SIGTERM")
    assert worked == ["a", "b", "c"]


def test_a_cancellation_that_comes_with_a_mark_ends_the_loop_there() -> None:
    url = fresh()
    with pytest.raises(ac.Interrupted):
        told_in("b", url, "cancel", every=2)
    assert worked == ["a", "b"]


def test_a_loop_whose_time_is_up_stores_what_has_passed() -> None:
    url = fresh()
    with pytest.raises(ac.RunTimeout), ac.run("r", store=url, timeout=0.05) as run:
        for item in run.cursor("index", ["a", "b", "c"], key=str, every=100):
            worked.append(item)
            time.sleep(0.05)
    told_in("", url, "")
    assert worked == ["a", "b", "c"]
