"""Corruption: every stored field of a run, damaged again and again. Nothing but our errors, nothing run, nothing lost.

The fast layer gives each damaged run to the library's pure functions. The whole layer puts a sample of them into a
store, where they are looked at, opened, replayed and deleted.

What cannot be told from another true story is no violation, and is counted: a result that still fits its type and
length (there is no signature), a checkpoint that bears another step's name (the step is called again, and the run says
which record it did not meet), a number for people.
"""

from __future__ import annotations

import itertools
import json
import random
import re
import resource
import secrets
import time
import warnings
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

import openai

import agentcheckpoint as ac
from agentcheckpoint.core.models import SCHEMA
from agentcheckpoint.errors import AgentCheckpointError, RunBusy

from . import golden, parsing, rich, rich_loops
from .canary import Executed, canary
from .fields import Field, fields_of
from .stored import Contents, Odd, contents, put, send
from .tally import Tally, Violation
from .walked import CURSOR, marks_name

ENGINE = "corruption"
LONGEST = 60.0
"""Seconds that one case may take: a hang, not slowness."""
MOST_MB = 500
"""By how much the process may grow."""
_PLACE = re.compile(
    r":(head|tokens|log|meta|results|waste|lease|cancel|marks)\b"
    r"|step '|its (output|log)|the result |worked on by|was cancelled"
)
_LOOKED_AT = (None, b"schema", b"state", b"attempt", b"due")
"""What of meta a claim looks at before it writes: these, and whether there is a birth mark."""
_BOOKKEEPING = {b"schema", b"attempt", b"state", b"due", b"paid", b"wasted"}
"""The fields of meta that each claim and commit sets."""


class Damage(NamedTuple):
    """Where a search looks: how often it damages each field, one of how many it plays wholly, and of which fields."""

    per_field: int
    every: int
    only: str


