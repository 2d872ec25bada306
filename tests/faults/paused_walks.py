"""Workers that are stopped in the middle of loops, and of a transaction with keys of its own."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

import agentcheckpoint as ac

from .paused_workers import Diary, Worker

ITEMS = 3


def loops(me: Worker) -> list[Any]:
    """A step with a cursor of its own, a loop in any order, and a transaction."""
    diary = me.diary

    def walk() -> int:
        cursor = ac.Cursor(int, start=0)
        for item in range(cursor.value, ITEMS):
            diary.write("did", "walk", item)
            cursor.set(item + 1)
            diary.write("kept", "walk", item)
        return cursor.value

    with me.open() as run:
        me.opened()
        seen = [diary.see("walk", run.step("walk", walk))]
        before = None
        for item in run.cursor("unordered", range(ITEMS), key=str, ordered=False):
            before = _next(diary, before, item)
        seen.append(diary.see("count", run.transaction("count", _count)))
        return list(run.finish(seen))


def async_loops(me: Worker) -> list[Any]:
    """The same, async."""
    return asyncio.run(_async_loops(me))


async def _async_loops(me: Worker) -> list[Any]:
    diary = me.diary

    async def walk() -> int:
        cursor = ac.AsyncCursor(int, start=0)
        for item in range(cursor.value, ITEMS):
            diary.write("did", "walk", item)
            await cursor.set(item + 1)
            diary.write("kept", "walk", item)
        return cursor.value

    async with me.open() as run:
        me.opened()
        seen = [diary.see("walk", await run.step("walk", walk))]
        before = None
        async for item in run.cursor("unordered", range(ITEMS), key=str, ordered=False):
            before = _next(diary, before, item)
        seen.append(diary.see("count", await run.transaction("count", _count_async)))
        return list(run.finish(seen))


def _next(diary: Diary, before: int | None, item: int) -> int:
    """The body for an item: that it has come says that the one before it is marked."""
    if before is not None:
        diary.write("kept", "unordered", before)
    diary.write("did", "unordered", item)
    return item


def _count(tx: ac.Transaction) -> str:
    tx.read("EXISTS", tx.key("stop"))
    return _queue(tx)


async def _count_async(tx: ac.AsyncTransaction) -> str:
    await tx.read("EXISTS", tx.key("stop"))
    return _queue(tx)


def _queue(tx: ac.Transaction | ac.AsyncTransaction) -> str:
    receipt = secrets.token_hex(4)
    tx.queue("RPUSH", tx.key("receipts"), receipt)
    return receipt
