"""The commit protocol with one of its rules left out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from agentcheckpoint.attempt import new_id
from agentcheckpoint.core import ledger
from agentcheckpoint.errors import RunNotFound
from agentcheckpoint.store import claim, commit, upkeep
from agentcheckpoint.store.commit import Committed
from agentcheckpoint.store.effects import Command, Lost, NotSent, Packet, executed
from agentcheckpoint.store.fence import Fence
from agentcheckpoint.store.reading import snapshot
from agentcheckpoint.store.wire import Wire

from ..variants import Variant


def _with(targets: str, replacement: Any) -> Callable[[], AbstractContextManager[None]]:
    """While it is entered, something else stands at that place of the package, or at those."""

    @contextmanager
    def broken() -> Iterator[None]:
        with ExitStack() as stack:
            for target in targets.split():
                stack.enter_context(patch(f"agentcheckpoint.{target}", replacement))
            yield

    return broken


def _model(name: str, rule: str, target: str, replacement: Any) -> Variant:
    return Variant(name, rule, "model", _with(target, replacement))


def _rollback(name: str, rule: str, target: str, replacement: Any) -> Variant:
    return Variant(name, rule, "rollback", _with(target, replacement))


# -- what a reply means -----------------------------------------------------------------------------------------------


def _taking(verdict: str, judge: Any = commit.judge) -> Any:
    """That verdict is taken for "committed"."""

    def judged(fence: Any, token: str, replies: Any) -> Any:
        said = judge(fence, token, replies)
        return "committed" if said == verdict else said

    return judged


def _own_is_foreign(fence: Any, token: str, replies: Any, judge: Any = commit.judge) -> Any:
    said = judge(fence, token, replies)
    return "foreign" if said == "moved" else said


def _under_any_head(address: Any, token: str, commands: Any, patience: int) -> Any:
    replies = yield Packet((("MULTI",), *commands, ("EXEC",)), patience=patience)
    return executed(replies)


def _rejected_too(loaded: Any, same: Any) -> Any:
    return next((entry for entry in reversed(loaded.entries) if entry.k == "done" and same and same(entry)), None)


# -- what is sent -----------------------------------------------------------------------------------------------------


def _rewriting(protocol: Any, rewrite: Callable[[Command], Command]) -> Any:
    """The same generator, whose commands are changed on their way."""

    def rewritten(*args: Any, **options: Any) -> Any:
        inner = protocol(*args, **options)
        go_on, came = inner.send, None
        while True:
            try:
                effect = go_on(came)
            except StopIteration as stop:
                return stop.value
            if isinstance(effect, Packet):
                effect = replace(effect, commands=tuple(map(rewrite, effect.commands)))
            try:
                go_on, came = inner.send, (yield effect)
            except (NotSent, Lost) as exc:
                go_on, came = inner.throw, exc

    return rewritten


def _blind(protocol: Any, *names: str) -> Any:
    """It watches nothing that is called so."""

    def rewrite(command: Command) -> Command:
        if command[0] != "WATCH":
            return command
        kept = [key for key in command[1:] if str(key).rpartition(":")[2] not in names]
        return ("WATCH", *kept) if kept else ("EXISTS", command[1])

    return _rewriting(protocol, rewrite)


def _booking_anew(command: Command) -> Command:
    return (*command[:2], new_id(), *command[3:])


def _no_persist(fence: Any, token: str, look: Any, opening: Any, commands: Any = claim._claim_commands) -> Any:
    return tuple(command for command in commands(fence, token, look, opening) if command[0] != "PERSIST")


def _sent_again(what: str, exchange: Any = Wire.exchange) -> Any:
    """What the retries of a client do: connect anew, and send the packet again as it was."""

    def exchanged(self: Any, commands: Any) -> Any:
        try:
            return exchange(self, commands)
        except Lost:
            if len(commands) < 2 or not str(commands[1][1]).endswith(what):
                raise
            self._connection.connect()
            self.dead = False
            return exchange(self, commands)

    return exchanged


# -- what is done about it --------------------------------------------------------------------------------------------


def _assumed_lost(job: Any, token: str, *, doubt: bool) -> Any:
    return None
    yield


def _settled_by_looking(job: Any, token: str, *, doubt: bool) -> Any:
    try:
        loaded = yield from snapshot(job.fence)
    except RunNotFound:
        return None
    return Committed() if job.change.entry.id in loaded.ids else None


def _forgetful(self: Any, token: str, log: int, results: int, ids: Any, loaded: Any = Fence.loaded) -> None:
    self.committed = set()
    loaded(self, token, log, results, ids)


def _as_if_new(*args: Any, look: Any = claim._look) -> Any:
    found = yield from look(*args)
    found.had_tokens = False
    return found


def _increments_alone(known: Any, entries: Any) -> dict[str, int]:
    return {name: amount for name, amount in ledger.totals(entries).items() if amount}


def _always(*args: Any, **options: Any) -> bool:
    return True


def _never(*args: Any, **options: Any) -> None:
    return None


_MARKS = "store.loading._check_birth store.loading._check_about"
"""What is compared with the log's first entry, and with the one that has begun the run."""

