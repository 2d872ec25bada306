"""What a run's card says above its table: what this time cost, what a mismatch offers, and what the line did. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from agentcheckpoint.core.attempt_rows import AttemptRow
from agentcheckpoint.core.ledger import CostReport, money
from agentcheckpoint.core.markup import Markup, element
from agentcheckpoint.errors import StepMismatch
from agentcheckpoint.notebook.line import Asked
from agentcheckpoint.show.card import LONGEST, card
from agentcheckpoint.show.layout import cut, plain

MOST_DIFFERENCES = 10
"""How many inputs a mismatch names."""
CHOICES = (
    ("--on-mismatch rerun", "do this step again, and pay for it"),
    ("--on-mismatch reuse", "take what is recorded, though it answers other inputs"),
    ("--from STEP", "go back: do this step and all that was recorded after it again"),
    ("--fresh", "begin afresh; what the run has cost stays in its account"),
)
"""What to put on the magic's line, and what comes of it."""


def steps_text(n: int) -> str:
    """A number of steps."""
    return "1 step" if n == 1 else f"{n:,} steps"


def this_time(row: AttemptRow) -> str:
    """What one attempt did and cost."""
    cost = row.cost
    spent = "an unknown sum" if cost.unpriced and not cost.spent else money(cost.spent)
    if not row.steps and not cost.attempts and cost.replayed:
        said = f"replayed: {steps_text(cost.replayed)}, $0.00"
        return f"{said} · saved {_saved(cost)}" if cost.saved or cost.saved_unpriced else said
    said = f"ran {steps_text(row.steps)}, {spent}"
    if cost.unresolved:
        said += f" · {cost.unresolved} may have been billed"
    return f"{said} · replayed {steps_text(cost.replayed)}, saved {_saved(cost)}" if cost.replayed else said


def _saved(cost: CostReport) -> str:
    return "an unknown sum" if cost.saved_unpriced and not cost.saved else money(cost.saved)


def remarks(wanted: Asked, has_paid: bool) -> list[str]:
    """What to know about running the cell again, if that is not free."""
    if wanted.id is None:
        return ["no id: run again, this cell does and pays all of it again"]
    if wanted.back_to is not None:
        return [f"--from {wanted.back_to}: each time that it is run this cell goes back there; take it out again"]
    if wanted.on_existing == "fresh" and has_paid:
        return ["--fresh: each time that it is run this cell pays again; take it out again"]
    return []


def progress_text(name: str, state: str, ran: int, now: str | None, cost: CostReport) -> str:
    """One line about a run that is under way."""
    parts = [f"{plain(cut(name, LONGEST))} · {state}", f"ran {steps_text(ran)}", str(cost)]
    return " · ".join([*parts, f"now: {plain(cut(now, LONGEST))}"] if now is not None else parts)


def mismatch_text(error: StepMismatch, run_id: str) -> str:
    """A mismatch for a terminal or a log."""
    name, width = plain(run_id), max(len(option) for option, _ in CHOICES)
    lines = [f"{name}: step {plain(error.step or '')} is recorded with other inputs. Nothing was paid for it."]
    for what, old, new in error.differences[:MOST_DIFFERENCES]:
        lines += [
            f"  {plain(what)}",
            f"    recorded  {plain(cut(old, LONGEST))}",
            f"    now       {plain(cut(new, LONGEST))}",
        ]
    lines += [f"  {_for(option, error):{width}}  {told}" for option, told in CHOICES]
    return "\n".join([*lines, f"  {'another id':{width}}  keep both"])


def mismatch_card(error: StepMismatch, run_id: str) -> Markup:
    """A mismatch as a card: what differs, and what can be put on the magic's line."""
    rows = [
        (cut(what, LONGEST), cut(old, 4 * LONGEST), cut(new, 4 * LONGEST))
        for what, old, new in error.differences[:MOST_DIFFERENCES]
    ]
    more = len(error.differences) - MOST_DIFFERENCES
    if more > 0:
        rows.append((f"and {more} more", "", ""))
    choices = [*((_for(option, error), told) for option, told in CHOICES), ("another id", "keep both")]
    parts = [
        element(
            "div",
            "It is recorded with other inputs than it is called with now. Nothing was paid for it.",
            class_="ac-say",
        ),
        *([_texts(("input", "recorded", "now"), rows)] if rows else [element("div", str(error), class_="ac-say")]),
        element("div", "Choose, on the line of %%agentrun:", class_="ac-say"),
        _texts(("", ""), choices),
    ]
    return card(f"✗ mismatch in step {cut(error.step or '', LONGEST)}", run_id, parts)


def _for(option: str, error: StepMismatch) -> str:
    return option.replace("STEP", cut(error.step or "STEP", LONGEST))


def _texts(titles: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Markup:
    """A table of texts, not of numbers: all to the left, and as they are."""
    head = (
        [element("thead", element("tr", *(element("th", title, style="text-align:left") for title in titles)))]
        if any(titles)
        else []
    )
    lines = [
        element("tr", *(element("td", element("code", text), style="text-align:left") for text in row)) for row in rows
    ]
    return element("table", *head, element("tbody", *lines))
