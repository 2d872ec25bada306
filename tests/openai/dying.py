"""A worker that makes model calls and is killed at a named point.

python tests/openai/dying.py STORE PROVIDER KIND POINT RUN
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import Any

import httpx2
from asking import MODEL, PRICES, chat, chat_async, is_last_word
from openai import AsyncOpenAI, OpenAI

import agentcheckpoint as ac
from agentcheckpoint.attempt import after_commit

USAGE: Any = {"include_usage": True}


def die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


async def die_async(*_: object) -> None:
    die()


def work(store: str, provider: str, kind: str, point: str, run_id: str) -> list[Any]:
    """The job; what it has learned. At ``point`` the process dies."""

    def watch(_: object, change: Any) -> None:
        if change.entry.k == point:
            die()

    after_commit.append(watch)
    try:
        if kind.startswith("async"):
            return asyncio.run(_work_async(store, provider, kind, point, run_id))
        hooks = {"response": [die] if point == "answer" else []}
        bare = OpenAI(base_url=provider, api_key="k", http_client=httpx2.Client(event_hooks=hooks))
        with ac.wrap(bare, prices=PRICES) as client, ac.run(run_id, store=store):
            return _work(client, kind, point)
    finally:
        after_commit.remove(watch)


def _work(client: OpenAI, kind: str, point: str) -> list[Any]:
    if kind == "reject":
        answer = chat(client)
        if point == "rejected":
            ac.reject(answer, "no good")
        return [answer.id]
    if kind == "stream":
        got = []
        for event in chat(client, stream=True, stream_options=USAGE):
            got.append(event.id)
            if point == "last word" and is_last_word(event):
                die()
        return got
    return [chat(client).id]


async def _work_async(store: str, provider: str, kind: str, point: str, run_id: str) -> list[Any]:
    hooks = {"response": [die_async] if point == "answer" else []}
    bare = AsyncOpenAI(base_url=provider, api_key="k", http_client=httpx2.AsyncClient(event_hooks=hooks))
    async with ac.wrap(bare, prices=PRICES) as client, ac.run(run_id, store=store):
        if kind == "async stream":
            stream = await client.responses.create(model=MODEL, input="x", stream=True)
            return [event.type async for event in stream]
        answers = await asyncio.gather(*(chat_async(client, f"number {n}") for n in range(4)))
        return [answer.id for answer in answers]


if __name__ == "__main__":
    work(*sys.argv[1:])
