"""The crash matrix: an agent crashes once before and once after each of its commits, and each time has to come through.

The agent is run once without a crash, which tells its commits and what it returns.
"""

from __future__ import annotations

import asyncio
import inspect
import secrets
import threading
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from agentcheckpoint.attempt import Attempt
from agentcheckpoint.core.models import LedgerEntry
from agentcheckpoint.store.connect import Connectable
from agentcheckpoint.testing.accounts import settle
from agentcheckpoint.testing.brain import Answer, Brain, Request, echo
from agentcheckpoint.testing.crashing import Crashed, How, crashing, nth
from agentcheckpoint.testing.moments import Moment, observed
from agentcheckpoint.testing.payments import digest_of
from agentcheckpoint.testing.provider import Provider
from agentcheckpoint.view import get


class Served(Protocol):
    """A provider, wherever it serves."""

    @property
    def url(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Bench:
    """Where a life of the agent takes place: all lives of one case share it, and nobody else does.

    Attributes:
        store: for ``store=``.
        namespace: for ``namespace=``; a case has one of its own on a server that others use too.
        provider: for ``base_url=provider.url``.
    """

    store: Connectable
    namespace: str
    provider: Served


Life: TypeAlias = Callable[[Bench], Any]
"""One life of the agent: opens its run, and returns what it has to say. It may be async."""


@dataclass(frozen=True, slots=True)
class Case:
    """One crash: at this moment, the n-th time that it comes."""

    life: Life
    brain: Brain
    moment: Moment
    n: int
    output: Any
    """What the agent returns when nothing crashes."""
    how: How = "exception"
    store: Connectable = None
    """Where it is checked; ``None``: in memory, or, if a process is killed, on an embedded server of these tests."""

    def __str__(self) -> str:
        again = f"-{self.n}" if self.n > 1 else ""
        return f"{self.moment.when}-{self.moment.what}-{self.moment.slot or 'run'}{again}"

    def check(self, store: Connectable = None) -> None:
        """Crashes the agent there, lets it resume, and compares.

        Args:
            store: where; by default the one that the matrix was given.

        Raises:
            AssertionError: the resumed agent returned something else, executed a step again that was committed, or
                paid for an answer again that was committed.
            TypeError: another process cannot run that life on that store.
        """
        with _bench(self.brain, self._where(store)) as (bench, provider):
            before, after = (self._killed if self.how == "kill" else self._crashed)(bench), list[Seen]()
            with _watched(after):
                output = live(self.life, bench)
            problems = [] if output == self.output else [f"it returned {output!r}, and without a crash {self.output!r}"]
            again = sorted({seen.slot for seen in after if seen in before})
            problems += [f"step {slot!r} was committed, and was executed again" for slot in again]
            problems += _unsettled(bench, provider, [*before, *after])
            if problems:
                raise AssertionError("\n  ".join([f"crashed at {self}, and resumed:", *problems]))

    def _where(self, store: Connectable) -> Connectable:
        where = self.store if store is None else store
        if where is not None or self.how == "exception":
            return where
        from agentcheckpoint.testing.killing import embedded_url

        return embedded_url()

    def _crashed(self, bench: Bench) -> list[Seen]:
        """A life that ends there by an exception; what it had committed."""
        seen = list[Seen]()
        try:
            with _watched(seen), crashing(nth(self.n, lambda moment: moment == self.moment)):
                live(self.life, bench)
        except Crashed:
            return seen
        raise AssertionError(f"{self}: the agent did not come there again: it does not do the same each time")

    def _killed(self, bench: Bench) -> list[Seen]:
        """A life in a process of its own that is killed there."""
        from agentcheckpoint.testing.killing import live_and_die

        return [Seen(*each) for each in live_and_die(bench, self.life, self.moment, self.n)]


@dataclass(frozen=True, slots=True)
class Seen:
    """A commit of a step's result that was applied, and of which run."""

    namespace: str
    run_id: str
    slot: str


def crash_matrix(life: Life, brain: Brain = echo, *, how: How = "exception", store: Connectable = None) -> list[Case]:
    """Runs the agent once, in memory, and returns a case for each side of each of its commits.

    Give them to ``pytest.mark.parametrize("case", crash_matrix(life, brain), ids=str)``, and call ``case.check()``.

    Args:
        life: one life of the agent. It has to open the same run each time.
        brain: what the provider answers. A request that comes again gets the answer again that it got, so that what a
            crash has lost and what was never lost are answered alike.
        how: ``"exception"`` stands for the crash; or ``"kill"``: the life before it is lived in a process of its own,
            which gets a real SIGKILL. Then ``life`` is a function at the top of a module.
        store: where the cases are checked; by default in memory, or, if a process is killed, on an embedded server that
            ends with this process. That has to be the URL of a real server then.
    """
    met, lock = list[Moment](), threading.Lock()

    def note(_: Attempt, moment: Moment) -> None:
        if moment.what != "call":
            with lock:
                met.append(moment)

    with _bench(brain, None) as (bench, _), observed(note):
        output = live(life, bench)
    # in an order that does not depend on who was first of what ran in parallel: xdist's workers have to agree
    times = sorted(Counter(met).items(), key=lambda item: (item[0].slot == "", item[0].slot, item[0].what != "intent"))
    return [Case(life, brain, moment, n + 1, output, how) for moment, most in times for n in range(most)]


def live(life: Life, bench: Bench) -> Any:
    """Lives it, whichever colour it has; returns what it says."""
    outcome = life(bench)
    return asyncio.run(_awaited(outcome)) if inspect.isawaitable(outcome) else outcome


async def _awaited(outcome: Any) -> Any:
    return await outcome


@contextmanager
def _bench(brain: Brain, store: Connectable) -> Generator[tuple[Bench, Provider]]:
    name = secrets.token_hex(8)
    with Provider(_same_again(brain)) as provider:
        yield Bench(f"memory://{name}" if store is None else store, f"test-{name}", provider), provider


def _same_again(brain: Brain) -> Brain:
    """Answers a request that comes again as it did before, if that answer was whole."""
    known, lock = dict[str, Answer](), threading.Lock()

    def answer(request: Request, /) -> Answer:
        digest = digest_of(request.body)
        with lock:
            said = known.get(digest)
        if said is None:
            said = brain(request)
            if said.status == 200 and said.drop is None and said.cut_after is None:
                with lock:
                    known[digest] = said
        return said

    return answer


@contextmanager
def _watched(seen: list[Seen]) -> Generator[None]:
    def note(live: Attempt, moment: Moment) -> None:
        if (moment.when, moment.what) == ("after", "done"):
            seen.append(Seen(live.namespace, live.run_id, moment.slot))

    with observed(note):
        yield


def _unsettled(bench: Bench, provider: Provider, seen: list[Seen]) -> list[str]:
    """What the provider's journal says against the ledgers of the runs."""
    payments = provider.journal
    if not payments:
        return []
    ledgers = list[LedgerEntry]()
    for namespace, run_id in sorted({(each.namespace, each.run_id) for each in seen}):
        ledgers += get(run_id, store=bench.store, namespace=namespace).ledger
    accounts = settle(payments, ledgers, amounts=False)
    twice = [f"{accounts.paid_twice} payment(s) for answers that were committed"] if accounts.paid_twice else []
    return [*twice, *accounts.problems]
