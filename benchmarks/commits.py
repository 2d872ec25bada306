"""One step's commit: as the user calls it, and the store's part of it, against the same bytes sent bare."""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import redis
import redis.asyncio

import agentcheckpoint as ac
from agentcheckpoint.core.models import Done, Inputs, Payload
from agentcheckpoint.store.commit import Change, commit

from .core import Goal, Row, Scale, compare, median_time, median_time_async
from .packets import of_one_commit, watched
from .servers import server

RESULT = "x" * 200
TIMES = 400
NOTHING = b"$-1\r\n" * 2
"""How the replies to a commit end where no run is: nobody has cancelled it, and there is no head."""


def make() -> str:
    """A result of 200 bytes."""
    return RESULT


async def make_async() -> str:
    """The same, awaited."""
    return RESULT


def step_against_a_pipeline(scale: Scale) -> Row:
    """``run.step`` against one unfenced pipeline of redis-py that writes the same bytes."""
    with server("no") as url, ac.run("bench", store=url) as run, redis.Redis.from_url(url) as client:
        commands = of_one_commit(run, make)[1]
        times = scale.size(TIMES, 100)
        name = "commit: run.step / redis-py pipeline, sync"
        return _row(name, lambda: run.step("s", make), lambda: _filled(client, commands).execute(), times, 1.0, scale)


def store_against_a_pipeline(scale: Scale) -> Row:
    """The store's part: a finished record in, an acknowledged commit out."""
    with server("no") as url, ac.run("bench", store=url) as run, redis.Redis.from_url(url) as client:
        commands, times = of_one_commit(run, make)[1], scale.size(TIMES, 100)
        attempt, payload = run._attempt, b'"%b"' % RESULT.encode()
        assert attempt.store is not None
        store, inputs, size = attempt.store, Inputs(digest="d" * 32), Payload(size=len(payload))

        def ours() -> None:
            done = Done(
                id=secrets.token_hex(8), at=1, slot="s", inputs=inputs, payload=size, function="benchmarks.make"
            )
            store.run(commit(attempt.fence, Change(done, payload), lambda epoch: f"{epoch}.x", step="s"))

        return _row(
            "commit: the store's part / redis-py pipeline, sync",
            ours,
            lambda: _filled(client, commands).execute(),
            times,
            0.7,
            scale,
        )


def synced_step_against_a_socket(scale: Scale) -> Row:
    """``run.step`` with fsync always against a bare socket that sends the same packet and reads the replies."""
    with server("always") as url, ac.run("bench", store=url) as run:
        packet, _ = of_one_commit(run, make)
        times = scale.size(TIMES, 60)
        with socket.create_connection((urlsplit(url).hostname, urlsplit(url).port)) as line:
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

            def bare() -> None:
                line.sendall(packet)
                told = b""
                while not told.endswith(NOTHING):
                    told += line.recv(65536)

            name = "commit with fsync always: run.step / bare socket, sync"
            return _row(name, lambda: run.step("s", make), bare, times, 1.3, scale)


def async_step_against_a_pipeline(scale: Scale) -> Row:
    """``await run.step`` against redis-py's async pipeline."""
    with server("no") as url:
        with ac.run("sample", store=url) as run:
            commands = of_one_commit(run, make)[1]
        with asyncio.Runner() as loop:
            return loop.run(_async_rows(url, commands, scale))


async def _async_rows(url: str, commands: list[tuple[Any, ...]], scale: Scale) -> Row:
    client, times = redis.asyncio.Redis.from_url(url), scale.size(TIMES, 100)
    ours: list[float] = []
    theirs: list[float] = []

    async def bare() -> None:
        await _filled(client, commands).execute()

    async with ac.run("bench", store=url) as run:
        for _ in range(scale.rounds + 1):
            ours.append(await median_time_async(lambda: run.step("s", make_async), times))
            theirs.append(await median_time_async(bare, times))
    await client.aclose()
    mine, other = iter(ours), iter(theirs)
    goal = Goal("at most", 0.7)
    return compare(
        "commit: await run.step / redis-py pipeline, async", lambda: next(mine), lambda: next(other), goal, scale.rounds
    )


def round_trips(scale: Scale) -> Row:
    """The packets of one plain commit."""
    with server("no") as url, ac.run("bench", store=url) as run:
        run.step("s", make)
        with watched() as seen:
            run.step("s", make)
        return Row("round trips of a plain commit", len(seen), Goal("exactly", 1), (len(seen), len(seen)), "")


def _row(
    name: str, ours: Callable[[], object], bare: Callable[[], object], times: int, most: float, scale: Scale
) -> Row:
    """What is blocking, done so many times in each round: the median times compared."""
    return compare(
        name,
        lambda: median_time(ours, times),
        lambda: median_time(bare, times),
        Goal("at most", most),
        scale.rounds,
    )


def _filled(client: Any, commands: list[tuple[Any, ...]]) -> Any:
    """A pipeline, of either colour, with these commands."""
    pipeline = client.pipeline(transaction=True)
    for command in commands:
        pipeline.execute_command(*command)
    return pipeline


ROWS = (
    step_against_a_pipeline,
    store_against_a_pipeline,
    synced_step_against_a_socket,
    async_step_against_a_pipeline,
    round_trips,
)
