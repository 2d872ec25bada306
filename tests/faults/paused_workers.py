"""A worker that stops itself by SIGSTOP at a planned point, and the heir that takes its run over meanwhile.

Each is a process of its own. What it pays, sees and ends with it writes into the run's diary, and fsyncs it.
"""

from __future__ import annotations

import asyncio
import functools
import json
import os
import secrets
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import httpx2
import openai

import agentcheckpoint as ac
from agentcheckpoint import attempt
from agentcheckpoint.core.models import Done
from agentcheckpoint.store.async_wire import AsyncWire
from agentcheckpoint.store.wire import Wire

from .outside import DRAFT, MODEL, PRICES

LEASE = 0.3
"""Seconds."""
WAIT = 60.0
"""Seconds that the heir waits for a lease which nobody renews any more."""
THINK = ac.Step("think", prices=PRICES)
PARALLEL = ("ask", "look", "ask", "look")
"""Paid and plain steps that are made at the same time."""


class Diary:
    """What one worker of a run did, in an append-only file that all its workers share."""

    def __init__(self, path: Path, who: str, stops: Stops | None = None) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._who, self._stops = who, stops

    def write(self, what: str, slot: str = "", value: object = None) -> None:
        os.write(self._file, (json.dumps([self._who, what, slot, value]) + "\n").encode())
        os.fsync(self._file)

    def pay(self, slot: str) -> dict[str, Any]:
        """Work that is paid for; the amount is one of its own, by which the ledger's entry is known."""
        if self._stops is not None:
            self._stops.payment("before")
        tokens = 1 + secrets.randbelow(10**9)
        self.write("paid", slot, tokens)
        if self._stops is not None:
            self._stops.payment("after")
        return {"receipt": tokens, "model": "m", "usage": {"input_tokens": tokens, "output_tokens": 0}}

    def work(self, slot: str) -> str:
        return f"{slot} by {self._who} {secrets.token_hex(4)}"

    def see(self, slot: str, result: Any) -> Any:
        self.write("seen", slot, result)
        return result


class Stops:
    """Stops this process at one point, such as ``packet 7 before``, ``payment 2 after`` or ``moment 0.02``.

    Packets and payments are counted from when the run is open; those that renew the lease are not.
    """

    def __init__(self, point: str) -> None:
        self._point = point
        self._open = False
        self._lock = threading.Lock()
        self.packets = self.payments = 0

    def opened(self) -> None:
        self._open = True
        if self._point.startswith("moment"):
            seconds = float(self._point.split()[1])
            threading.Thread(target=lambda: (time.sleep(seconds), self._stop()), daemon=True).start()

    def payment(self, when: str) -> None:
        with self._lock:
            self.payments += when == "before"
        self._pass(f"payment {self.payments} {when}")

    def packet(self, when: str) -> None:
        if self._open and threading.current_thread().name != "agentcheckpoint-leases":
            with self._lock:
                self.packets += when == "before"
            self._pass(f"packet {self.packets} {when}")

    def _pass(self, point: str) -> None:
        if point == self._point:
            self._point = ""
            self._stop()

    def _stop(self) -> None:
        os.kill(os.getpid(), signal.SIGSTOP)

    def install(self) -> None:
        """For the rest of this process's life."""
        exchange, send, hand_out = Wire.exchange, AsyncWire.send, AsyncWire._hand_out

        def exchanged(wire: Wire, commands: Any) -> Any:
            self.packet("before")
            replies = exchange(wire, commands)
            self.packet("after")
            return replies

        def sent(wire: AsyncWire, parcels: Any) -> None:
            self.packet("before")
            send(wire, parcels)

        def received(wire: AsyncWire) -> None:
            self.packet("after")
            hand_out(wire)

        Wire.exchange, AsyncWire.send, AsyncWire._hand_out = exchanged, sent, received  # type: ignore[method-assign]


class Gate:
    """Lets the packets of a blocking agent's threads pass, until it is closed: then none is under way."""

    def __init__(self) -> None:
        self._turn = threading.Condition()
        self._passing = 0
        self._open = True

    @contextmanager
    def closed(self) -> Iterator[None]:
        with self._turn:
            self._open = False
            self._turn.wait_for(lambda: self._passing == 0)
        yield
        with self._turn:
            self._open = True
            self._turn.notify_all()

    def install(self) -> None:
        """For the rest of this process's life. Who renews the lease does not wait."""
        exchange = Wire.exchange

        def passed(wire: Wire, commands: Any) -> Any:
            if threading.current_thread().name == "agentcheckpoint-leases":
                return exchange(wire, commands)
            with self._turn:
                self._turn.wait_for(lambda: self._open)
                self._passing += 1
            try:
                return exchange(wire, commands)
            finally:
                with self._turn:
                    self._passing -= 1
                    self._turn.notify_all()

        Wire.exchange = passed  # type: ignore[method-assign]


@dataclass(frozen=True, slots=True)
class Stage:
    """Where workers live: the store, the provider, and the diaries."""

    url: str
    provider: str
    diaries: Path


@dataclass(slots=True)
class Worker:
    """What an agent needs: its run, its diary, and whom to tell that the run is open."""

    stage: Stage
    run_id: str
    diary: Diary
    opened: Callable[[], None]

    def open(self) -> Any:
        return ac.run(self.run_id, store=self.stage.url, lease=LEASE, wait=WAIT)


