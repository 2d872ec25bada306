"""What an agent does item by item: with a value cursor, in loops of both kinds; and with keys of its own."""

from __future__ import annotations

import os
from functools import partial
from typing import Any

import agentcheckpoint as ac

from .diary import Diary

ITEMS = 5
EVERY = 2
"""After so many items a loop stores where it is."""
PAID_ITEM = 2
"""The item of an ordered loop whose body calls a step that pays."""


class Walks:
    """Those ops of which a part can be done when their agent dies."""

    _face: Any
    _run: Any
    _diary: Diary

    async def _cursor(self, label: str) -> Any:
        return await self._face.nest(ac.Step("walk", key=label, returns=int), partial(self._walk, f"walk[{label}]"))

    async def _walk(self, slot: str) -> int:
        cursor = self._face.position()
        self._diary.walk(slot, "begins", cursor.value)
        for item in range(cursor.value, ITEMS):
            self._work(slot, item)
            await self._face.of(cursor.set(item + 1))
            self._diary.walk(slot, "kept", item)
        return ITEMS

    async def _loop(self, label: str) -> Any:
        for name in ("ordered", "unordered"):
            slot = f"{name}[{label}]"
            turn = self._diary.turns(slot) if name == "unordered" else 0
            items = [(item + turn) % ITEMS for item in range(ITEMS)]
            self._diary.walk(slot, "begins", turn)
            done = list[int]()
            step, ordered = ac.Step(name, key=label), name == "ordered"
            loop = self._run.cursor(step, items, key=str, ordered=ordered, every=EVERY)
            await self._face.each(loop, partial(self._item, slot, label, done))
            self._kept(slot, done[len(done) // EVERY * EVERY :] or done[-EVERY:])
        return ITEMS

    async def _item(self, slot: str, label: str, done: list[int], item: int) -> None:
        """The body. That it was entered says that those before it are stored, if there are enough of them."""
        if len(done) % EVERY == 0:
            self._kept(slot, done[-EVERY:])
        self._work(slot, item)
        if slot.startswith("ordered") and item == PAID_ITEM:
            await self._face.of(self._run.step("look", self._diary.pay, f"{label}/item"))
        done.append(item)

    def _work(self, slot: str, item: int) -> None:
        self._diary.point()
        self._diary.walk(slot, "did", item)

    def _kept(self, slot: str, items: list[int]) -> None:
        for item in items:
            self._diary.walk(slot, "kept", item)

    async def _transact(self, label: str) -> Any:
        step = ac.Step("count", key=label, returns=dict[str, Any])
        return await self._face.transact(step, partial(self._count, label))

    async def _count(self, label: str, tx: Any) -> dict[str, Any]:
        """What it reads it does not change: so it is the head alone that can refuse what comes too late."""
        await self._face.of(tx.read("EXISTS", tx.key(f"stop[{label}]")))
        receipt = os.urandom(6).hex()
        self._diary.point()
        tx.queue("INCR", tx.key(f"number[{label}]"))
        tx.queue("RPUSH", tx.key(f"receipts[{label}]"), receipt)
        return {"label": label, "receipt": receipt}
