"""An agent with a step of every shape, in both colours. What it pays, gets and is told it writes down outside Redis."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import agentcheckpoint as ac
from agentcheckpoint import aio, runs  # noqa: F401 (here, so that the children need not)
from agentcheckpoint.core import pricing  # noqa: F401

PRICE = 1_000_000
"""Nano-dollars of one answer: 1,000 tokens at a dollar a million."""
PARTS = 3
"""Steps that run side by side; the first of them is paid for."""
PAID = ("ask[k]", "part[0]", "draft[k]")
PLAIN = ("plan[k]", *(f"part[{n}]" for n in range(1, PARTS)))


@dataclass(slots=True)
class Account:
    """What one agent's lives wrote down.

    Attributes:
        bought: the receipts of each slot, in their order: a function was called so often.
        seen: what the step returned to its caller, in each life.
        told: by what error a step did not return, and the receipt in the error's ``value``.
        sent: how often a packet with this log entry left.
        struck: the log entries of the packet that met the fault, if it was met.
        warned: the classes of warnings.
        done: lives that came to their end.
        execs: the EXECs that left.
    """

    bought: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    seen: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    told: list[tuple[str, str, str | None]] = field(default_factory=list[tuple[str, str, str | None]])
    sent: dict[str, int] = field(default_factory=dict[str, int])
    struck: list[str] | None = None
    warned: list[str] = field(default_factory=list[str])
    done: int = 0
    execs: int = 0


class Diary:
    """An append-only file that outlives its writer."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, what: str, *words: object) -> None:
        os.write(self._file, (json.dumps([what, *words]) + "\n").encode())

    def close(self) -> None:
        os.close(self._file)

    def account(self) -> Account:
        """What was written down until now."""
        found = Account()
        for what, *words in map(json.loads, self._path.read_text().splitlines()):
            if what in ("bought", "seen"):
                getattr(found, what).setdefault(words[0], []).append(words[1])
            elif what == "told":
                found.told.append((words[0], words[1], words[2]))
            elif what == "sent":
                found.execs += words[0]
                for entry in words[1]:
                    found.sent[entry] = found.sent.get(entry, 0) + 1
            elif what == "struck":
                found.struck = words[0]
            elif what == "warned":
                found.warned.append(words[0])
            else:
                found.done += 1
        return found

    # -- what the agent does ----------------------------------------------------------------------------------------

    def work(self, slot: str) -> dict[str, Any]:
        """Work that cannot be undone; as an answer of a model it is paid for."""
        receipt = secrets.token_hex(8)
        self.write("bought", slot, receipt)
        return {"receipt": receipt, "model": "m", "usage": {"input_tokens": 1000, "output_tokens": 0}}

    async def work_slowly(self, slot: str) -> dict[str, Any]:
        await asyncio.sleep(0)
        return self.work(slot)

    def second(self, answer: dict[str, Any]) -> bool:
        """Refuses the first answer."""
        return bool(self.account().bought["draft[k]"][0] != answer["receipt"])

    @contextmanager
    def telling(self, slot: str) -> Iterator[None]:
        """Writes down what the step was told, if it did not return."""
        try:
            yield
        except ac.AgentCheckpointError as exc:
            value: Any = exc.value
            unsaved = ", not stored" if getattr(exc, "__notes__", []) else ""
            self.write("told", slot, type(exc).__name__ + unsaved, value["receipt"] if value else None)
            raise

    def see(self, slot: str, call: Callable[[], dict[str, Any]]) -> None:
        with self.telling(slot):
            self.write("seen", slot, call()["receipt"])

    async def see_async(self, slot: str, call: Callable[[], Any]) -> None:
        with self.telling(slot):
            self.write("seen", slot, (await call())["receipt"])


def paid_step(name: str, key: str = "k", **options: Any) -> ac.Step:
    """A step whose answer, if it is paid for, costs ``PRICE``."""
    return ac.Step(name, key=key, prices={"m": ac.Price(input="1", output="1")}, **options)


def blocking(run_id: str, url: str, diary: Diary) -> None:
    """A plain step, a paid one, several side by side in threads, and one whose first answer is refused."""
    with ac.run(run_id, store=url) as run, ThreadPoolExecutor(PARTS) as pool:

        def part(n: int) -> None:
            call = run.step if n else run.llm
            diary.see(f"part[{n}]", lambda: call(paid_step("part", str(n)), diary.work, f"part[{n}]"))

        def draft() -> dict[str, Any]:
            return run.llm(paid_step("draft", accept=diary.second), diary.work, "draft[k]")

        diary.see("plan[k]", lambda: run.step(paid_step("plan"), diary.work, "plan[k]"))
        diary.see("ask[k]", lambda: run.llm(paid_step("ask"), diary.work, "ask[k]"))
        for done in [pool.submit(part, n) for n in range(PARTS)]:
            done.result()
        with contextlib.suppress(ac.StepRejected), diary.telling("draft[k]"):
            draft()
        diary.see("draft[k]", draft)
        run.finish("all")


def looped(run_id: str, url: str, diary: Diary) -> None:
    """The same on an event loop."""

    async def life() -> None:
        async with ac.run(run_id, store=url) as run:

            async def part(n: int) -> None:
                call = run.step if n else run.llm
                await diary.see_async(
                    f"part[{n}]", lambda: call(paid_step("part", str(n)), diary.work_slowly, f"part[{n}]")
                )

            async def draft() -> dict[str, Any]:
                return await run.llm(paid_step("draft", accept=diary.second), diary.work_slowly, "draft[k]")

            await diary.see_async("plan[k]", lambda: run.step(paid_step("plan"), diary.work_slowly, "plan[k]"))
            await diary.see_async("ask[k]", lambda: run.llm(paid_step("ask"), diary.work_slowly, "ask[k]"))
            for error in await asyncio.gather(*map(part, range(PARTS)), return_exceptions=True):
                if error is not None:
                    raise error
            with contextlib.suppress(ac.StepRejected), diary.telling("draft[k]"):
                await draft()
            await diary.see_async("draft[k]", draft)
            run.finish("all")

    asyncio.run(life())


AGENTS = {"blocking": blocking, "looped": looped}


def live(agent: str, run_id: str, url: str, diary: Diary) -> bool:
    """One life of an agent. Returns whether it came to its end; what the library raised is in the diary."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            AGENTS[agent](run_id, url, diary)
        except ac.AgentCheckpointError as exc:
            diary.write("told", "", type(exc).__name__, None)
            return False
        finally:
            for warning in said:
                diary.write("warned", warning.category.__name__)
    diary.write("done")
    return True


def fork(work: Callable[[], None]) -> int:
    """Runs it in a child that has inherited all imports; returns the child's pid."""
    child = os.fork()
    if child:
        return child
    try:
        work()
    except BaseException:
        traceback.print_exc(file=sys.__stderr__)
        os._exit(1)
    os._exit(0)
