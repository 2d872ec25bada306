"""Agents that are killed by SIGKILL at random moments and started again until they are done.

    python tests/killed_agents.py DIRECTORY URL SEED KILLS

runs agents, by turns blocking and async, until so many lives were ended by a kill: each is killed until it is done.
Some are killed right between a payment and its commit.
What it pays, sees and returns it writes to ``DIRECTORY/<run>``, a line each, and fsyncs it. The number of kills that
hit is printed at the end.
"""

from __future__ import annotations

import asyncio
import functools
import json
import os
import random
import signal
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import agentcheckpoint as ac
from agentcheckpoint import aio, runs  # noqa: F401 (here, so that the children need not)
from agentcheckpoint.core import pricing  # noqa: F401

TURNS, TOOLS = 5, 4
MOMENTS = ("open", "paid", "open", "start")
"""From when the seconds of each life in turn count."""
MODEL = ac.Step("think", prices={"m": ac.Price(input="1", output="1")})


class Diary:
    """An append-only file that survives its writer."""

    def __init__(self, path: Path, starting_gun: int, moment: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._starting_gun, self._moment = starting_gun, moment

    def passed(self, moment: str) -> None:
        """If it is the moment from which its killer counts, he may start his clock."""
        if moment == self._moment:
            os.write(self._starting_gun, b"!")

    def write(self, what: str, slot: str, value: object) -> None:
        os.write(self._file, (json.dumps([what, slot, value]) + "\n").encode())
        os.fsync(self._file)

    def pay(self, slot: str) -> dict[str, Any]:
        """Work that costs something, and cannot be undone."""
        time.sleep(random.uniform(0, 0.002))
        receipt = os.urandom(8).hex()
        self.write("paid", slot, receipt)
        self.passed("paid")
        if self._moment == "paid":
            time.sleep(600)  # it is killed here
        time.sleep(random.uniform(0, 0.002))
        return {"receipt": receipt, "model": "m", "usage": {"input_tokens": 1000, "output_tokens": 0}}

    def see(self, slot: str, answer: dict[str, Any]) -> str:
        self.write("seen", slot, answer["receipt"])
        return str(answer["receipt"])


def think_slot(turn: int) -> str:
    return "think" + (f"#{turn + 1}" if turn else "")


def tool_step(turn: int, n: int) -> ac.Step:
    """Half of the parallel tools have keys."""
    return ac.Step("fetch", key=f"{turn}.{n}") if n % 2 else ac.Step(f"look{turn}")


def tool_slot(turn: int, n: int) -> str:
    return f"fetch[{turn}.{n}]" if n % 2 else f"look{turn}" + (f"#{n // 2 + 1}" if n > 1 else "")


def blocking(run_id: str, url: str, diary: Diary) -> list[str]:
    """Each turn: a paid call, parallel tools, and a step with a paid one in it."""
    seen: list[str] = []

    def deep(turn: int) -> list[str]:
        return [diary.see(f"deep{turn}/think", run.llm(MODEL, lambda: diary.pay(f"deep{turn}/think")))]

    def use(turn: int, n: int) -> dict[str, Any]:
        return diary.pay(tool_slot(turn, n))

    with ac.run(run_id, store=url) as run, ThreadPoolExecutor(TOOLS) as pool:
        diary.passed("open")
        for turn in range(TURNS):
            answer = run.llm(MODEL, lambda turn: diary.pay(think_slot(turn)), turn)
            seen.append(diary.see(think_slot(turn), answer))
            calls = [functools.partial(run.step, tool_step(turn, n), use, turn, n) for n in range(TOOLS)]
            for n, found in enumerate(pool.map(lambda call: call(), calls)):
                seen.append(diary.see(tool_slot(turn, n), found))
            seen += run.step(f"deep{turn}", deep, turn)
        return run.finish(seen)


def unblocking(run_id: str, url: str, diary: Diary) -> list[str]:
    """The same, async."""
    seen: list[str] = []

    async def pay(slot: str) -> dict[str, Any]:
        await asyncio.sleep(random.uniform(0, 0.002))
        return diary.pay(slot)

    async def main() -> None:
        async with ac.run(run_id, store=url) as run:
            diary.passed("open")

            async def deep(turn: int) -> list[str]:
                return [diary.see(f"deep{turn}/think", await run.llm(MODEL, pay, f"deep{turn}/think"))]

            for turn in range(TURNS):
                seen.append(diary.see(think_slot(turn), await run.llm(MODEL, pay, think_slot(turn))))
                calls = [run.step(tool_step(turn, n), pay, tool_slot(turn, n)) for n in range(TOOLS)]
                for n, found in enumerate(await asyncio.gather(*calls)):
                    seen.append(diary.see(tool_slot(turn, n), found))
                seen.extend(await run.step(f"deep{turn}", deep, turn))
            run.finish(seen)

    asyncio.run(main())
    return seen


def live(run: int, url: str, diary: Diary) -> None:
    """One life of an agent, in a process of its own."""
    warnings.simplefilter("ignore")
    seen = (unblocking if run % 2 else blocking)(f"r{run}", url, diary)
    diary.write("done", "", seen)


def is_killed(run: int, url: str, directory: Path, after: float, moment: str) -> bool:
    """Gives an agent one more life, and ends it after so many seconds if it is not done by then.

    The seconds count from a moment: ``open``, its run is open; ``paid``, it has paid, and goes no further; or else
    its start.
    """
    hears, fires = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            live(run, url, Diary(directory / f"r{run}", fires, moment))
        finally:
            os._exit(1 if sys.exc_info()[0] is not None else 0)
    os.close(fires)
    if moment in ("open", "paid"):
        os.read(hears, 1)
    os.close(hears)
    time.sleep(after)
    os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    assert status in (0, signal.SIGKILL), f"a life of agent {run} failed"
    return status != 0


def main(directory: Path, url: str, seed: int, kills: int) -> int:
    moments, hits, run = random.Random(seed), 0, 0
    while hits < kills:
        life = 0
        while is_killed(run, url, directory, moments.uniform(0, 0.15) * 2 ** (life // 12), MOMENTS[life % 4]):
            hits, life = hits + 1, life + 1
        run += 1
    return hits


if __name__ == "__main__":
    print(main(Path(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:])))
