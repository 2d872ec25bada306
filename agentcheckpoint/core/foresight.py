"""What becomes of each step of a run when it goes on: reused, or done and probably paid for again. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from agentcheckpoint.core import ids
from agentcheckpoint.core.doubt import Doubts
from agentcheckpoint.core.handles import Handles
from agentcheckpoint.core.ledger import answer_money, fold_entries, logged_money
from agentcheckpoint.core.lifecycle import since_restart
from agentcheckpoint.core.models import Failed, Intent, LedgerEntry, Located, LogEntry, StepKind, Waiting
from agentcheckpoint.core.standing import standing
from agentcheckpoint.core.waits import Waits

Fate: TypeAlias = Literal["reused", "overridden", "again", "fetched", "in doubt", "waits"]
Going: TypeAlias = Literal["resume", "restart", "fork", "rewind"]
"""How a run goes on: as it stands, from scratch, as another run, or from an earlier step."""


@dataclass(frozen=True, slots=True)
class Foreseen:
    """One step, and what is likely to become of it if the code and its inputs are as they were.

    Attributes:
        slot: which step; as stored, not escaped.
        kind: ``None``: it has never ended.
        fate: ``reused``: its record answers it; ``overridden``: what was given does; ``again``: it is executed;
            ``fetched``: its answer was paid for, perhaps, and is fetched by its id; ``in doubt``: it must not happen
            twice, and nobody knows whether it has; ``waits``: for a time, or for somebody.
        paid: somebody is paid for it.
        cost: nano-dollars that it cost last; ``None``: nothing, or no price is known.
        once: it is marked as one that must not happen twice.
    """

    slot: str
    kind: StepKind | None
    fate: Fate
    paid: bool
    cost: int | None
    once: bool

    @property
    def buys(self) -> bool:
        """Whether it is likely to be paid for again."""
        return self.paid and self.fate == "again"


def foresee(
    entries: Sequence[LogEntry],
    beside: Iterable[LedgerEntry],
    going: Going,
    kept: Collection[str] | None = None,
    overridden: Collection[str] = (),
) -> list[Foreseen]:
    """One for each step that the log tells of: those with a record first, in its order.

    Args:
        entries: the run's whole log.
        beside: what is booked apart from it.
        going: how the run goes on.
        kept: the slots whose records still answer; ``None``: all that stand.
        overridden: those of them that somebody has given results for.
    """
    current = since_restart(entries)
    money = fold_entries(logged_money(entries), beside)
    once = {entry.slot for entry in current if isinstance(entry, Intent) and entry.inputs is not None}
    records = standing(current)
    found: list[Foreseen] = []
    for done in records:
        is_kept = going != "restart" and (kept is None or done.slot in kept)
        fate: Fate = ("overridden" if done.slot in overridden else "reused") if is_kept else "again"
        bought = [money.get(entry.id, entry) for entry in answer_money(done)]
        found.append(Foreseen(done.slot, done.kind, fate, bool(bought), _sum(bought), done.slot in once))
    slots = {done.slot for done in records}
    for slot, (kind, fate) in _unfinished(current, slots, going).items():
        bought = [entry for entry in money.values() if entry.slot == slot and entry.bill != "not_billed"]
        cost = _sum(bought[-1:]) if bought and bought[-1].bill != "unresolved" else None
        found.append(Foreseen(slot, kind, fate, bool(bought), cost, slot in once))
    return found


def _sum(bought: Sequence[LedgerEntry]) -> int | None:
    costs = [entry.cost for entry in bought if entry.cost is not None]
    return sum(costs) if bought and len(costs) == len(bought) else None


def _unfinished(
    current: Sequence[LogEntry], recorded: set[str], going: Going
) -> dict[str, tuple[StepKind | None, Fate]]:
    """The steps that have begun and have no record, and lie inside none that has."""
    found: dict[str, tuple[StepKind | None, Fate]] = {}
    doubts, handles = Doubts(), Handles()
    for entry in current:
        doubts.tell(entry)
        handles.tell(entry)
        if isinstance(entry, Intent | Located | Waiting | Failed):
            kind = entry.kind if isinstance(entry, Failed) else found.get(entry.slot, (None,))[0]
            found[entry.slot] = kind, "again"
    marks: dict[str, Fate] = {}
    if going == "resume":
        marks |= {entry.slot: "waits" for entry in Waits(current).open()}
    if going in ("resume", "rewind"):
        marks |= {entry.slot: "in doubt" for entry in doubts.open() if entry.inputs is not None}
        marks |= {entry.slot: "fetched" for entry in handles.free()}
    return {
        slot: (kind, marks.get(slot, fate))
        for slot, (kind, fate) in found.items()
        if slot not in recorded and not ids.is_inside(slot, recorded)
    }
