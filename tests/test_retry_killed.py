"""A process is killed by SIGKILL while its step waits for the next try: the next process waits the rest."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from memory_runs import logged
from tenacity import RetryCallState, Retrying, stop_after_attempt, wait_fixed

import agentcheckpoint as ac
from agentcheckpoint.core.models import Failed
from agentcheckpoint.store.embedded import ensure_server, stop_server

SCRIPT = Path(__file__).with_name("backing_off.py")
WAIT, GONE = 3.0, 2.0
"""Seconds: of the back-off, and of them without a process."""


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    yield ensure_server(tmp_path).url
    stop_server(tmp_path)


def killed_while_waiting(url: str, colours: tuple[str, ...]) -> None:
    with ExitStack() as stack:
        workers = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, str(SCRIPT), url, colour, colour, str(WAIT)], stdout=subprocess.PIPE, text=True
                )
            )
            for colour in colours
        ]
        for worker in workers:
            assert worker.stdout is not None and worker.stdout.readline() == "waiting\n"
        for worker in workers:
            worker.kill()


async def heir(url: str, run_id: str) -> tuple[list[int], float, float]:
    """Goes on with the run: the numbers of its tries, and when it was opened and its function called."""
    numbers: list[int] = []

    def before(state: RetryCallState) -> None:
        numbers.append(state.attempt_number)

    policy = Retrying(stop=stop_after_attempt(3), wait=wait_fixed(WAIT), before=before)
    async with ac.run(run_id, store=url) as run:
        opened = time.time()
        called = await run.step(ac.Step("s", retry=policy), time.time)
    return numbers, opened, called


def test_an_heir_waits_the_rest_of_a_back_off_and_goes_on_with_the_number(url: str) -> None:
    colours = ("blocking", "async")
    killed_while_waiting(url, colours)
    [[blocking], [unblocking]] = [logged(url, colour, Failed) for colour in colours]
    assert blocking.next_at is not None and blocking.next_at - blocking.at == WAIT * 1000
    time.sleep(GONE)

    async def heirs() -> list[tuple[list[int], float, float]]:
        return await asyncio.gather(*(heir(url, colour) for colour in colours))

    for (numbers, opened, called), failed in zip(asyncio.run(heirs()), (blocking, unblocking), strict=True):
        assert numbers == [2]
        due = (failed.next_at or 0) / 1000
        assert called >= due - 0.05, "not before the try is due"
        # a back-off that begins anew ends WAIT after the opening, and that is GONE too late
        assert called < max(due, opened) + GONE - 0.5
