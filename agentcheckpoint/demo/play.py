"""The demo: an agent is killed again and again, and its account is settled with the provider's journal."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from agentcheckpoint import view
from agentcheckpoint.demo.life import Event, Life, live
from agentcheckpoint.demo.loopback import loopback
from agentcheckpoint.demo.points import Point, choose_points
from agentcheckpoint.demo.worker import Job
from agentcheckpoint.errors import RunNotFound
from agentcheckpoint.store.store import Store
from agentcheckpoint.testing.accounts import Accounts, paid_before, settle
from agentcheckpoint.testing.payments import Payment, read_payments


@dataclass(frozen=True, slots=True)
class Terms:
    """What the demo is to do.

    Attributes:
        folder: with the documents.
        question: about them.
        kills: how often the worker is killed.
        kill_after: kill it each time after so many of its commits; ``None``: at random moments.
        seed: chooses these moments again; ``None``: others each time.
        latency: seconds that the model takes to answer.
        store: a URL; ``None`` for the default.
    """

    folder: Path
    question: str
    kills: int
    kill_after: int | None
    seed: int | None
    latency: float
    store: str | None


@dataclass(frozen=True, slots=True)
class Chapter:
    """A life with what the provider was paid in it, in nano-dollars; ``None``: no price is known."""

    life: Life
    paid: int | None
    calls: int


@dataclass(frozen=True, slots=True)
class Ending:
    """How a demo ended, with whichever provider.

    Attributes:
        run_id: the run.
        chapters: the lives of its workers, in their order.
        asked: how many kills were asked for.
        steps: how many steps the run has.
        answer: what the agent returned.
    """

    run_id: str
    chapters: tuple[Chapter, ...]
    asked: int
    steps: int
    answer: str

    @property
    def kills(self) -> int:
        """How many kills happened."""
        return sum(chapter.life.killed for chapter in self.chapters)

    @property
    def replayed(self) -> int:
        """How many steps were replayed in all lives."""
        return sum(chapter.life.replayed for chapter in self.chapters)

    def as_data(self) -> dict[str, Any]:
        """The outcome as JSON has it."""
        return {
            "run_id": self.run_id,
            "kills": self.kills,
            "kills_asked": self.asked,
            "steps": self.steps,
            "replayed": self.replayed,
            "answer": self.answer,
        }


@dataclass(frozen=True, slots=True)
class Outcome(Ending):
    """How it ended with the provider on loopback. Amounts in nano-dollars.

    Attributes:
        saved: what was paid before each kill and did not have to be paid again.
        accounts: ledger and journal.
        problems: why this is no success; empty if it is one.
    """

    saved: int
    accounts: Accounts
    problems: tuple[str, ...] = field(default=())

    def as_data(self) -> dict[str, Any]:
        """The outcome as JSON has it."""
        return {
            **Ending.as_data(self),
            "provider_calls": self.accounts.provider_calls,
            "paid_twice": self.accounts.paid_twice,
            "repaid_in_window": self.accounts.repaid_in_window,
            "billed_nano_usd": self.accounts.billed,
            "spent_nano_usd": self.accounts.spent,
            "unresolved_nano_usd": self.accounts.in_window,
            "saved_nano_usd": self.saved,
            "problems": list(self.problems),
        }


class Listener(Protocol):
    """Who is told how it goes."""

    def timed(self, chapter: Chapter) -> None:
        """The run without kills is over."""
        ...

    def hears(self, number: int, life: Life, event: Event) -> None:
        """A worker told something."""
        ...

    def lived(self, number: int, chapter: Chapter) -> None:
        """A worker ended."""
        ...


def play(terms: Terms, store: Store, room: Path, listener: Listener) -> Outcome:
    """Run the demo.

    Args:
        terms: what to do.
        store: the store that ``terms`` names, connected.
        room: an empty directory for journals and logs.
        listener: who is told how it goes.

    Raises:
        DemoFailed: a process ended otherwise than by finishing or by being killed.
        StoreError: the run cannot be read.
    """
    run_id = f"demo-{secrets.token_hex(4)}"
    timing = None
    points: list[Point] = []
    if terms.kills and terms.kill_after is None:
        timing = _time(terms, f"{run_id}-timing", store, room, listener)
        points = choose_points(timing.life.checkpoints, terms.kills, terms.seed)
    journal = room / "journal"
    with loopback(journal, terms.latency) as url:
        job = Job(run_id, terms.store, url, str(terms.folder), terms.question)
        chapters, marks = _lives(terms, job, points, store, journal, listener)
    return _settled(terms, run_id, store, read_payments(journal), chapters, marks, timing)


def _time(terms: Terms, run_id: str, store: Store, room: Path, listener: Listener) -> Chapter:
    """One run without kills, with a provider of its own: it tells how long the work takes."""
    journal = room / "timing"
    with loopback(journal, terms.latency) as url:
        job = Job(run_id, terms.store, url, str(terms.folder), terms.question)
        life = live(job, 0, None, room / "errors", partial(listener.hears, 0))
    chapter = _chapter(life, read_payments(journal))
    listener.timed(chapter)
    return chapter


def _lives(
    terms: Terms, job: Job, points: Sequence[Point], store: Store, journal: Path, listener: Listener
) -> tuple[list[Chapter], list[int]]:
    """All lives of the run, and how many payments had been made at each kill."""
    chapters: list[Chapter] = []
    marks: list[int] = []
    while not chapters or chapters[-1].life.killed:
        number = len(chapters) + 1
        kill = number <= terms.kills
        life = live(
            replace(job, kill_after=terms.kill_after if kill else None),
            recorded(job.run_id, store),
            points[number - 1] if kill and points else None,
            journal.with_name("errors"),
            partial(listener.hears, number),
        )
        payments = read_payments(journal)
        chapters.append(_chapter(life, payments[marks[-1] if marks else 0 :]))
        if life.killed:
            marks.append(len(payments))
        listener.lived(number, chapters[-1])
    return chapters, marks


def recorded(run_id: str, store: Store) -> int:
    """How many steps of the run are checkpointed."""
    try:
        return done_in(view.get(run_id, store=store))
    except RunNotFound:
        return 0


def done_in(seen: view.RunView) -> int:
    """How many of its steps are done."""
    return sum(row.outcome == "done" for row in seen.steps)


def _chapter(life: Life, payments: Sequence[Payment]) -> Chapter:
    return Chapter(life, sum(payment.cost for payment in payments), len(payments))


def _settled(
    terms: Terms,
    run_id: str,
    store: Store,
    payments: Sequence[Payment],
    chapters: Sequence[Chapter],
    marks: Sequence[int],
    timing: Chapter | None,
) -> Outcome:
    seen = view.get(run_id, store=store)
    accounts = settle(payments, seen.ledger)
    savings = [paid_before(payments, seen.ledger, mark) for mark in marks]
    answer = chapters[-1].life.answer or ""
    problems = list(accounts.problems)
    if accounts.paid_twice:
        problems.append(f"{accounts.paid_twice} calls were paid again though their answers were committed")
    if savings and chapters[-1].life.saved != savings[-1]:
        problems.append("what the last worker calls saved is not what the provider was paid before it began")
    if accounts.spent != seen.cost.spent:
        problems.append("the run's cost is not the sum of what the provider was paid for it")
    if timing is not None and timing.life.answer != answer:
        problems.append("the answer is not that of the run without kills")
    return Outcome(
        run_id=run_id,
        chapters=tuple(chapters),
        asked=terms.kills,
        steps=done_in(seen),
        saved=sum(savings),
        accounts=accounts,
        answer=answer,
        problems=tuple(problems),
    )
