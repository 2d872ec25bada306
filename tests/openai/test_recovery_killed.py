"""Killed by SIGKILL between the payment and the commit: what is paid once now, and what is still paid again."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from dying_recovered import work

import agentcheckpoint as ac
from agentcheckpoint.store.embedded import ensure_server, stop_server
from agentcheckpoint.testing.accounts import settle
from agentcheckpoint.testing.brain import Answer, scripted
from agentcheckpoint.testing.provider import Provider

SCRIPT = Path(__file__).with_name("dying_recovered.py")
SAID = Answer(text="one two three", reasoning_tokens=3)

IN_THE_WINDOW = {
    "streamed": ["after located", "event 0", "event 3", "before done"],
    "plain": ["after located", "before done"],
    "background": ["after done", "poll", "before settled", "after settled"],
}
"""Points between the payment and its booking at which the answer's id is stored."""
BEFORE_ITS_ID = {
    "streamed": ["answer", "before located"],
    "plain": ["answer", "before located"],
    "background": ["answer"],
}
"""Points at which nobody here knows the id yet: one round trip, and not the whole time of the answer."""
COLOURS = ("sync", "async")


def cases(points: dict[str, list[str]]) -> list[tuple[str, str]]:
    return [(f"{colour} {how}", point) for how, some in points.items() for point in some for colour in COLOURS]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home = tmp_path_factory.mktemp("home")
    yield ensure_server(home).url
    stop_server(home)


def die(store: str, provider: Provider, kind: str, point: str) -> str:
    """A life that is killed there; the run's id."""
    run_id = f"{kind} {point} {provider.url}"
    command = [sys.executable, str(SCRIPT), store, provider.url, kind, point, run_id]
    died = subprocess.run(command, capture_output=True, text=True, timeout=250)
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert len(provider.journal) == 1, "it was killed after the provider was paid"
    return run_id


@pytest.mark.parametrize(("kind", "point"), cases(IN_THE_WINDOW), ids=str)
def test_one_killed_when_the_id_was_stored_pays_once(store: str, tmp_path: Path, kind: str, point: str) -> None:
    with Provider(scripted(SAID, "bought again"), journal=tmp_path / "journal") as provider:
        run_id = die(store, provider, kind, point)
        first = work(store, provider.url, kind, "nowhere", run_id)
        assert work(store, provider.url, kind, "nowhere", run_id) == first
        assert len(provider.journal) == 1, "paid once over three lives"
        view = ac.get(run_id, store=store)
        accounts = settle(provider.journal, view.ledger)
    assert (accounts.paid_twice, accounts.repaid_in_window, accounts.problems) == (0, 0, ())
    assert [entry.bill for entry in view.ledger] == ["paid"]
    assert (view.cost.unresolved, view.cost.spent) == (0, provider.spent)
    assert str(first[-1]).count("one two three") >= 1


@pytest.mark.parametrize(("kind", "point"), cases(BEFORE_ITS_ID), ids=str)
def test_one_killed_before_the_id_was_stored_pays_again_and_says_so(
    store: str, tmp_path: Path, kind: str, point: str
) -> None:
    with Provider(scripted(SAID, SAID), journal=tmp_path / "journal") as provider:
        run_id = die(store, provider, kind, point)
        work(store, provider.url, kind, "nowhere", run_id)
        view = ac.get(run_id, store=store)
        accounts = settle(provider.journal, view.ledger)
    assert (accounts.paid_twice, accounts.repaid_in_window, accounts.problems) == (0, 1, ())
    assert [entry.bill for entry in view.ledger] == ["unresolved", "paid"]


@pytest.mark.parametrize("kind", ["sync streamed", "async streamed", "sync plain", "async plain"])
def test_one_whose_answer_was_forgotten_meanwhile_pays_again(store: str, tmp_path: Path, kind: str) -> None:
    with Provider(scripted(SAID, SAID), journal=tmp_path / "journal") as provider:
        run_id = die(store, provider, kind, "after located")
        (entry,) = ac.get(run_id, store=store).ledger
        provider.forget(str(entry.response_id))
        work(store, provider.url, kind, "nowhere", run_id)
        view = ac.get(run_id, store=store)
        assert [entry.bill for entry in view.ledger] == ["unresolved", "paid"]
        assert len(provider.journal) == 2 and settle(provider.journal, view.ledger).settled


@pytest.mark.parametrize("colour", COLOURS)
def test_one_whose_stream_has_expired_gets_it_told_from_the_answer(store: str, tmp_path: Path, colour: str) -> None:
    with Provider(scripted(SAID), journal=tmp_path / "journal") as provider:
        run_id = die(store, provider, f"{colour} streamed", "event 3")
        provider.expire_streams()
        first = work(store, provider.url, f"{colour} streamed", "nowhere", run_id)
        assert work(store, provider.url, f"{colour} streamed", "nowhere", run_id) == first
        assert len(provider.journal) == 1 and [entry.bill for entry in ac.get(run_id, store=store).ledger] == ["paid"]