def blocking(me: Worker) -> list[Any]:
    """Plain, paid, parallel, nested, and wrapped calls, of which one answer is refused."""
    diary, see = me.diary, me.diary.see
    http = httpx2.Client(verify=False)
    client = ac.wrap(openai.OpenAI(base_url=me.stage.provider, api_key="k", http_client=http), prices=PRICES)

    def chat(text: str) -> Any:
        said = [{"role": "user", "content": f"{text} {me.run_id}"}]
        return client.chat.completions.create(model=MODEL, messages=said)  # type: ignore[call-overload]

    with me.open() as run, ThreadPoolExecutor(len(PARALLEL)) as pool:
        me.opened()
        seen = [see("plain", run.step("plain", diary.work, "plain"))]
        seen.append(see("think", run.llm(THINK, diary.pay, "think")))
        made = [functools.partial(_parallel, run, diary, n) for n in range(len(PARALLEL))]
        seen += [see(_slot(n), found) for n, found in enumerate(pool.map(lambda call: call(), made))]
        deep = run.step("deep", lambda: see("deep/think", run.llm(THINK, diary.pay, "deep/think")))
        seen += [see("deep", deep), see("chat", chat("hello").choices[0].message.content)]
        while (draft := chat(DRAFT)).choices[0].message.content == "bad":
            ac.reject(draft, "it is bad")
        seen.append(see("chat#2", draft.choices[0].message.content))
        return list(run.finish(seen))


def unblocking(me: Worker) -> list[Any]:
    """The same, async."""
    return asyncio.run(_unblocking(me))


async def _unblocking(me: Worker) -> list[Any]:
    diary, see = me.diary, me.diary.see
    http = httpx2.AsyncClient(verify=False)
    client = ac.wrap(openai.AsyncOpenAI(base_url=me.stage.provider, api_key="k", http_client=http), prices=PRICES)

    async def chat(text: str) -> Any:
        said = [{"role": "user", "content": f"{text} {me.run_id}"}]
        return await client.chat.completions.create(model=MODEL, messages=said)  # type: ignore[call-overload]

    async with me.open() as run:
        me.opened()
        seen = [see("plain", await run.step("plain", diary.work, "plain"))]
        seen.append(see("think", await run.llm(THINK, diary.pay, "think")))
        found = await asyncio.gather(*(_parallel(run, diary, n) for n in range(len(PARALLEL))), return_exceptions=True)
        for result in found:
            if isinstance(result, BaseException):
                raise result
        seen += [see(_slot(n), result) for n, result in enumerate(found)]

        async def deep() -> Any:
            return see("deep/think", await run.llm(THINK, diary.pay, "deep/think"))

        seen += [see("deep", await run.step("deep", deep))]
        seen.append(see("chat", (await chat("hello")).choices[0].message.content))
        while (draft := await chat(DRAFT)).choices[0].message.content == "bad":
            ac.reject(draft, "it is bad")
        seen.append(see("chat#2", draft.choices[0].message.content))
        return list(run.finish(seen))


def _parallel(run: Any, diary: Diary, n: int) -> Any:
    step = ac.Step(PARALLEL[n], key=str(n), prices=PRICES)
    return run.llm(step, diary.pay, _slot(n)) if PARALLEL[n] == "ask" else run.step(step, diary.work, _slot(n))


def _slot(n: int) -> str:
    return f"{PARALLEL[n]}[{n}]"


Body: TypeAlias = Callable[[Worker], list[Any]]
"""An agent."""


def live(agent: Body, stage: Stage, run_id: str) -> None:
    """A life that nothing happens to."""
    _live(agent, Worker(stage, run_id, Diary(stage.diaries / run_id, "heir"), lambda: None))


def be_stopped(stage: Stage, agent: Body, run_id: str, point: str) -> None:
    """The life of a worker that is stopped at a point."""
    stops = Stops(point)
    diary = Diary(stage.diaries / run_id, "zombie", stops)
    stops.install()
    _live(agent, Worker(stage, run_id, diary, stops.opened))
    diary.write("points", "", [stops.packets, stops.payments])


def take_over(stage: Stage, agent: Body, run_id: str, extent: str, reached: int, go_on: int) -> None:
    """The life of an heir, who stands still when he has come as far as planned.

    Args:
        extent: ``claims``, ``one step`` or ``all``.
        reached: the pipe in which he says that he stands still.
        go_on: the pipe in which he is told to go on.
    """
    stood: list[bool] = []
    gate = Gate()

    def stand_still(*_: object) -> None:
        if not stood:
            stood.append(True)
            with gate.closed():
                os.write(reached, b"!")
                os.read(go_on, 1)

    if extent == "one step":
        gate.install()
        attempt.after_commit.append(lambda _, change: stand_still() if isinstance(change.entry, Done) else None)
    diary = Diary(stage.diaries / run_id, "heir")
    opened = stand_still if extent == "claims" else lambda: None
    _live(agent, Worker(stage, run_id, diary, opened))
    stand_still()


def _live(agent: Body, me: Worker) -> None:
    warnings.simplefilter("ignore")
    try:
        me.diary.write("done", "", agent(me))
    except ac.LeaseLost:
        me.diary.write("lost")
    except BaseException as exc:
        me.diary.write("failed", "", f"{type(exc).__name__}: {exc}")