@dataclass
class _Search:
    """One search: its run, and what it has found."""

    seed: str
    base: Contents
    lease: Contents
    tally: Tally = field(default_factory=Tally)

    def __post_init__(self) -> None:
        (log,) = (name for name in self.base if name.endswith(b":log"))
        self.token = log.decode().split(":")[2]
        self.sound = parsing.read(self.base, self.token)
        self.url = f"memory://{secrets.token_hex(8)}"
        self.store = ac.connect(self.url)
        self.client = rich.unconnected()

    def note(self, what: str, count: int = 1) -> None:
        self.tally.notes[what] = self.tally.notes.get(what, 0) + count

    def violation(self, where: str, what: str) -> None:
        self.tally.violations.append(Violation(ENGINE, f"{self.seed}:{where}", what))

    # -- the fast layer -------------------------------------------------------------------------------------------

    def fast(self, place: Field, damaged: Contents, where: str, *, wholly: bool) -> None:
        """Reads the damaged run by the pure functions.

        If ``wholly``, also a log whose damaged line was refused alone, and goes over what was read as its users do.
        """
        try:
            if not wholly and place.name == "log" and isinstance(place.item, int):
                parsing.read_line(damaged[place.key], place.item)
            loaded = parsing.read(damaged, self.token)
            if wholly:
                parsing.go_over(loaded)
            if place.name == "results" and isinstance(place.item, bytes):
                parsing.revive(damaged, loaded, place.item)
            said = parsing.trouble(damaged, loaded, self.base)
        except AgentCheckpointError as exc:
            self.refused(exc, where, "fast: refused")
        except (Exception, Executed) as exc:
            self.violation(where, f"{type(exc).__name__}: {str(exc)[:200]}")
        else:
            if said is not None:
                self.violation(where, said)
            self.note("fast: read as before" if loaded == self.sound else "fast: another true story")

    def refused(self, exc: AgentCheckpointError, where: str, what: str) -> None:
        """An error of ours must name the run and the place."""
        said = str(exc)
        if rich.RUN not in said or _PLACE.search(said) is None:
            self.violation(where, f"{type(exc).__name__} names no place: {said[:200]}")
        self.note(what)

    # -- the whole layer ------------------------------------------------------------------------------------------

    def whole(self, place: Field, damaged: Contents, where: str) -> None:
        """Looks at the damaged run, opens and replays it, and deletes a copy of it."""
        began = time.monotonic()
        try:
            self._look(damaged, where)
            self._replay(place, damaged, where)
            self._delete(damaged, where)
        except Executed as exc:
            self.violation(where, f"stored data was run: {exc}")
        except Exception as exc:
            self.violation(where, f"{type(exc).__name__}: {str(exc)[:200]}")
        if time.monotonic() - began > LONGEST:
            self.violation(where, "it took minutes")

    def _put(self, damaged: Contents) -> None:
        send(self.store, ("DEL", *self._names()))
        put(self.store, damaged)
        rich.calls.clear()

    def _names(self) -> list[bytes]:
        (names,) = send(self.store, ("KEYS", f"ac:{{{parsing.KEYS.tag}}}:*"))
        return [*names, b"none"]

    def _look(self, damaged: Contents, where: str) -> None:
        self._put(damaged)
        try:
            str(ac.get(rich.RUN, store=self.store))
        except AgentCheckpointError as exc:
            self.refused(exc, where, "whole: not shown")

    def _replay(self, place: Field, damaged: Contents, where: str) -> None:
        found, refused, opened, gone = None, False, False, rich_loops.Gone()
        self._put(damaged)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            try:
                with ac.run(rich.RUN, store=self.store) as run:
                    opened = True
                    found = rich.body(self.client)
                    rich_loops.go_on(run, gone)
            except AgentCheckpointError as exc:
                refused = True
                self.refused(exc, where, "whole: refused" if not isinstance(exc, RunBusy) else "whole: busy")
            except openai.BadRequestError:
                pass  # the model was asked: judged below
        called = Counter(rich.calls)
        if called and not _renamed(self.base, place, damaged):
            self.violation(where, f"called again: {dict(called)}")
        elif called:
            self.note("whole: a checkpoint under another step's name")
        elif found is not None and found != rich.EXPECTED:
            if place.name != "results":
                self.violation(where, f"another result came back: {found!r:.200}")
            self.note("whole: another result of the same type and length")
        elif found is not None:
            self.note("whole: replayed with a warning" if said else "whole: replayed")
        left = rich_loops.left_in(damaged) if opened else {}
        for name, items in left.items():
            self._gone_on(name, items, gone, where)
        moved = {
            name for name in left if gone.worked[name] or name in gone.ended or left[name] == list(rich_loops.ITEMS)
        }
        self._kept(damaged, where, moved, taken_back="cancel" if _is_done(damaged) and opened else None)
        key, item = place.name, place.item
        looked_at = key in ("head", "tokens", "lease", "cancel") or (key == "meta" and item in _LOOKED_AT)
        if refused and looked_at and _steady(contents(self.store, rich.RUN)) != _steady(damaged):
            self.violation(where, "it was written to before it was refused")

    def _gone_on(self, name: str, left: list[str] | None, gone: rich_loops.Gone, where: str) -> None:
        """A loop works on all items that are left, and no others, or is refused on the way."""
        worked, ended = gone.worked[name], name in gone.ended
        if left is None and (worked or ended):
            self.violation(where, f"{name} went on with {worked}, and what it had done is not known")
        elif left is not None and worked != (left if ended else left[: len(worked)]):
            self.violation(where, f"{name} worked on {worked}, and {left} were left")
        elif ended:
            self.note("whole: a loop that went on" if worked == [rich_loops.LAST] else "whole: a loop at another place")

    def _kept(self, damaged: Contents, where: str, moved: set[str], taken_back: str | None = None) -> None:
        """What was stored is stored, though perhaps under another token: the damage too. A completed run that is opened
        again is asked to end no more: that alone may be gone.
        """
        after: dict[str, object] = {}
        for name, value in contents(self.store, rich.RUN).items():
            after[name.decode().rpartition(":")[2]] = value
        for key, old in damaged.items():
            name = key.decode().rpartition(":")[2]
            if (name in ("head", "lease") and isinstance(old, bytes)) or old in ({}, []):
                continue  # a claim sets them; a key that holds nothing is none
            if name == taken_back and name not in after:
                continue
            if name == marks_name("unordered") and "unordered" in moved:
                continue
            if not _holds(after.get(name), old, {f"{CURSOR}{loop}".encode() for loop in moved}):
                self.violation(where, f"{name} was overwritten: {after.get(name)!r:.120}")

    def _delete(self, damaged: Contents, where: str) -> None:
        self._put(damaged)
        try:
            ac.delete(rich.RUN, store=self.store)
            self.note("whole: deleted")
        except AgentCheckpointError as exc:
            if rich.RUN not in str(exc):
                self.violation(where, f"{type(exc).__name__} names no run: {str(exc)[:200]}")
            self.note("whole: not deleted")


