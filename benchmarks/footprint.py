"""What a run takes: bytes in the store, memory in the process; and what it takes to look at runs."""

from __future__ import annotations

import asyncio
import secrets
import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache
from typing import Any

import redis
from openai import OpenAI

import agentcheckpoint as ac
from agentcheckpoint.store.glimpse import look_at
from agentcheckpoint.store.index import listed_since
from agentcheckpoint.store.keys import index_key
from agentcheckpoint.testing.brain import Answer
from agentcheckpoint.testing.provider import Provider
from agentcheckpoint.view import address_of

from .core import Goal, Row, Scale, compare, median_time, row_of
from .prose import pieces
from .servers import server

SAID = 1024
"""Characters of a message: a turn has two."""
PAGE = 20


def storage(scale: Scale) -> Row:
    """A conversation of 400 turns, each request with the whole history: stored bytes against what was new."""
    turns = scale.size(400, 60)
    stored, new = _conversation(turns)
    share = stored / new
    return Row(
        f"bytes stored of a conversation of {turns} turns / bytes said", share, Goal("at most", 1.2), (share, share)
    )


def storage_growth(scale: Scale) -> Row:
    """Twice as many turns: linear is twice as many bytes."""
    turns = scale.size(200, 30)
    growth = _conversation(2 * turns)[0] / _conversation(turns)[0]
    name = f"bytes stored of a conversation of {2 * turns} turns / of {turns}"
    return Row(name, growth, Goal("at most", 2.05), (growth, growth))


@cache
def _conversation(turns: int) -> tuple[int, int]:
    """Bytes stored, and bytes said."""
    said, text = 0, pieces(SAID)
    with Provider(lambda request: Answer(text=next(text))) as provider, server("no") as url:
        client = ac.wrap(OpenAI(base_url=provider.url, api_key="bench"))
        with client, ac.run("talk", store=url):
            messages: list[Any] = []
            for _ in range(turns):
                messages.append({"role": "user", "content": next(text)})
                reply = client.chat.completions.create(model="demo-large", messages=messages).choices[0].message
                messages.append(reply.to_dict())
                said += SAID + len(reply.content or "")
        return ac.get("talk", store=url).size.total, said


def memory(scale: Scale) -> Row:
    """A process that resumes and replays a run of steps of 2 KB: what it takes beyond its imports."""
    steps = scale.size(20_000, 2_000)
    with server("no") as url:
        asyncio.run(_record(url, steps))
        grown = [_grown(url, steps) for _ in range(1 if scale.quick else scale.rounds)]
    return row_of(f"memory of a resumed run of {steps:,} steps of 2 KB, MB", grown, Goal("at most", 60), "MB")


async def _record(url: str, steps: int) -> None:
    async with ac.run("big", store=url) as run:
        for begun in range(0, steps, 500):
            await asyncio.gather(*(run.step("s", _two_kb) for _ in range(min(500, steps - begun))))


async def _two_kb() -> str:
    return secrets.token_hex(2048)  # half of it, packed


_REPLAY = """
import re, sys
import agentcheckpoint as ac
def make() -> str: raise AssertionError("it is recorded")
def peak(): return int(re.search(r"VmHWM:\\s*(\\d+) kB", open("/proc/self/status").read())[1]) / 1000
with ac.run("warm", store=sys.argv[1]) as run: run.step("s", str)
before = peak()
with ac.run("big", store=sys.argv[1]) as run:
    for _ in range(int(sys.argv[2])): run.step("s", make)
print(peak() - before)
"""


def _grown(url: str, steps: int) -> float:
    command = [sys.executable, "-W", "ignore", "-c", _REPLAY, url, str(steps)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout)


def listing(scale: Scale) -> Row:
    """A page of many runs, with the state of each, against the same of few."""
    many = scale.size(100_000, 20_000)
    with server("no") as url:
        for namespace in ("few", "many"):
            for n in range(PAGE):
                with ac.run(f"run-{n}", store=url, namespace=namespace):
                    pass
        _list_others(url, "many", many)
        name = f"a page of {PAGE} of {many:,} runs / of {PAGE}"
        return compare(name, _page(url, "many"), _page(url, "few"), Goal("at most", 1.5), scale.rounds)


def page_time(scale: Scale) -> Row:
    """The same in milliseconds."""
    many = scale.size(100_000, 20_000)
    with server("no") as url:
        for n in range(PAGE):
            with ac.run(f"run-{n}", store=url, namespace="many"):
                pass
        _list_others(url, "many", many)
        page = _page(url, "many")
        taken = [1000 * page() for _ in range(scale.rounds)]
    return row_of(f"a page of {PAGE} of {many:,} runs, ms", taken, Goal("at most", 50), "ms")


def _page(url: str, namespace: str) -> Callable[[], float]:
    store = ac.connect(url)

    def page() -> None:
        lines = store.run(listed_since(namespace, 10**12, PAGE))
        assert len(store.run(look_at([address_of(line.run_id, namespace) for line in lines]))[1]) == PAGE

    return lambda: median_time(page, 20)


def _list_others(url: str, namespace: str, many: int) -> None:
    """Lines of other runs, that were opened before."""
    with redis.Redis.from_url(url) as client:
        for begun in range(0, many, 1000):
            client.zadd(index_key(namespace), {f"other-{begun + n}": begun + n for n in range(1000)})


def showing(scale: Scale) -> Row:
    """Looking at a long run without its results, milliseconds."""
    steps = scale.size(10_000, 1_000)
    with server("no") as url:
        asyncio.run(_record(url, steps))
        taken: list[float] = []
        for _ in range(scale.rounds):
            began = time.perf_counter()
            ac.get("big", store=url)
            taken.append(1000 * (time.perf_counter() - began))
    return row_of(f"showing a run of {steps:,} steps, ms", taken, Goal("at most", 50), "ms")


ROWS = (storage, storage_growth, memory, listing, page_time, showing)
