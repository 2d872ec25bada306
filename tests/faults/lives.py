"""One life of a generated agent, in a process of its own: it works, and writes into its diary what it pays and sees.

The agent is one coroutine for both colours: a blocking one never really waits, so that ``send(None)`` runs it through.
"""

from __future__ import annotations

import asyncio
import os
import sys
import traceback
import warnings
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import openai

import agentcheckpoint as ac
from agentcheckpoint.store import dial, patience

from .agents import Agent, Op
from .deeds import Deeds
from .diary import Diary
from .drives import answer_all, by_hand, by_worker
from .walks import Walks

HURRY = 0.15
"""Seconds that a worker waits for Redis's answer where one is to come too late."""
TIMEOUTS = 36
"""How many time-outs a worker that is hurried so waits for: a slow machine must not make a fault of its own."""
MODEL = "demo-large"
PRICES = {MODEL: ac.Price(input="2.5", output="10", cached="0.25")}
BOUND = 100
"""The most tokens that an answer may have: so an attempt that nobody can settle has a bound."""
PAID = {"m": ac.Price(input="1", output="1")}


def run_through(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Runs a coroutine that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("a blocking agent waited")


@dataclass(frozen=True, slots=True)
class Clients:
    """Both colours of the wrapped client, made before any worker is forked: they have no connection yet."""

    blocking: openai.OpenAI
    loop: openai.AsyncOpenAI

    @staticmethod
    def to(base_url: str) -> Clients:
        options: dict[str, Any] = {"base_url": base_url, "api_key": "k", "max_retries": 0, "timeout": 60}
        plain = httpx2.Client(transport=httpx2.HTTPTransport(verify=False))
        waiting = httpx2.AsyncClient(transport=httpx2.AsyncHTTPTransport(verify=False))
        return Clients(
            ac.wrap(openai.OpenAI(**options, http_client=plain), prices=PRICES),
            ac.wrap(openai.AsyncOpenAI(**options, http_client=waiting), prices=PRICES),
        )


class Blocking:
    """How the agent's text is run without a loop."""

    def __init__(self, run: ac.Run, clients: Clients) -> None:
        self.run, self._client = run, clients.blocking

    async def of(self, value: Any) -> Any:
        return value

    async def ask(self, **body: Any) -> Any:
        return self._client.responses.create(model=MODEL, max_output_tokens=BOUND, **body)

    async def stream(self, **body: Any) -> list[Any]:
        return list(self._client.responses.create(model=MODEL, max_output_tokens=BOUND, stream=True, **body))

    async def begin(self, name: str, make: Callable[[], Any]) -> Any:
        with self.run.begin(name, dict[str, Any]) as begun:
            return begun.value if begun.done else begun.save(make())

    async def nest(self, step: ac.Step, inside: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        return self.run.step(step, lambda: run_through(inside()))

    def position(self) -> Any:
        return ac.Cursor(int, start=0)

    async def each(self, loop: Any, body: Callable[[Any], Coroutine[Any, Any, Any]]) -> None:
        for item in loop:
            await body(item)

    async def transact(self, step: ac.Step, work: Callable[[Any], Coroutine[Any, Any, Any]]) -> Any:
        return self.run.transaction(step, lambda tx: run_through(work(tx)))

    async def all(self, branches: Sequence[Callable[[], Coroutine[Any, Any, Any]]]) -> list[Any]:
        with ThreadPoolExecutor(len(branches)) as pool:
            work = self.run.bind(lambda branch: run_through(branch()))
            return [future.result() for future in [pool.submit(work, branch) for branch in branches]]


class OnLoop:
    """How it is run on a loop."""

    def __init__(self, run: ac.AsyncRun, clients: Clients) -> None:
        self.run, self._client = run, clients.loop

    async def of(self, value: Awaitable[Any]) -> Any:
        return await value

    async def ask(self, **body: Any) -> Any:
        return await self._client.responses.create(model=MODEL, max_output_tokens=BOUND, **body)

    async def stream(self, **body: Any) -> list[Any]:
        return [
            event
            async for event in await self._client.responses.create(
                model=MODEL, max_output_tokens=BOUND, stream=True, **body
            )
        ]

    async def begin(self, name: str, make: Callable[[], Any]) -> Any:
        async with self.run.begin(name, dict[str, Any]) as begun:
            return begun.value if begun.done else await begun.save(make())

    async def nest(self, step: ac.Step, inside: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        return await self.run.step(step, inside)

    def position(self) -> Any:
        return ac.AsyncCursor(int, start=0)

    async def each(self, loop: Any, body: Callable[[Any], Coroutine[Any, Any, Any]]) -> None:
        async for item in loop:
            await body(item)

    async def transact(self, step: ac.Step, work: Callable[[Any], Coroutine[Any, Any, Any]]) -> Any:
        return await self.run.transaction(step, work)

    async def all(self, branches: Sequence[Callable[[], Coroutine[Any, Any, Any]]]) -> list[Any]:
        """To the end of each: one that was cut off by a sibling's failure would be another story."""
        tasks = [asyncio.ensure_future(branch()) for branch in branches]
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        for result in ended:
            if isinstance(result, BaseException):
                raise result
        return list(ended)


class Life(Deeds, Walks):
    """The agent's text."""

    def __init__(self, face: Blocking | OnLoop, run_id: str, diary: Diary) -> None:
        self._face, self._run, self._id, self._diary = face, face.run, run_id, diary

    async def work(self, ops: Sequence[Op]) -> list[Any]:
        return [await self._do(op) for op in ops]

    async def _do(self, op: Op) -> Any:
        if op.kind == "parallel":
            return await self._face.all([partial(self._do, inner) for inner in op.inner])
        if op.kind == "nested":
            return await self._face.nest(ac.Step("outer", returns=list[Any]), partial(self.work, op.inner))
        return self._diary.see(op.label, await getattr(self, f"_{op.kind}")(op.label))

    async def _step(self, step: str | ac.Step, label: str) -> Any:
        return await self._face.of(self._run.step(step, self._diary.pay, label))

    async def _llm(self, label: str, **options: Any) -> Any:
        return await self._face.of(self._run.llm(ac.Step("think", prices=PAID, **options), self._diary.pay, label))

    async def _plain(self, label: str) -> Any:
        return await self._step("look", label)

    async def _keyed(self, label: str) -> Any:
        return [await self._step(ac.Step("fetch", key=f"{label}/{n}"), f"{label}/{n}") for n in range(2)]

    async def _twins(self, label: str) -> Any:
        return await self._face.all([partial(self._step, ac.Step("twin", key=label), label)] * 2)

    async def _paid(self, label: str) -> Any:
        return await self._llm(label)

    async def _refused(self, label: str) -> Any:
        try:
            return await self._llm(label, accept=lambda answer: not answer["first"])
        except ac.StepRejected:
            return await self._llm(label, accept=lambda answer: not answer["first"])

    async def _failing(self, label: str) -> Any:
        def fail_first(label: str) -> dict[str, Any]:
            answer = self._diary.pay(label)
            if answer["first"]:
                raise ValueError("the first time")
            return answer

        try:
            return await self._face.of(self._run.step("try", fail_first, label))
        except ValueError:
            return await self._face.of(self._run.step("try", fail_first, label))

    async def _begun(self, label: str) -> Any:
        return await self._face.begin(f"draft {label}", partial(self._diary.pay, label))

    async def _drawn(self, label: str) -> Any:
        now, some = await self._face.of(self._run.now()), await self._face.of(self._run.uuid())
        return [now.isoformat(), str(some), await self._face.of(self._run.random())]

    async def _ask(self, label: str) -> Any:
        answer = await self._face.ask(input=f"{self._id} {label}")
        return [answer.id, answer.output_text]

    async def _stream(self, label: str) -> Any:
        return _text(await self._face.stream(input=f"{self._id} {label}"))

    async def _short(self, label: str) -> Any:
        for _ in range(3):
            events = await self._face.stream(input=f"{self._id} {label} short")
            if events[-1].type == "response.completed":
                return _text(events)
        raise AssertionError("half a stream is replayed")

    async def _rejected(self, label: str) -> Any:
        answer = await self._face.ask(input=f"{self._id} {label} rejected")
        while answer.output_text.startswith("bad"):
            self._diary.point()
            ac.reject(answer, "it is bad")
            answer = await self._face.ask(input=f"{self._id} {label} rejected")
        return [answer.id, answer.output_text]


def _text(events: Sequence[Any]) -> str:
    return "".join(getattr(event, "delta", "") for event in events)


def live(
    agent: Agent,
    run_id: str,
    url: str,
    clients: Clients,
    diary: Diary,
    *,
    asked: Sequence[str] = (),
    hurried: bool = False,
) -> int:
    """Works until the agent is done, waits, or fails as a user would expect. Returns the exit code.

    Args:
        asked: the questions of the run that are answered first.
        hurried: an answer of Redis's is to come too late.
    """
    warnings.simplefilter("ignore")
    if hurried:
        dial.TIMEOUT, patience.TIMEOUTS = HURRY, TIMEOUTS
    store = ac.connect(url)
    answer_all(run_id, asked, store, diary)

    def blocking() -> Any:
        return run_through(Life(Blocking(ac.Run.current(), clients), run_id, diary).work(agent.ops))

    async def on_loop() -> Any:
        return await Life(OnLoop(ac.AsyncRun.current(), clients), run_id, diary).work(agent.ops)

    if agent.is_job:
        return by_worker(on_loop if agent.is_async else blocking, run_id, store, diary)
    if agent.is_async:
        return by_hand(lambda: asyncio.run(_opened_on_loop(on_loop, run_id, store)), diary)
    return by_hand(lambda: _opened(blocking, run_id, store), diary)


def _opened(work: Callable[[], Any], run_id: str, store: ac.Store) -> Any:
    with ac.run(run_id, store=store) as run:
        return run.finish(work())


async def _opened_on_loop(work: Callable[[], Awaitable[Any]], run_id: str, store: ac.Store) -> Any:
    async with ac.run(run_id, store=store) as run:
        return run.finish(await work())


def fork_life(work: Callable[[], int], errors: Path) -> int:
    """The pid of a child that lives so. It shares no connection with anybody."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        code = work()
    except BaseException:
        with errors.open("a") as file:
            traceback.print_exc(file=file)
    finally:
        sys.stdout.flush()
        os._exit(code)
