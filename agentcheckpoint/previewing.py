"""What a run would reuse, and what it would probably buy again, before it goes on; ``ac.preview``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from agentcheckpoint.core.foresight import Foreseen, Going, foresee
from agentcheckpoint.core.ledger import money
from agentcheckpoint.core.markup import Markup, grid
from agentcheckpoint.core.shown import Records, Shown
from agentcheckpoint.errors import RunMisuse
from agentcheckpoint.show.card import MOST, card
from agentcheckpoint.show.layout import Column, lay_out, plain
from agentcheckpoint.show.records import foreseen_record
from agentcheckpoint.store.connect import Connectable, connect
from agentcheckpoint.store.reading import snapshot
from agentcheckpoint.view import WIDTH, address_of


@dataclass(frozen=True, slots=True)
class Preview(Shown, Records):
    """What becomes of the steps of a run when it goes on, as far as they are recorded and the code is as it was.

    Steps that the run has never come to are not in it: nobody knows them beforehand.

    Attributes:
        id, namespace: the run that goes on: of a fork, the new one.
        going: ``resume``, ``restart``, ``fork`` or ``rewind``.
        source: the run whose records these are: another only for a fork.
        after: the slot of the last step that a fork or a rewound run keeps; ``None``: it is neither.
        dry_run: nothing was changed.
        steps: one for each step, those with a record first, in the order in which they were recorded.
    """

    id: str
    namespace: str
    going: Going
    source: str
    after: str | None
    dry_run: bool
    steps: tuple[Foreseen, ...]

    @property
    def reused(self) -> tuple[Foreseen, ...]:
        """The steps that are not executed: answered by their records, or by what was given for them."""
        return tuple(step for step in self.steps if step.fate in ("reused", "overridden"))

    @property
    def again(self) -> tuple[Foreseen, ...]:
        """The steps that are executed again, whether they are paid for or not."""
        return tuple(step for step in self.steps if step.fate == "again")

    @property
    def bought_again(self) -> tuple[Foreseen, ...]:
        """Those of them that were paid for, and probably will be again."""
        return tuple(step for step in self.steps if step.buys)

    def __str__(self) -> str:
        return self.text()

    def text(self, width: int = WIDTH) -> str:
        """A sentence, and a table that is at most so many columns wide."""
        table = lay_out(self._columns(), width) if self.steps else "no steps recorded"
        return f"{self._title()}: {self._sums()}\n{table}"

    def to_records(self) -> list[dict[str, Any]]:
        """One record for each step: step, kind, becomes, paid, cost_nano_usd (``None``: none known), once."""
        return [foreseen_record(step) for step in self.steps]

    def _repr_html_(self) -> str:
        return str(card(f"{self._title()}: {self._sums()}", "", [self._grid()]))

    def _title(self) -> str:
        name, after = plain(self.id), plain(self.after or "")
        if self.going == "fork":
            return f"fork of {plain(self.source)} after {after}, as {name}"
        return f"rewind of {name} to after {after}" if self.going == "rewind" else f"{self.going} of {name}"

    def _sums(self) -> str:
        again, buys = len(self.again), self.bought_again
        parts = [f"reuses {_count(self.reused)}"]
        if buys:
            parts.append(f"likely buys again {len(buys)}{_money(buys)}")
        if free := again - len(buys):
            parts.append(f"runs {'another ' if buys else ''}{free} again")
        for fate, words in (("fetched", "fetches"), ("in doubt", "cannot tell of"), ("waits", "waits in")):
            if steps := [step for step in self.steps if step.fate == fate]:
                parts.append(f"{words} {len(steps)}")
        return ", ".join(parts)

    def _grid(self) -> Markup:
        titles, *lines = zip(*(column.cells for column in self._columns()), strict=True)
        more = [("…", "", "", "", "")] if len(lines) > MOST else []
        return grid(titles, [*lines[:MOST], *more], words=3)

    def _columns(self) -> list[Column]:
        return [
            Column(["step", *(plain(step.slot) for step in self.steps)], 8),
            Column(["kind", *(step.kind or "" for step in self.steps)], 4),
            Column(["becomes", *(step.fate for step in self.steps)], 7),
            Column(["cost", *(money(step.cost) if step.paid else "" for step in self.steps)], 6, right=True),
            Column(["", *("once" if step.once else "" for step in self.steps)], 5),
        ]


def _count(steps: Iterable[Foreseen]) -> str:
    found = list(steps)
    return f"{len(found)} step{'' if len(found) == 1 else 's'}{_money(found)}"


def _money(steps: Iterable[Foreseen]) -> str:
    """What these cost, in parentheses: a price that is not known is none of 0."""
    paid = [step for step in steps if step.paid and step.fate != "overridden"]
    known = [step.cost for step in paid if step.cost is not None]
    if not paid:
        return ""
    if not known:
        return " (price unknown)"
    rest = f" and {len(paid) - len(known)} of unknown price" if len(known) < len(paid) else ""
    return f" ({money(sum(known))}{rest})"


def preview(
    run_id: str,
    /,
    *,
    on_existing: Literal["allow", "fresh"] = "allow",
    store: Connectable = None,
    namespace: str = "default",
) -> Preview:
    """What opening a run would reuse, and what it would probably buy again. Nothing is changed. Blocking: on an event
    loop, use ``asyncio.to_thread``.

    What a fork or going back would do, ``ac.fork`` and ``ac.rewind`` say with ``dry_run=True``.

    Args:
        run_id: the run's name.
        on_existing: as ``ac.run`` is going to be told: ``"allow"`` resumes it, ``"fresh"`` begins it anew.
        store, namespace: as in ``ac.run``.

    Raises:
        RunMisuse: there is no such ``on_existing``.
        RunNotFound: there is no such run, or it was deleted.
        CheckpointsLost, CheckpointCorrupt, SchemaTooNew, StoreRefused, StoreUnavailable.
    """
    if on_existing not in ("allow", "fresh"):
        raise RunMisuse(f"on_existing={on_existing!r}: a preview is of 'allow' or 'fresh'.", run_id=run_id)
    loaded = connect(store).run(snapshot(address_of(run_id, namespace)))
    going: Going = "restart" if on_existing == "fresh" else "resume"
    steps = foresee(loaded.entries, loaded.waste, going)
    return Preview(run_id, namespace, going, run_id, None, True, tuple(steps))
