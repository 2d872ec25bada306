"""What stands behind ``%%agentrun``: its options, the plain Python that they stand for, and where ``--from`` goes."""

from __future__ import annotations

import argparse
import io
import shlex
import tokenize
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, cast, get_args

from agentcheckpoint.core import ids
from agentcheckpoint.core.lifecycle import OnExisting, since_restart
from agentcheckpoint.core.models import LogEntry
from agentcheckpoint.core.standing import find, numbered, standing
from agentcheckpoint.errors import RunMisuse
from agentcheckpoint.options import OnMismatch


class Words(argparse.ArgumentParser):
    """The options of a magic. What is wrong with them is raised as ``RunMisuse``, with the usage."""

    def error(self, message: str) -> NoReturn:
        raise RunMisuse(f"{self.prog}: {message}.\n{self.format_usage()}")

    def read(self, line: str) -> argparse.Namespace:
        """The options in a line."""
        try:
            return self.parse_args(shlex.split(line))
        except ValueError as exc:
            self.error(f"{exc} in {line!r}")


@dataclass(frozen=True, slots=True)
class Asked:
    """What the first line of a cell asks for."""

    id: str | None
    back_to: str | None
    budget: str | None
    on_existing: OnExisting
    on_mismatch: OnMismatch
    quiet: bool
    explain: bool

    def code(self, is_async: bool) -> str:
        """The plain Python that opens the run."""
        said = [] if self.id is None else [repr(self.id)]
        said += [f"on_existing={self.on_existing!r}"] if self.on_existing != "allow" else []
        said += [f"on_mismatch={self.on_mismatch!r}"] if self.on_mismatch != "error" else []
        said += [f"budget=ac.Budget({self.budget!r})"] if self.budget is not None else []
        return f"{'async with' if is_async else 'with'} ac.run({', '.join(said)}) as run:"


def words() -> Words:
    """The options of ``%%agentrun``."""
    parser = Words("%%agentrun", description="Runs the cell as a run of that id.", add_help=False, allow_abbrev=False)
    parser.add_argument("id", nargs="?", help="the run's name; without one nothing is ever replayed")
    parser.add_argument("--fresh", action="store_true", help="begin it afresh, each time that the cell is run")
    parser.add_argument("--from", dest="back_to", metavar="STEP", help="go back: do this step and all after it again")
    parser.add_argument("--budget", metavar="USD", help="dollars that the run may cost over all its attempts")
    parser.add_argument("--on-existing", choices=get_args(OnExisting), default="allow", help="as in ac.run")
    parser.add_argument("--on-mismatch", choices=get_args(OnMismatch), default="error", help="as in ac.run")
    parser.add_argument("--quiet", action="store_true", help="show no card")
    parser.add_argument("--explain", action="store_true", help="print the plain Python instead of running it")
    return parser


def asked(line: str) -> Asked:
    """What a line asks for. Raises ``RunMisuse``."""
    parser = words()
    given = parser.read(line)
    if given.fresh and (given.back_to is not None or given.on_existing not in ("allow", "fresh")):
        parser.error("--fresh goes with neither --from nor another --on-existing")
    if given.id is None and (given.back_to is not None or given.fresh or given.on_existing != "allow"):
        parser.error("without an id there is no run to go on with")
    return Asked(
        given.id,
        given.back_to,
        given.budget,
        cast(OnExisting, "fresh" if given.fresh else given.on_existing),
        cast(OnMismatch, given.on_mismatch),
        given.quiet,
        given.explain,
    )


def step_before(entries: Sequence[LogEntry], step: str, run_id: str) -> str | None:
    """The last step to keep if ``step``, and all that was recorded after it, is to be done again.

    Args:
        entries: the run's whole log.
        step: its name or slot, as for ``ac.rewind``.
        run_id: for messages.

    Returns:
        A name that ``ac.rewind`` takes; ``None``: nothing is to be kept.

    Raises:
        RunMisuse: no such step is recorded, or it may be several.
    """
    records = standing(since_restart(entries))
    again = find(records, step, run_id)
    before = [done for done in records[: records.index(again)] if not ids.is_inside(done.slot, {again.slot})]
    return numbered(before[-1].slot) if before else None


def explained(line: str, body: str, is_async: bool) -> str:
    """A marked cell as plain Python, for people: lines of ``%`` and ``!`` stay as they are."""
    wanted = asked(line)
    lines = ["import agentcheckpoint as ac", ""]
    if wanted.back_to is not None:
        lines += [f"ac.rewind({wanted.id!r}, after=...)  # what was recorded before {wanted.back_to!r}"]
    return "\n".join([*lines, wanted.code(is_async), indented(body) or "    pass"])


def indented(body: str) -> str:
    """The lines, moved into a block; lines inside of a text that has several stay where they are."""
    inside: set[int] = set()
    try:
        for token in tokenize.generate_tokens(io.StringIO(body).readline):
            if token.type == tokenize.STRING:
                inside.update(range(token.start[0] + 1, token.end[0] + 1))
    except (tokenize.TokenError, SyntaxError):  # a line of ! or %: what came before it is known
        pass
    lines: list[Any] = body.strip("\n").split("\n") if body.strip() else []
    skipped = len(body) - len(body.lstrip("\n"))
    return "\n".join(
        text if n in inside or not text.strip() else f"    {text}" for n, text in enumerate(lines, 1 + skipped)
    )
