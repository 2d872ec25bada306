"""Many commits at once: steps of one run, and runs of one process, with each commit synced to disk."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import redis.asyncio

import agentcheckpoint as ac

from .commits import make, make_async
from .core import Goal, Row, Scale, compare, whole_time
from .packets import of_one_commit
from .servers import server

WIDTH = 500
RUNS = 50


def parallel_steps(scale: Scale) -> Row:
    """Steps of one run in a ``gather``, against the same one after the other: steps per second."""
    one_by_one = scale.size(200, 60)
    with server("always") as url, asyncio.Runner() as loop:
        opener = ac.run("bench", store=url)
        run: Any = loop.run(opener.__aenter__())

        async def together() -> None:
            await asyncio.gather(*(run.step("s", make_async) for _ in range(WIDTH)))

        async def alone() -> None:
            for _ in range(one_by_one):
                await run.step("s", make_async)

        row = compare(
            f"{WIDTH} parallel steps of one run / one after the other, fsync always, steps per second",
            lambda: whole_time(lambda: loop.run(together())) / WIDTH,
            lambda: whole_time(lambda: loop.run(alone())) / one_by_one,
            Goal("at least", 8),
            scale.rounds,
            faster=True,
        )
        loop.run(opener.__aexit__(None, None, None))
        return row


def concurrent_runs(scale: Scale) -> Row:
    """Runs on one loop, against as many tasks that each send bare pipelines over redis-py's asyncio pool."""
    steps = scale.size(40, 8)
    numbers = itertools.count()
    with server("always") as url, asyncio.Runner() as loop:
        with ac.run("sample", store=url) as sample:
            commands = of_one_commit(sample, make)[1]
        opened = [ac.run(f"bench-{next(numbers)}", store=url) for _ in range(RUNS)]
        runs: list[Any] = [loop.run(opener.__aenter__()) for opener in opened]

        async def one(run: Any) -> None:
            for _ in range(steps):
                await run.step("s", make_async)

        async def ours() -> None:
            await asyncio.gather(*map(one, runs))

        row = compare(
            f"{RUNS} concurrent runs / redis-py's asyncio pool, fsync always, steps per second",
            lambda: whole_time(lambda: loop.run(ours())),
            lambda: whole_time(lambda: loop.run(_pool(url, commands, steps))),
            Goal("at least", 4),
            scale.rounds,
            faster=True,
        )
        for opener in opened:
            loop.run(opener.__aexit__(None, None, None))
        return row


async def _pool(url: str, commands: list[tuple[Any, ...]], steps: int) -> None:
    client = redis.asyncio.Redis.from_url(url)

    async def one() -> None:
        for _ in range(steps):
            pipeline = client.pipeline(transaction=True)
            for command in commands:
                pipeline.execute_command(*command)
            await pipeline.execute()

    await asyncio.gather(*(one() for _ in range(RUNS)))
    await client.aclose()


ROWS = (parallel_steps, concurrent_runs)
