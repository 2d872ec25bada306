"""A run as a card of HTML: what it came to, its steps as a table, and when they ran as a picture."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from agentcheckpoint.core.ledger import CostReport
from agentcheckpoint.core.markup import Markup, element, grid
from agentcheckpoint.core.models import LogEntry
from agentcheckpoint.core.spans import timeline
from agentcheckpoint.show.layout import cut
from agentcheckpoint.show.picture import waterfall_picture
from agentcheckpoint.show.text import TITLES, StepRow, cells_of, step_rows

MOST = 40
"""How many steps a card shows: the first half and the last half of them."""
LONGEST = 80
"""Columns of a text in a card."""
MARKS = {
    "completed": "✓",
    "done": "✓",
    "replayed": "↺",
    "overridden": "✎",
    "failed": "✗",
    "rejected": "✗",
    "retryable": "✗",
    "cancelled": "✗",
    "waiting": "◔",
    "running": "▸",
    "unfinished": "▸",
    "interrupted": "‖",
}
"""A sign for each state, beside its word: never the colour alone."""
STYLE = Markup(
    "<style>"
    ".agentcheckpoint{font-family:system-ui,sans-serif;font-size:13px;line-height:1.4;max-width:72em;overflow-x:auto;"
    "color:inherit}"
    ".agentcheckpoint .ac-head{margin:.3em 0;font-size:14px}"
    ".agentcheckpoint .ac-say{margin:.3em 0;opacity:.85;white-space:pre-wrap;overflow-wrap:anywhere}"
    ".agentcheckpoint table{border-collapse:collapse;margin:.4em 0;font-size:inherit}"
    ".agentcheckpoint th,.agentcheckpoint td{padding:.15em .7em;border-bottom:1px solid rgba(128,128,128,.35)}"
    ".agentcheckpoint code{font-family:ui-monospace,monospace;white-space:pre-wrap;overflow-wrap:anywhere}"
    ".agentcheckpoint .ac-paid{fill:#2f6fb7}.agentcheckpoint .ac-free{fill:#7d8590}"
    ".agentcheckpoint .ac-failed{fill:#c4462d}.agentcheckpoint .ac-open{fill:#c9a227}"
    ".agentcheckpoint .ac-line{stroke:#8a8a8a}"
    "@media (prefers-color-scheme:dark){.agentcheckpoint .ac-paid{fill:#6cb0f5}.agentcheckpoint .ac-free{fill:#9aa4af}"
    ".agentcheckpoint .ac-failed{fill:#ff8266}.agentcheckpoint .ac-open{fill:#e5c558}}"
    "</style>"
)


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What a card tells of a run; everything as stored, nothing escaped.

    Attributes:
        id, state, attempt, cost: as ``RunView`` has them.
        entries: the whole log.
        replayed: the slots that the last attempt replayed, if that is known.
        say: a line each, under the head.
    """

    id: str
    state: str
    attempt: int
    cost: CostReport
    entries: Sequence[LogEntry]
    replayed: Collection[str] = ()
    say: Sequence[str] = ()


def run_card(facts: RunFacts) -> Markup:
    """The card, without scripts; its size is bounded, whatever the run's is."""
    rows = step_rows(facts.entries)
    shown, left_out = first_and_last(rows)
    picture = timeline(facts.entries, {row.slot for row in shown})
    parts = [
        element("div", *(element("div", cut(line, 8 * LONGEST), class_="ac-say") for line in facts.say)),
        element("div", str(facts.cost), class_="ac-say"),
        _table(shown, left_out, facts.replayed),
    ]
    if picture.spans:
        parts.append(waterfall_picture(picture))
    return card(f"{mark(facts.state)} · attempt {facts.attempt}", facts.id, parts)


def card(title: str, name: str, parts: Iterable[Markup]) -> Markup:
    """A card: its head, and what is under it."""
    head = element("div", element("strong", cut(name, LONGEST)), f" {title}", class_="ac-head")
    return element("div", STYLE, head, *parts, class_="agentcheckpoint")


def mark(word: str) -> str:
    """A state or outcome with its sign."""
    return f"{MARKS[word]} {word}" if word in MARKS else word


def first_and_last(rows: Sequence[StepRow]) -> tuple[list[StepRow], int]:
    """So many rows as a card has room for, and how many are left out in their middle."""
    if len(rows) <= MOST:
        return list(rows), 0
    return [*rows[: MOST // 2], *rows[-(MOST // 2) :]], len(rows) - MOST


def _table(rows: Sequence[StepRow], left_out: int, replayed: Collection[str]) -> Markup:
    if not rows:
        return element("div", "no steps recorded", class_="ac-say")
    lines = [_line(row, replayed) for row in rows]
    if left_out:
        lines.insert(MOST // 2, (f"… {left_out:,} more", *("" for _ in TITLES[1:])))
    return grid(TITLES, lines, words=3)


def _line(row: StepRow, replayed: Collection[str]) -> tuple[str, ...]:
    slot, kind, outcome, *rest = cells_of(row._replace(slot=cut(row.slot, LONGEST)))
    return slot, kind, mark("replayed" if row.slot in replayed and outcome == "done" else outcome), *rest
