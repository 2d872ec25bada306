"""``agentcheckpoint waiting`` and ``answer``: what runs wait for, and what somebody says to it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentcheckpoint.cli.output import Namespace, Output, OutputOption, Url, say_record, say_rows
from agentcheckpoint.cli.which import RunName, which_run

if TYPE_CHECKING:
    from agentcheckpoint.answering import Question


def waiting(namespace: Namespace = "default", url: Url = None, output: OutputOption = Output.text) -> None:
    """List what runs wait for somebody to answer, the longest ago first.

    Example: agentcheckpoint waiting -o json
    """
    from agentcheckpoint.answering import waiting as questions

    found = questions(store=url, namespace=namespace)
    if output is not Output.text:
        say_rows("waiting", map(_fields, found), output)
        return
    for question in found:
        typer.echo(_text(question))
    if not found:
        typer.echo("nothing waits for an answer", err=True)


def answer(
    run: RunName,
    name: Annotated[str, typer.Argument(help="Its wait, as `waiting` lists it.", show_default=False)],
    value: Annotated[str, typer.Argument(help="The answer: JSON, else it is taken as text.", show_default=False)],
    by: Annotated[str | None, typer.Option(help="Who answers, for the record.", show_default=False)] = None,
    namespace: Namespace = "default",
    url: Url = None,
    output: OutputOption = Output.text,
) -> None:
    """Answer what a run waits for. The first answer counts.

    Example: agentcheckpoint answer refund-9 refund/approve '{"ok": true}' --by ada
    """
    from agentcheckpoint.answering import answer as give

    run_id = which_run(run, url, namespace)
    said = give(run_id, name, json_or_text(value), by=by, store=url, namespace=namespace)
    if output is not Output.text:
        say_record({"run": said.run_id, "name": said.name, "by": said.by, "at": said.at.isoformat()}, output)
    else:
        from agentcheckpoint.show.layout import plain

        typer.echo(f"answered: {plain(said.run_id)} {plain(said.name)}")


def json_or_text(text: str) -> Any:
    """What somebody has typed: JSON, else the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _fields(question: Question) -> dict[str, object]:
    return {
        "run": question.run_id,
        "name": question.name,
        "prompt": question.prompt,
        "form": question.form,
        "since": question.since.isoformat(),
        "until": None if question.until is None else question.until.isoformat(),
        "refused": question.refused,
    }


def _text(question: Question) -> str:
    """A question for people: where, when, what, and how to answer it; nothing in it can move the cursor."""
    from agentcheckpoint.show.layout import plain

    until = "" if question.until is None else f", until {question.until:%Y-%m-%d %H:%M} UTC"
    lines = [
        f"{plain(question.run_id)}  {plain(question.name)}  since {question.since:%Y-%m-%d %H:%M} UTC{until}",
        *(f"  {plain(line)}" for line in (question.prompt or "").splitlines()),
        *([f"  refused before: {plain(question.refused)}"] if question.refused else []),
        f"  answer: {_shape(question.form)}",
    ]
    return "\n".join(lines)


def _shape(form: dict[str, Any]) -> str:
    """What an answer looks like, in a line: an object's fields with their types, or the type."""
    from agentcheckpoint.show.layout import plain

    fields: dict[str, dict[str, Any]] | None = form.get("properties")
    if fields is None:
        return plain(str(form.get("type", "any JSON")))
    required: list[str] = form.get("required", [])
    said = (f"{name}{'' if name in required else '?'}: {field.get('type', '...')}" for name, field in fields.items())
    return plain("{" + ", ".join(said) + "}")
