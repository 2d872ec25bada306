"""An agent that sends one mail, and notes in a file each time that it really does. It is killed where it is told.

    python tests/once_agents.py URL RUN FILE COLOUR CHOICE POINT

COLOUR is sync or async; CHOICE is ask, rerun, skip, happened or not (what ``verify=`` finds), or careless (no
``effect=``); POINT says where it dies: called, sent, or nowhere. It prints what came of the run.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

import agentcheckpoint as ac


class Outbox:
    """The journal of the effect itself: a line for each mail that left, synced to disk."""

    def __init__(self, path: str, point: str) -> None:
        self.path, self.point = Path(path), point

    def send(self, to: str) -> str | None:
        self.die_at("called")
        with self.path.open("a") as file:
            file.write(f"{to} {ac.idempotency_key()}\n")
            file.flush()
            os.fsync(file.fileno())
        self.die_at("sent")
        return f"sent to {to}"

    async def send_async(self, to: str) -> str | None:
        await asyncio.sleep(0)
        return self.send(to)

    def die_at(self, point: str) -> None:
        if self.point == point:
            os.kill(os.getpid(), signal.SIGKILL)

    def look(self, to: str) -> ac.Happened[str] | None:
        """What the other side says of it."""
        said = self.path.read_text() if self.path.exists() else ""
        return ac.Happened(f"found {to}") if f"{to} {ac.idempotency_key()}\n" in said else None

    async def look_async(self, to: str) -> ac.Happened[str] | None:
        await asyncio.sleep(0)
        return self.look(to)


def step_of(choice: str, outbox: Outbox, is_async: bool) -> ac.Step:
    if choice == "careless":
        return ac.Step("mail")
    if choice == "verify":
        return ac.Step("mail", effect="once", verify=outbox.look_async if is_async else outbox.look)
    options: Any = {} if choice == "ask" else {"in_doubt": choice}
    return ac.Step("mail", effect="once", **options)


def blocking(url: str, run_id: str, step: ac.Step, outbox: Outbox) -> str | None:
    with ac.run(run_id, store=url) as run:
        return run.step(step, outbox.send, "ada")


async def unblocking(url: str, run_id: str, step: ac.Step, outbox: Outbox) -> str | None:
    async with ac.run(run_id, store=url) as run:
        return await run.step(step, outbox.send_async, "ada")


def main(url: str, run_id: str, path: str, colour: str, choice: str, point: str) -> None:
    outbox = Outbox(path, point)
    step = step_of(choice, outbox, colour == "async")
    try:
        if colour == "async":
            print(asyncio.run(unblocking(url, run_id, step, outbox)))
        else:
            print(blocking(url, run_id, step, outbox))
    except ac.StepInDoubt as error:
        print("in doubt", error.idempotency_key)


if __name__ == "__main__":
    main(*sys.argv[1:])
