"""Runs that work while the slot of their keys is moved from node to node, and what is wrong with what was recorded."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from faults.clusters import Cluster, Node, slot_of_run
from faults.servers import PATIENCE, until
from redis.exceptions import ResponseError

import agentcheckpoint as ac

PRICE = {"model": "gpt-5-mini", "usage": {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15}}
STEP = ac.Step("buy", provider="openai")


class Shop:
    """What was bought, by who sold it."""

    def __init__(self) -> None:
        self.sold: Counter[str] = Counter()
        self._lock = threading.Lock()

    def sell(self, name: str) -> dict[str, Any]:
        with self._lock:
            self.sold[name] += 1
        return {**PRICE, "id": f"{name}/{self.sold[name]}"}


class Worker:
    """One run that buys until it is told to end.

    Attributes:
        slot: where its keys lie.
        bought: how many of its steps are recorded, by what it was told.
        error: what ended it too early.
    """

    def __init__(self, store: ac.Store, run_id: str, *, on_a_loop: bool = False) -> None:
        self.store, self.run_id, self.slot = store, run_id, slot_of_run(run_id)
        self.shop, self.seen = Shop(), dict[str, Any]()
        self.error: BaseException | None = None
        self._end = threading.Event()
        work: Callable[[], None] = (lambda: asyncio.run(self._work_on_a_loop())) if on_a_loop else self._work
        self._thread = threading.Thread(target=self._guarded, args=(work,))

    @property
    def bought(self) -> int:
        return len(self.seen)

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as exc:
            self.error = exc

    def _work(self) -> None:
        with ac.run(self.run_id, store=self.store) as run:
            self.fence = run._attempt.fence
            while not self._end.is_set():
                name = f"{self.bought}"
                self.seen[name] = run.llm(ac.Step("buy", key=name, provider="openai"), self.shop.sell, name)["id"]
            run.finish("all")

    async def _work_on_a_loop(self) -> None:
        async with ac.run(self.run_id, store=self.store) as run:
            while not self._end.is_set():
                names = [f"{self.bought + n}" for n in range(3)]
                await asyncio.gather(*(self._buy(run, name) for name in names))
            run.finish("all")

    async def _buy(self, run: Any, name: str) -> None:
        async def sell(name: str) -> dict[str, Any]:
            return self.shop.sell(name)

        self.seen[name] = (await run.llm(ac.Step("buy", key=name, provider="openai"), sell, name))["id"]

    def __enter__(self) -> Worker:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def goes_on(self, by: int = 2) -> None:
        """Waits until it has bought so many more, or has ended."""
        goal = self.bought + by
        until(lambda: self.bought >= goal or not self._thread.is_alive(), f"{self.run_id} goes on")

    def wrong(self) -> Iterator[str]:
        """What is wrong with what is stored, once it has ended: each step is there, once, and was bought once."""
        if self.error is not None:
            yield f"it was told {self.error!r}"
        if twice := {name: count for name, count in self.shop.sold.items() if count > 1}:
            yield f"bought again: {twice}"
        view = ac.get(self.run_id, store=self.store)
        if view.state != "completed":
            yield f"it is {view.state}"
        again = Shop()
        with ac.run(self.run_id, store=self.store) as run:
            for name, receipt in self.seen.items():
                found = run.llm(ac.Step("buy", key=name, provider="openai"), again.sell, name)["id"]
                if found != receipt:
                    yield f"step {name} was {receipt}, and is {found}"
            cost = run.cost
        if again.sold:
            yield f"{len(again.sold)} of {self.bought} steps were not recorded"
        if cost.spent != self.bought * cost_of_one():
            yield f"{self.bought} steps cost {cost.spent}"


def cost_of_one() -> Any:
    """What one purchase costs."""
    with ac.run("one", store="memory://cost-of-one") as run:
        run.llm(STEP, lambda: PRICE)
        return run.cost.spent


def move_round(cluster: Cluster, worker: Worker, rounds: int) -> None:
    """Moves the run's slot from node to node, a few of its keys at a time, while it works."""
    for _ in range(rounds):
        source = cluster.owner(worker.slot)
        target = cluster.primaries[(cluster.primaries.index(source) + 1) % len(cluster.primaries)]
        refused = cluster.refused("ASK", "TRYAGAIN")
        cluster.migrate(worker.slot, source, target, most=1)
        until(lambda before=refused: cluster.refused("ASK", "TRYAGAIN") > before, "it meets the move")  # type: ignore[misc]
        move(cluster, worker.slot, source, target)
        worker.goes_on()


def move(cluster: Cluster, slot: int, source: Node, target: Node) -> None:
    """Moves what is left of a slot, and says whose it is now."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        while not cluster.migrate(slot, source, target):
            pass
        try:  # a key may have been written meanwhile: the source says so
            cluster.settle(slot, target)
            return
        except ResponseError:
            continue
    raise TimeoutError("the slot was not moved")
