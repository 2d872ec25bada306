"""The commands by name, each with its line of help. What one does and takes is imported when it is asked of it."""

from __future__ import annotations

import importlib
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

VERBS = {
    "runs": ("runs:runs", "List runs, the one that was opened last first."),
    "show": (
        "show:show",
        "Show a run: its state, cost and steps, when each of them was at work, and what went wrong.",
    ),
    "steps": ("show:steps", "List the steps of a run alone."),
    "cost": ("cost:cost", "Show what runs cost: paid, wasted, unresolved, and saved by replaying."),
    "tail": (
        "tail:tail",
        "Follow a run: a line, with its time in UTC, for all that is recorded, until it has ended or waits for an "
        "answer.",
    ),
    "resume": ("going:resume", "Make an attempt of an agent's run here, with the arguments that are stored for it."),
    "retry": (
        "going:retry",
        "Let a run go on now that failed, was cancelled, or waits for its next try. A worker finds it.",
    ),
    "fork": (
        "forking:fork",
        "Make a new run that has the records of another up to a step, and pays for none of them.",
    ),
    "rewind": (
        "forking:rewind",
        "Let a run go back to where it was after a step. What it has cost since stays in its account.",
    ),
    "cancel": (
        "going:cancel",
        "End a run: at once, or, if somebody works on it, at its next commit. What it has recorded stays.",
    ),
    "answer": ("answer:answer", "Answer what a run waits for. The first answer counts."),
    "waiting": ("answer:waiting", "List what runs wait for somebody to answer, the longest ago first."),
    "export": (
        "moving:export",
        "Write a run to a file, as lines of JSON: its log, its results in clear, and its ledger. Nothing is changed.",
    ),
    "prune": ("prune:prune", "Delete finished runs that are old enough. Runs that are not finished are never deleted."),
    "doctor": ("doctor:doctor", "Say what is known of the store, what is not, and what that means for the promise."),
    "worker": (
        "worker:worker",
        "Work on runs that were submitted, interrupted or answered, are to be tried again, or whose worker has died.",
    ),
    "demo": (
        "demo:demo",
        "Kill an agent while it works, start it again, and compare what it paid with the provider's own journal.",
    ),
    "import": ("moving:bring", "Make the run that a file holds, whole or not at all."),
    "server": ("server:server", "Look at the embedded server, or stop it."),
}
"""Where each is, and the first paragraph of its own help, which a test compares."""


class Verb(TyperCommand):
    """Stands for a command until it is called: typer looks at the signature of each that it is given."""

    def __init__(self, name: str) -> None:
        place, said = VERBS[name]
        super().__init__(name, help=said, rich_markup_mode=None)
        self.place = place

    def real(self) -> Any:
        """The command, or the group of commands, itself."""
        module, _, attribute = self.place.partition(":")
        found = getattr(importlib.import_module(f"agentcheckpoint.cli.{module}"), attribute)
        app = typer.Typer(rich_markup_mode=None)
        if isinstance(found, typer.Typer):
            app.add_typer(found, name=self.name)
        else:
            app.command(self.name)(found)
        return typer.main.get_group(app).commands[str(self.name)]

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        """What it is called in: the real one's, which names that as what is called."""
        return self.real().make_context(*args, **kwargs)


class Verbs(TyperGroup):
    """All commands."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.commands = {name: Verb(name) for name in VERBS}
