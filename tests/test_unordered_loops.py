"""run.cursor(ordered=False): the items that are done are a set, whatever order the others come in."""

from __future__ import annotations

import asyncio
import functools
import itertools
import random
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Any

import pytest
from loops import embed, nothing_worked, paid, walk, worked
from memory_runs import ask, fresh, packets

import agentcheckpoint as ac
from agentcheckpoint.core.ids import run_tag
from agentcheckpoint.marking import Unordered
from agentcheckpoint.store.effects import Lost
from agentcheckpoint.store.keys import RunKeys
from agentcheckpoint.store.wire import Wire

KEYS = RunKeys(run_tag("default", "r"))
once = functools.partial(walk, ordered=False)
__all__ = ["nothing_worked"]


def marks(url: str) -> list[str]:
    """The names of the keys that hold marks."""
    return sorted(name.decode() for name in ask(url, "KEYS", "*:marks:*"))


def head(url: str) -> str:
    return ask(url, "GET", KEYS.head).decode()


def test_done_items_are_skipped_in_another_order_with_some_gone_and_some_new() -> None:
    url = fresh()
    with pytest.raises(KeyboardInterrupt):
        once(url, ["a", "b", "c", "d"], "c")
    once(url, ["e", "d", "c", "b", "f"])
    assert worked == ["a", "b", "e", "d", "c", "f"]
    assert paid == ["a", "b", "c", "e", "d", "f"]  # what c's body paid is replayed
    once(url, ["x"])
    assert "x" not in worked  # the loop is done


