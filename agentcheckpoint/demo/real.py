"""The demo with a real provider: it keeps no journal for us, so that the run's own ledger is all there is to show."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from agentcheckpoint import view
from agentcheckpoint.core.ledger import CostReport
from agentcheckpoint.demo.life import live
from agentcheckpoint.demo.play import Chapter, Ending, Listener, Terms, done_in, recorded
from agentcheckpoint.demo.worker import Job
from agentcheckpoint.errors import RunNotFound
from agentcheckpoint.store.store import Store

KILL_AFTER = 6
"""After how many commits the worker is killed, if nothing else is asked for: it has paid, and has more to pay."""


@dataclass(frozen=True, slots=True)
class LiveOutcome(Ending):
    """How it ended with a real provider.

    Attributes:
        cost: what the run's ledger says; the invoice counts.
        bought_twice: how many steps whose answers were stored have been paid for more than once.
    """

    cost: CostReport
    bought_twice: int

    @property
    def spent(self) -> int | None:
        """Nano-dollars, as far as known; ``None``: nothing of it is known."""
        return self.cost.spent if self.cost.spent or not self.cost.unpriced else None

    @property
    def saved(self) -> int | None:
        """Nano-dollars that were not paid again; ``None``: nothing of it is known."""
        return self.cost.saved if self.cost.saved or not self.cost.saved_unpriced else None

    def as_data(self) -> dict[str, Any]:
        """The outcome as JSON has it."""
        return {
            **Ending.as_data(self),
            "calls": self.cost.attempts,
            "bought_twice": self.bought_twice,
            "spent_nano_usd": self.spent,
            "unpriced": self.cost.unpriced,
            "unresolved": self.cost.unresolved,
            "saved_nano_usd": self.saved,
        }


def play_live(terms: Terms, model: str | None, store: Store, room: Path, listener: Listener) -> LiveOutcome:
    """Run the demo against the provider of ``$OPENAI_BASE_URL``, with the key in ``$OPENAI_API_KEY``. It costs money.

    Args:
        terms: what to do; the kills come after so many commits.
        model: which; ``None``: as in ``$OPENAI_MODEL``, else the agent's own.
        store: the store that ``terms`` names, connected.
        room: an empty directory for what workers write to stderr.
        listener: who is told how it goes.

    Raises:
        DemoFailed: a process ended otherwise than by finishing or by being killed.
        StoreError: the run cannot be read.
    """
    run_id = f"demo-{secrets.token_hex(4)}"
    job = Job(run_id, terms.store, None, str(terms.folder), terms.question, model=model)
    chapters: list[Chapter] = []
    while not chapters or chapters[-1].life.killed:
        number, before = len(chapters) + 1, _cost(run_id, store)
        kill_after = (terms.kill_after or KILL_AFTER) if number <= terms.kills else None
        mine = replace(job, kill_after=kill_after)
        life = live(mine, recorded(run_id, store), None, room / "errors", partial(listener.hears, number))
        after = _cost(run_id, store)
        paid = None if after.unpriced > before.unpriced else after.spent - before.spent
        chapters.append(Chapter(life, paid, after.attempts - before.attempts))
        listener.lived(number, chapters[-1])
    seen = view.get(run_id, store=store)
    bought = [entry.slot for entry in seen.ledger if entry.bill == "paid"]
    return LiveOutcome(
        run_id=run_id,
        chapters=tuple(chapters),
        asked=terms.kills,
        steps=done_in(seen),
        cost=seen.cost,
        bought_twice=len(bought) - len(set(bought)),
        answer=chapters[-1].life.answer or "",
    )


def _cost(run_id: str, store: Store) -> CostReport:
    try:
        return view.get(run_id, store=store).cost
    except RunNotFound:
        return CostReport()
