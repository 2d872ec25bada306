"""Coming back to a run: replay of a recorded step, and the time until the first step that is new."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import redis
from pydantic_core import from_json

import agentcheckpoint as ac
from agentcheckpoint.core.codec import result_type
from agentcheckpoint.core.fingerprint import function_inputs
from agentcheckpoint.results import FRAME, WINDOW
from agentcheckpoint.view import address_of

from .core import Goal, Measure, Row, Scale, compare, fastest, median_time, median_time_async, whole_time
from .packets import watched
from .servers import server

STEPS = 2_000
LONG = 20_000


def look_up(question: str) -> str:
    """A result of 200 bytes."""
    return question.ljust(200, ".")


async def look_up_async(question: str) -> str:
    """The same, awaited."""
    return question.ljust(200, ".")


def replay(scale: Scale) -> Row:
    """A recorded step, called again, against taking the fingerprint of its input and decoding its result."""
    steps = scale.size(STEPS, 500)
    with server("no") as url:
        fill(url, "r", steps)
        opener = ac.run("r", store=url)
        run = opener.__enter__()
        run.step("look up", look_up, "question")  # the window of results is here

        def ours() -> float:
            return median_time(lambda: run.step("look up", look_up, "question"), steps // 12)

        goal = Goal("at most", 2)
        row = compare("replay in memory / fingerprint and decode, sync", ours, _bare, goal, scale.rounds)
        opener.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
        return row


def replay_async(scale: Scale) -> Row:
    """The same, awaited."""
    steps = scale.size(STEPS, 500)
    with server("no") as url, asyncio.Runner() as loop:
        fill(url, "r", steps)
        opener = ac.run("r", store=url)
        run = loop.run(opener.__aenter__())
        loop.run(median_time_async(lambda: run.step("look up", look_up_async, "question"), 1))

        def ours() -> float:
            again = median_time_async(lambda: run.step("look up", look_up_async, "question"), steps // 12)
            return loop.run(again)

        goal = Goal("at most", 3)
        row = compare("replay in memory / fingerprint and decode, async", ours, _bare, goal, scale.rounds)
        loop.run(opener.__aexit__(KeyboardInterrupt, KeyboardInterrupt(), None))
        return row


def _bare() -> float:
    kind, data = result_type(str), b'"%b"' % b"question".ljust(200, b".")

    def work() -> None:
        function_inputs(look_up, ("question",), {})
        kind.decode(data)

    return median_time(work, 400)


def resume_to_the_new_step(scale: Scale) -> Row:
    """Opening a run and replaying all of its steps, until the first new one is called, against one bare read."""
    steps = scale.size(STEPS, 1_000)
    with server("no") as url:
        fill(url, "r", steps)
        name = f"resume of {steps:,} steps to the new one / read and decode the same bytes"
        return compare(name, resume(url, "r", steps), read(url, "r"), Goal("at most", 2), scale.rounds)


def opening(scale: Scale) -> Row:
    """Opening it alone: the part of a resume before the agent's first call."""
    steps = scale.size(STEPS, 1_000)
    with server("no") as url:
        fill(url, "r", steps)
        name = f"opening of a run of {steps:,} steps / read and decode the same bytes"
        return compare(name, resume(url, "r", 0), read(url, "r"), Goal("at most", 2), scale.rounds)


def long_resume(scale: Scale) -> Row:
    """A run ten times as long."""
    short, long = scale.size(STEPS, 300), scale.size(LONG, 3_000)
    with server("no") as url:
        fill(url, "short", short)
        fill(url, "long", long)
        return compare(
            f"resume of {long:,} steps / of {short:,}",
            resume(url, "long", long),
            resume(url, "short", short),
            Goal("at most", 12),
            max(3, scale.rounds // 2),
        )


def round_trips(scale: Scale) -> Row:
    """The packets of a resume, less one for each MB of results."""
    steps = scale.size(10_000, 2_000)
    with server("no") as url:
        fill(url, "r", steps)
        with watched() as seen, ac.run("r", store=url) as run:
            _call_all(run, steps)
            packets = len(seen)
        size = ac.get("r", store=url).size.results + FRAME * steps
    beyond = packets - math.ceil(size / WINDOW)
    name = f"round trips of a resume of {steps:,} steps, less one for each MB of results"
    return Row(name, beyond, Goal("at most", 4), (beyond, beyond), "")


def resume(url: str, run_id: str, steps: int) -> Measure:
    """Seconds until the agent comes to what is not recorded. It leaves the run as it was, but for one attempt."""

    def once() -> float:
        opener = ac.run(run_id, store=url)
        taken = whole_time(lambda: _call_all(opener.__enter__(), steps))
        opener.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
        return taken

    return fastest(once)


def _call_all(run: Any, steps: int) -> None:
    for _ in range(steps):
        run.step("look up", look_up, "question")


def read(url: str, run_id: str) -> Measure:
    """The whole log and all results, read by redis-py and decoded as JSON: no check, no types."""
    keys, client = address_of(run_id, "default").keys, redis.Redis.from_url(url)

    def work() -> None:
        head = client.get(keys.head).decode()  # type: ignore[union-attr]
        lines: Any = client.lrange(keys.log(head), 0, -1)
        results: Any = client.hgetall(keys.results(head))
        for line in lines:
            from_json(line)
        for entry_id, result in results.items():
            if entry_id != b"@":
                from_json(result)

    return fastest(lambda: whole_time(work))


def fill(url: str, run_id: str, steps: int) -> None:
    """Records a run of so many steps."""

    async def record() -> None:
        async with ac.run(run_id, store=url) as run:
            for begun in range(0, steps, 500):
                count = min(500, steps - begun)
                await asyncio.gather(*(run.step("look up", look_up_async, "question") for _ in range(count)))

    asyncio.run(record())


ROWS = (replay, replay_async, opening, resume_to_the_new_step, long_resume, round_trips)
