"""``agentcheckpoint show`` and ``steps``: a run as it stands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from agentcheckpoint.cli.output import Namespace, Output, OutputOption, Url, say_lines, say_record, say_rows, width
from agentcheckpoint.cli.which import RunName, which_run

if TYPE_CHECKING:
    from agentcheckpoint.core.attempt_rows import AttemptRow
    from agentcheckpoint.show.bars import Line
    from agentcheckpoint.view import RunView

STATES = {"completed": "green", "failed": "red", "cancelled": "red", "waiting": "yellow", "retryable": "yellow"}
"""The colours of states."""


def show(
    run: RunName,
    attempts: Annotated[bool, typer.Option("--attempts", help="Each attempt of the run, in a table.")] = False,
    namespace: Namespace = "default",
    url: Url = None,
    output: OutputOption = Output.text,
) -> None:
    """Show a run: its state, cost and steps, when each of them was at work, and what went wrong.

    The bars leave out long times in which nothing happened, and mark them by ┊.

    Example: agentcheckpoint show @last --attempts
    """
    from agentcheckpoint.cli.records import whole_record
    from agentcheckpoint.core.spans import timeline
    from agentcheckpoint.show.bars import waterfall
    from agentcheckpoint.show.text import table
    from agentcheckpoint.view import get

    seen = get(which_run(run, url, namespace), store=url, namespace=namespace)
    if output is not Output.text:
        say_record(whole_record(seen), output)
        return
    lines = [*_head(seen), [("", "")], [(table(seen.steps, width()), "")]]
    if bars := waterfall(timeline(seen.entries), width()):
        lines += [[("", "")], *bars]
    if attempts:
        lines += [[("", "")], [(_attempts(seen.attempts), "")]]
    say_lines(lines)


def steps(
    run: RunName,
    namespace: Namespace = "default",
    url: Url = None,
    output: OutputOption = Output.text,
) -> None:
    """List the steps of a run alone.

    Example: agentcheckpoint steps research-42 -o jsonl
    """
    from agentcheckpoint.show.text import table
    from agentcheckpoint.view import get

    seen = get(which_run(run, url, namespace), store=url, namespace=namespace)
    if output is Output.text:
        typer.echo(table(seen.steps, width()))
    else:
        say_rows("steps", seen.to_records(), output, run=seen.id)


def _head(run: RunView) -> list[Line]:
    from agentcheckpoint.listing import age_text
    from agentcheckpoint.show.layout import plain

    agent = f" · agent {plain(run.agent)}" if run.agent else ""
    attempts = "1 attempt" if run.attempt == 1 else f"{run.attempt} attempts"
    lines: list[Line] = [
        [
            (plain(run.id), "bold"),
            ("  ", ""),
            (run.state, STATES.get(run.state, "")),
            (f"{agent} · {attempts} · begun {age_text(run.entries[0].at)} ago", ""),
        ],
        [(str(run.cost), "")],
    ]
    if run.conversation is not None:
        lines.append([(f"conversation {plain(run.conversation)}", "dim")])
    if run.origin is not None:
        lines.append([(f"forked from {plain(run.origin.run)} after {plain(run.origin.after)}", "dim")])
    lines += [[(f"{plain(name)}: {plain(text)}", "dim")] for name, text in run.metadata.items()]
    error = run.attempts[-1].error if run.attempts and run.state != "completed" else None
    if error is not None:
        lines.append([(f"{plain(error.type)}: {plain(error.message)}", "red")])
    return lines + _waits(run)


def _waits(run: RunView) -> list[Line]:
    """What it waits for somebody to answer, and how."""
    from agentcheckpoint.core.lifecycle import since_restart
    from agentcheckpoint.core.waits import Waits
    from agentcheckpoint.show.layout import plain

    if run.state != "waiting":
        return []
    asked = [entry for entry in Waits(since_restart(run.entries)).open() if entry.answer]
    return [[(f"waits for {plain(entry.slot)}: {plain(entry.prompt or 'an answer')}", "yellow")] for entry in asked]


def _attempts(rows: tuple[AttemptRow, ...]) -> str:
    from agentcheckpoint.listing import age_text
    from agentcheckpoint.show.layout import Column, lay_out, plain
    from agentcheckpoint.show.text import duration_text, spent_text

    def error(row: AttemptRow) -> str:
        return "" if row.error is None else plain(f"{row.error.type}: {row.error.message}")[:60]

    columns = [
        Column(["attempt", *(str(row.number) for row in rows)], 9, right=True),
        Column(["outcome", *(row.outcome for row in rows)], 8),
        Column(["began", *(f"{age_text(row.began)} ago" for row in rows)], 4, right=True),
        Column(["took", *(duration_text((row.ended or row.began) - row.began) for row in rows)], 5, right=True),
        Column(["steps", *(str(row.steps) for row in rows)], 6, right=True),
        Column(["cost", *(spent_text(row.cost) for row in rows)], 7, right=True),
        Column(["replayed", *(str(row.cost.replayed or "") for row in rows)], 4, right=True),
        Column(["worker", *(plain(row.worker) for row in rows)], 2),
        Column(["error", *(error(row) for row in rows)], 3),
    ]
    return lay_out(columns, width())
