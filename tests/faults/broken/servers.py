"""The library broken where a server's death, its refusal or its lost memory would show it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from agentcheckpoint import attempt, taking
from agentcheckpoint.errors import StoreRefused
from agentcheckpoint.store import commit
from agentcheckpoint.store.effects import NotSent
from agentcheckpoint.store.fence import Count, Fence

from ..variants import Variant

ENGINE = "server deaths"


def _instead(place: Any, name: str, make: Callable[[Any], Any]) -> Callable[[], AbstractContextManager[None]]:
    """Puts what ``make`` makes of it in the place of an attribute."""

    @contextmanager
    def broken() -> Iterator[None]:
        real = getattr(place, name)
        setattr(place, name, make(real))
        try:
            yield
        finally:
            setattr(place, name, real)

    return broken


def _send_again(send: Any) -> Any:
    """An unanswered commit goes out again under the same token, as a client's own retries would do it."""

    def sending(job: Any, sent: Any, patience: int) -> Any:
        verdict, outcome = yield from send(job, sent, patience)
        if verdict == "unknown":
            job.fence.withdraw(sent)
            raise NotSent("no answer")
        return verdict, outcome

    return sending


def _settle_blindly(settle: Any) -> Any:
    """After the claim nobody looks whether the commit is there."""

    def settling(job: Any, token: str, *, doubt: bool) -> Any:
        yield from settle(job, token, doubt=doubt)
        return None

    return settling


def _take_for_committed(send: Any) -> Any:
    """A refusal of the server passes for success."""

    def sending(job: Any, sent: Any, patience: int) -> Any:
        try:
            return (yield from send(job, sent, patience))
        except StoreRefused:
            job.fence.send(result=job.change.result is not None)  # the refusal has withdrawn it
            return "committed", (sent.log_least, b"OK", sent.results_least, None, b"")

    return sending


@contextmanager
def _lengths_unseen() -> Iterator[None]:
    """Neither a reply's lengths nor a load are compared with what is known to be stored."""

    def forgetful(loaded: Any) -> Any:
        def load(self: Fence, token: str, log: int, results: int, ids: set[str]) -> None:
            self.committed = set()
            loaded(self, token, log, results, ids)

        return load

    with _instead(Count, "agrees", lambda agrees: lambda *_: True)(), _instead(Fence, "loaded", forgetful)():
        yield


@contextmanager
def _numbers_alone() -> Iterator[None]:
    """The next epoch can be told beforehand: by a worker that a failover has made forget the last one, too."""

    def number(real: Any) -> Any:
        return lambda epoch: f"{epoch}.0"

    with _instead(attempt, "new_token", number)(), _instead(taking, "new_token", number)():
        yield


VARIANTS = (
    Variant("commit-sent-again-unanswered", "rule 4", ENGINE, _instead(commit, "_send", _send_again), 14),
    Variant("settled-without-a-look", "rule 4", ENGINE, _instead(commit, "_settle", _settle_blindly), 25),
    Variant("refusal-taken-for-committed", "rule 15", ENGINE, _instead(commit, "_send", _take_for_committed), 24),
    Variant("lengths-not-compared", "rule 10", ENGINE, _lengths_unseen, 54),
    Variant("token-without-a-nonce", "rule 3", ENGINE, _numbers_alone, 2),
    Variant(
        "rollback-unsaid",
        "rule 3",
        ENGINE,
        _instead(attempt.Attempt, "_durability", lambda real: lambda self: []),
        52,
    ),
)
