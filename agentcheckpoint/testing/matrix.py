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
from typing import Any, TypeAlias

from agentcheckpoint.attempt import Attempt
from agentcheckpoint.core.models import LedgerEntry
from agentcheckpoint.store.connect import Connectable
from agentcheckpoint.testing.accounts import settle
from agentcheckpoint.testing.brain import Answer, Brain, Request, echo
from agentcheckpoint.testing.crashing import Crashed, crashing, nth
from agentcheckpoint.testing.moments import Moment, observed
from agentcheckpoint.testing.payments import digest_of
from agentcheckpoint.testing.provider import Provider
from agentcheckpoint.view import get


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
    provider: Provider


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

    def __str__(self) -> str:
        again = f"-{self.n}" if self.n > 1 else ""
        return f"{self.moment.when}-{self.moment.what}-{self.moment.slot or 'run'}{again}"

    def check(self, store: Connectable = None) -> None:
        """Crashes the agent there, lets it resume, and compares.

        Args:
            store: where; a store in memory by default.

        Raises:
            AssertionError: the resumed agent returned something else, executed a step again that was committed, or
                paid for an answer again that was committed.
        """
        with _bench(self.brain, store) as bench:
            here = nth(self.n, lambda moment: moment == self.moment)
            before, after = list[Seen](), list[Seen]()
            try:
                with _watched(before), crashing(here):
                    _live(self.life, bench)
            except Crashed:
                pass
            else:
                raise AssertionError(f"{self}: the agent did not come there again: it does not do the same each time")
            with _watched(after):
                output = _live(self.life, bench)
            problems = [] if output == self.output else [f"it returned {output!r}, and without a crash {self.output!r}"]
            done = {seen.committed for seen in before}
            again = sorted({slot for _, _, slot in (seen.committed for seen in after if seen.committed in done)})
            problems += [f"step {slot!r} was committed, and was executed again" for slot in again]
            problems += _unsettled(bench, [*before, *after])
            if problems:
                raise AssertionError("\n  ".join([f"crashed at {self}, and resumed:", *problems]))


@dataclass(frozen=True, slots=True)
class Seen:
    """A commit of a step's result that was applied, and of which run."""

    namespace: str
    run_id: str
    slot: str

    @property
    def committed(self) -> tuple[str, str, str]:
        return self.namespace, self.run_id, self.slot


def crash_matrix(life: Life, brain: Brain = echo) -> list[Case]:
    """Runs the agent once, in memory, and returns a case for each side of each of its commits.

    Give them to ``pytest.mark.parametrize("case", crash_matrix(life, brain), ids=str)``, and call ``case.check()``.

    Args:
        life: one life of the agent. It has to open the same run each time.
        brain: what the provider answers. A request that comes again gets the answer again that it got, so that what a
            crash has lost and what was never lost are answered alike.
    """
    met, lock = list[Moment](), threading.Lock()

    def note(_: Attempt, moment: Moment) -> None:
        if moment.what != "call":
            with lock:
                met.append(moment)

    with _bench(brain, None) as bench, observed(note):
        output = _live(life, bench)
    # in an order that does not depend on who was first of what ran in parallel: xdist's workers have to agree
    times = sorted(Counter(met).items(), key=lambda item: (item[0].slot == "", item[0].slot, item[0].what != "intent"))
    return [Case(life, brain, moment, n + 1, output) for moment, most in times for n in range(most)]


def _live(life: Life, bench: Bench) -> Any:
    outcome = life(bench)
    return asyncio.run(_awaited(outcome)) if inspect.isawaitable(outcome) else outcome


async def _awaited(outcome: Any) -> Any:
    return await outcome


@contextmanager
def _bench(brain: Brain, store: Connectable) -> Generator[Bench]:
    name = secrets.token_hex(8)
    with Provider(_same_again(brain)) as provider:
        yield Bench(f"memory://{name}" if store is None else store, f"test-{name}", provider)


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


def _unsettled(bench: Bench, seen: list[Seen]) -> list[str]:
    """What the provider's journal says against the ledgers of the runs."""
    payments = bench.provider.journal
    if not payments:
        return []
    ledgers = list[LedgerEntry]()
    for namespace, run_id in sorted({(each.namespace, each.run_id) for each in seen}):
        ledgers += get(run_id, store=bench.store, namespace=namespace).ledger
    accounts = settle(payments, ledgers, amounts=False)
    twice = [f"{accounts.paid_twice} payment(s) for answers that were committed"] if accounts.paid_twice else []
    return [*twice, *accounts.problems]
