"""A worker that asks for a response that can be fetched by its id, and is killed at a named point.

python tests/openai/dying_recovered.py STORE PROVIDER KIND POINT RUN
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from typing import Any

import httpx2
from asking import MODEL, PRICES
from openai import AsyncOpenAI, OpenAI

import agentcheckpoint as ac
from agentcheckpoint.attempt import after_commit
from agentcheckpoint.store import async_wire, wire


def die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


async def die_async(*_: object) -> None:
    die()


def work(store: str, provider: str, kind: str, point: str, run_id: str) -> list[Any]:
    """The job; the answer as the caller sees it. At ``point`` the process dies.

    Points: ``answer`` (its head has come, nothing of it is read), ``event N`` (the caller has it), ``poll`` (before the
    first look), ``before KIND`` and ``after KIND`` (of the commit with such a log entry).
    """
    colour, _, how = kind.partition(" ")
    if colour == "async":
        return asyncio.run(_work_async(store, provider, how, point, run_id))
    hooks = {"response": [die] if point == "answer" else []}
    bare = OpenAI(base_url=provider, api_key="k", http_client=httpx2.Client(event_hooks=hooks))
    with ac.wrap(bare, prices=PRICES, recover=True) as client, ac.run(run_id, store=store):
        if how == "streamed":
            got = []
            for n, event in enumerate(client.responses.create(model=MODEL, input="x", stream=True)):
                got.append(event.model_dump())
                if point == f"event {n}":
                    die()
            return got
        reply = client.responses.create(model=MODEL, input="x", **_options(how))
        while reply.status in ("queued", "in_progress"):
            if point == "poll":
                die()
            time.sleep(0.02)
            reply = client.responses.retrieve(reply.id)
        return [reply.model_dump()]


async def _work_async(store: str, provider: str, how: str, point: str, run_id: str) -> list[Any]:
    hooks = {"response": [die_async] if point == "answer" else []}
    bare = AsyncOpenAI(base_url=provider, api_key="k", http_client=httpx2.AsyncClient(event_hooks=hooks))
    async with ac.wrap(bare, prices=PRICES, recover=True) as client, ac.run(run_id, store=store):
        if how == "streamed":
            got = []
            async for event in await client.responses.create(model=MODEL, input="x", stream=True):
                got.append(event.model_dump())
                if point == f"event {len(got) - 1}":
                    die()
            return got
        reply = await client.responses.create(model=MODEL, input="x", **_options(how))
        while reply.status in ("queued", "in_progress"):
            if point == "poll":
                die()
            await asyncio.sleep(0.02)
            reply = await client.responses.retrieve(reply.id)
        return [reply.model_dump()]


def _options(how: str) -> dict[str, Any]:
    return {"background": True} if how == "background" else {}


def watch(point: str) -> None:
    """Dies before the packet with such a log entry leaves, or once it was applied."""
    when, _, kind = point.partition(" ")
    mark = f'"k":"{kind}"'
    exchange, send = wire.Wire.exchange, async_wire.AsyncWire.send

    def watched(self: wire.Wire, commands: Any) -> Any:
        if when == "before" and mark in str(commands):
            die()
        return exchange(self, commands)

    def watched_async(self: async_wire.AsyncWire, parcels: Any) -> None:
        if when == "before" and any(mark.encode() in parcel.packet for parcel in parcels):
            die()
        send(self, parcels)

    def applied(_: object, change: Any) -> None:
        if when == "after" and change.entry.k == kind:
            die()

    wire.Wire.exchange, async_wire.AsyncWire.send = watched, watched_async  # type: ignore[method-assign]
    after_commit.append(applied)


if __name__ == "__main__":
    watch(sys.argv[4])
    work(*sys.argv[1:])