def test_an_item_that_were_marked_before_its_body_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control of the test above."""
    enter = Unordered.enter

    def early(walk: Unordered[str]) -> str:
        item = enter(walk)
        walk.left()
        assert walk.attempt.store is not None
        walk.attempt.store.run(walk.write())
        walk._in_body = False
        return item

    monkeypatch.setattr(Unordered, "enter", early)
    url = fresh()
    with pytest.raises(KeyboardInterrupt):
        once(url, ["a", "b", "c"], "b")
    monkeypatch.undo()
    once(url, ["a", "b", "c"])
    assert worked == ["a", "c"]


def test_the_set_is_renamed_by_each_claim_and_gone_with_its_step() -> None:
    url = fresh()
    with pytest.raises(KeyboardInterrupt):
        once(url, ["a", "b", "c"], "b")
    before = marks(url)
    assert before == [KEYS.marks(head(url), "index")] and ask(url, "HLEN", before[0]) == 2
    with pytest.raises(KeyboardInterrupt):
        once(url, ["a", "b", "c"], "c")
    after = marks(url)
    assert after == [KEYS.marks(head(url), "index")] != before and ask(url, "HLEN", after[0]) == 3
    once(url, ["a", "b", "c"])
    assert marks(url) == []


def test_a_deleted_run_leaves_no_set() -> None:
    url = fresh()
    with pytest.raises(KeyboardInterrupt):
        once(url, ["a", "b"], "b")
    assert marks(url)
    ac.delete("r", store=url)
    assert marks(url) == []


def test_a_set_that_is_gone_is_never_taken_for_an_empty_one() -> None:
    url = fresh()
    with pytest.raises(KeyboardInterrupt):
        once(url, ["a", "b"], "b")
    ask(url, "DEL", *marks(url))
    with pytest.raises(ac.CheckpointsLost, match="marks of its items"):
        once(url, ["a", "b"])
    assert worked == ["a"]


def test_a_set_that_goes_while_the_loop_runs_is_noticed() -> None:
    url = fresh()

    def docs() -> Iterator[str]:
        yield "a"
        yield "b"
        ask(url, "DEL", *marks(url))
        yield "c"

    with pytest.raises(ac.CheckpointsLost, match=r"[23] marks"):
        once(url, docs())


def test_a_run_that_is_begun_afresh_or_rewound_begins_its_set_afresh() -> None:
    url = fresh()
    with pytest.raises(KeyboardInterrupt):
        once(url, ["a", "b"], "b")
    with ac.run("r", store=url, on_existing="fresh") as run:
        seen = [(doc, len(marks(url))) for doc in run.cursor("index", ["a", "b"], key=str, ordered=False)]
    assert [doc for doc, _ in seen] == ["a", "b"] and marks(url) == []


def test_sets_of_nested_loops_do_not_meet() -> None:
    url = fresh()

    def nested(die: bool) -> list[tuple[str, int]]:
        seen: list[tuple[str, int]] = []
        with ac.run("r", store=url) as run:
            for doc in run.cursor("docs", "ab", key=str, ordered=False):
                for chunk in run.cursor("chunks", range(3), key=str, ordered=False):
                    if die and (doc, chunk) == ("b", 1):
                        raise KeyboardInterrupt
                    seen.append((doc, chunk))
        return seen

    with pytest.raises(KeyboardInterrupt):
        nested(True)
    assert len(marks(url)) == 2  # that of a's chunks went with their loop
    assert nested(False) == [("b", 1), ("b", 2)] and marks(url) == []


@pytest.mark.parametrize("resumed", [False, True])
@pytest.mark.parametrize("every", [1, 3])
def test_two_items_of_one_key_are_misuse(resumed: bool, every: int) -> None:
    url = fresh()
    if resumed:
        with pytest.raises(KeyboardInterrupt):
            once(url, ["x", "y"], "y")
    with pytest.raises(ac.RunMisuse, match=r"two items have the (same )?key"):
        once(url, ["a", "b", "a", "c", "d"], every=every)
    once(url, ["x", "a", "b", "c", "d"])
    assert {"a", "b", "c", "d"} <= set(worked)


def test_two_done_items_of_one_key_are_misuse_at_the_end() -> None:
    url = fresh()
    with pytest.raises(KeyboardInterrupt):
        once(url, ["a", "b"], "b")
    with pytest.raises(ac.RunMisuse, match="3 items have 2 keys"):
        once(url, itertools.chain(["a"], ["b"], ["a"]))


def test_an_unordered_loop_without_key_is_misuse() -> None:
    with ac.run("r", store=fresh()) as run, pytest.raises(ac.RunMisuse, match="needs key="):
        run.cursor("index", ["a"], ordered=False)


def test_another_kind_of_loop_does_not_take_its_place() -> None:
    url = fresh()
    with pytest.raises(KeyboardInterrupt):
        once(url, ["a", "b"], "b")
    with pytest.raises(ac.StepMismatch, match="kind 'unordered'"), ac.run("r", store=url) as run:
        list(run.cursor("index", ["a", "b"], key=str))


def test_a_mark_is_one_packet_and_what_is_done_is_asked_for_in_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    url, docs = fresh(), [str(number) for number in range(3000)]
    with pytest.raises(KeyboardInterrupt):
        once_plain(url, docs, "2999", every=1000)
    with ac.run("r", store=url) as run, packets(monkeypatch) as sent:
        left = len(list(run.cursor("index", docs, key=str, ordered=False)))
    assert left == 3000 - 5 * 512
    asked = len(sent) - 2 * left  # each that is new was asked about, and marked
    assert asked < 25


def once_plain(url: str, docs: Iterable[str], die_in: str, *, every: int) -> None:
    with ac.run("r", store=url) as run:
        for doc in run.cursor("index", docs, key=str, ordered=False, every=every):
            if doc == die_in:
                raise KeyboardInterrupt


@pytest.mark.parametrize("seed", range(8))
def test_each_item_is_done_once_whatever_the_orders_and_deaths(seed: int) -> None:
    chance, url = random.Random(seed), fresh()
    docs = [str(number) for number in range(chance.randrange(1, 60))]
    every = chance.choice([1, 1, 4])
    done: set[str] = set()
    for _ in range(100):
        chance.shuffle(docs)
        try:
            with ac.run("r", store=url) as run:
                for doc in run.cursor("index", iter(docs), key=str, ordered=False, every=every):
                    assert every > 1 or doc not in done
                    if chance.random() < 0.1:
                        raise KeyboardInterrupt
                    done.add(doc)
            break
        except KeyboardInterrupt:
            continue
    assert done == set(docs)


@pytest.mark.parametrize("applied", [True, False])
def test_a_mark_whose_reply_is_lost_is_there_once(monkeypatch: pytest.MonkeyPatch, applied: bool) -> None:
    url, exchange, lost = fresh(), Wire.exchange, list[bool]()

    def losing(wire: Wire, commands: Any) -> Any:
        marks = any(command[0] == "HLEN" and b":marks:" in _text(command[1]) for command in commands)
        second = any(_text(command[0]) == b"HSET" and b'\\"done\\":2' in _text(command[-1]) for command in commands)
        if not lost and marks and second:
            lost.append(True)
            if applied:
                exchange(wire, commands)
            raise Lost("the reply did not come")
        return exchange(wire, commands)

    monkeypatch.setattr(Wire, "exchange", losing)
    once(url, ["a", "b", "c"])
    assert lost and worked == ["a", "b", "c"] and marks(url) == []


def _text(argument: Any) -> bytes:
    return argument if isinstance(argument, bytes) else str(argument).encode()


def test_a_worker_that_was_replaced_marks_nothing_and_asks_nothing() -> None:
    url = fresh()

    def replaced(docs: Iterable[str]) -> None:
        with ac.run("r", store=url) as run:
            for doc in run.cursor("index", docs, key=str, ordered=False):
                if doc == "b":
                    ask(url, "DEL", *[k.decode() for k in ask(url, "KEYS", "*:lease")])
                    with ac.run("r", store=url):
                        pass

    with pytest.raises(ac.LeaseLost):
        replaced(["a", "b", "c"])
    assert ask(url, "HLEN", KEYS.marks(head(url), "index")) == 2
    with pytest.raises(ac.LeaseLost):
        replaced(["a", "b", "c"])


@pytest.mark.parametrize("awaited", [True, False])
def test_on_a_loop(awaited: bool) -> None:
    url = fresh()

    async def source(docs: str) -> AsyncIterator[str]:
        for doc in docs:
            yield doc

    async def once_async(docs: str, die_at: str = "") -> list[str]:
        seen: list[str] = []
        async with ac.run("r", store=url) as run:
            async for doc in run.cursor("index", source(docs) if awaited else docs, key=str, ordered=False):
                await run.step("embed", embed, doc)
                if doc == die_at:
                    raise KeyboardInterrupt
                seen.append(doc)
        return seen

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(once_async("abcd", "c"))
    assert asyncio.run(once_async("edcba")) == ["e", "d", "c"] and paid == ["a", "b", "c", "e", "d"]


def test_many_items_take_no_more_memory_than_few() -> None:
    def grown(use: Callable[[str, int], None], url: str, count: int) -> int:
        tracemalloc.start()
        use(url, count)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    def skipped(url: str, count: int) -> None:
        with ac.run("r", store=url) as run:
            for _ in run.cursor("index", iter(range(count)), key=str, ordered=False, every=512):
                break

    few, many = fresh(), fresh()
    for url, count in ((few, 600), (many, 8_000)):
        with pytest.raises(KeyboardInterrupt):
            once_plain(url, map(str, range(count)), str(count - 1), every=512)
    skipped(few, 600)
    assert grown(skipped, many, 8_000) < grown(skipped, few, 600) + 400_000