def _holds(now: object, old: object, moved: set[bytes]) -> bool:
    """Whether all that stood there stands there still, but the fields of loops that went on."""
    if isinstance(old, list):
        return isinstance(now, list) and now[: len(old)] == old
    if isinstance(old, dict):
        return isinstance(now, dict) and all(
            now.get(k) == v for k, v in old.items() if k not in _BOOKKEEPING and k not in moved
        )
    if isinstance(old, Odd):
        return isinstance(now, Odd) and now.word == old.word and now.args[-1] == old.args[-1]
    return now == old


def _steady(kept: Contents) -> Contents:
    """Less what a server makes up: the ids of a stream."""
    return {name: value for name, value in kept.items() if not (isinstance(value, Odd) and value.word == "XADD")}


def _is_done(stored: Contents) -> bool:
    """Whether the run says that it is completed."""
    metas = [value for key, value in stored.items() if key.endswith(b":meta")]
    return any(isinstance(meta, dict) and meta.get(b"state") == b"completed" for meta in metas)


def _renamed(base: Contents, place: Field, damaged: Contents) -> bool:
    """Whether the damage is that a checkpoint bears the name of another step."""
    if place.name != "log" or not isinstance(place.item, int):
        return False
    old, new = base[place.key], damaged[place.key]
    assert isinstance(old, list) and isinstance(new, list)
    with suppress(ValueError, TypeError, AttributeError):
        return len(new) == len(old) and bool(
            json.loads(new[place.item]).get("slot") != json.loads(old[place.item]).get("slot")
        )
    return False


def search(per_field: int, seed: int, *, every: int = 200, only: str = "", url: str | None = None) -> Tally:
    """Damages each stored field of the golden run ``per_field`` times.

    Args:
        per_field: mutations of each field; all go through the fast layer.
        seed: the same finds the same.
        every: one of so many goes through the whole layer as well, and at least one of each field.
        only: a pattern that a field's name must have in it.
        url: the store of the whole layer; by default one in memory.
    """
    kept, _ = golden.load(golden.path_of(SCHEMA))
    base = {name: value for name, value in kept.items() if not name.endswith(b":lease")}
    run = _Search(str(seed), base, {name: value for name, value in kept.items() if name not in base})
    if url is not None:
        run.store = ac.connect(url)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with canary() as sung:
        for place in (place for place in fields_of(kept) if re.search(only, str(place))):
            _search_field(run, place, per_field, every)
    for name in sung:
        run.violation("canary", f"{name} was called with stored data")
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024
    if grown > MOST_MB:
        run.violation("memory", f"the process grew by {grown} MB")
    run.note("MB grown", grown)
    return run.tally


def _search_field(run: _Search, place: Field, per_field: int, every: int) -> None:
    run.note("fields")
    sound = run.base | (run.lease if place.name == "lease" else {})
    chosen = random.Random(f"{run.seed}:{place}").sample(range(per_field), max(1, per_field // every))
    for n, damaged in enumerate(itertools.islice(place.damaged(sound, run.seed), per_field)):
        where = f"{place}:{n}"
        run.note("mutations")
        run.tally.scenarios += damaged != sound
        run.tally.fired += damaged != sound
        run.fast(place, damaged, where, wholly=n in chosen or n % 8 == 0)
        if n in chosen:
            run.note("whole")
            run.whole(place, damaged, where)