VARIANTS = (
    _model("a-foreign-head-is-committed", "rule 1", "store.commit.judge", _taking("foreign")),
    _model("a-missing-head-is-committed", "rule 1", "store.commit.judge", _taking("gone")),
    _model("an-older-claim-of-ones-own-is-committed", "rule 1", "store.commit.judge", _taking("moved")),
    _model("a-newer-claim-of-ones-own-is-foreign", "rule 1", "store.commit.judge", _own_is_foreign),
    _rollback("an-error-inside-exec-is-committed", "rule 1", "store.commit.judge", _taking("torn")),
    _model("a-rejected-record-is-handed-out", "rule 1", "store.commit._same_step", _rejected_too),
    _model("a-load-counts-under-any-head", "rule 2", "store.reading._under", _under_any_head),
    _rollback("a-token-is-a-number", "rule 3", "attempt.new_token taking.new_token", "{}.0".format),
    _model("an-unanswered-commit-is-sent-again", "rule 4", "store.wire.Wire.exchange", _sent_again(":log")),
    _model("an-unanswered-commit-counts-as-not-applied", "rule 4", "store.commit._settle", _assumed_lost),
    _model("an-unanswered-commit-is-settled-by-looking", "rule 4", "store.commit._settle", _settled_by_looking),
    _model("a-claim-goes-on-without-its-watch", "rule 6", "store.wire.Wire.exchange", _sent_again(":head")),
    _model("a-claim-does-not-watch-the-head", "rule 6", "store.claim._look", _blind(claim._look, "head")),
    _rollback("no-birth-marks-are-checked", "rule 9", _MARKS, _never),
    _model("a-time-to-live-goes-along", "rule 9", "store.claim._claim_commands", _no_persist),
    _rollback("no-lengths-are-checked", "rule 10", "store.fence.Count.agrees", _always),
    _rollback("a-settlement-need-not-find-all", "rule 10", "store.fence.Fence.loaded", _forgetful),
    _rollback("a-missing-head-is-a-new-run", "rule 11", "store.claim._look", _as_if_new),
    _rollback("a-sweep-does-not-watch-the-head", "rule 12", "store.upkeep.sweep", _blind(upkeep.sweep, "head")),
    _model(
        "a-deletion-does-not-watch-the-head", "rule 12", "store.upkeep._delete", _blind(upkeep._delete, "head", "lease")
    ),
    _model("waste-is-booked-by-adding", "rule 13", "attempt.book_waste", _rewriting(upkeep.book_waste, _booking_anew)),
    _model("totals-are-increments-alone", "rule 13", "core.ledger.growth", _increments_alone),
    _model("a-claim-does-not-watch-the-lease", "rule 14", "store.claim._look", _blind(claim._look, "lease")),
    _model("a-lease-is-ignored", "rule 14", "store.claim.busy", _never),
)
