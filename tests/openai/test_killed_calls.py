"""Killed by SIGKILL between the payment and the commit, or right after it: the provider's journal settles."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from asking import recorded
from dying import work

import agentcheckpoint as ac
from agentcheckpoint.store.embedded import ensure_server, stop_server
from agentcheckpoint.testing.accounts import settle
from agentcheckpoint.testing.brain import scripted
from agentcheckpoint.testing.provider import Provider

SCRIPT = Path(__file__).with_name("dying.py")

DEATHS = [
    # kind, point, entries that stay unresolved, payments in all
    ("call", "answer", 1, 2),
    ("call", "done", 0, 1),
    ("stream", "last word", 1, 2),
    ("stream", "done", 0, 1),
    ("reject", "rejected", 0, 2),
    ("async stream", "answer", 1, 2),
    ("async calls", "done", None, None),
]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home = tmp_path_factory.mktemp("home")
    yield ensure_server(home).url
    stop_server(home)


@pytest.mark.parametrize(("kind", "point", "unresolved", "payments"), DEATHS, ids=[f"{d[0]}, {d[1]}" for d in DEATHS])
def test_what_dies_before_its_commit_is_bought_again_once_and_is_in_the_ledger(
    store: str, tmp_path: Path, kind: str, point: str, unresolved: int | None, payments: int | None
) -> None:
    words = ["a few words"] * 9
    run_id = f"{kind}-{point}".replace(" ", "-")
    with Provider(scripted(*words), journal=tmp_path / "journal") as provider:
        command = [sys.executable, str(SCRIPT), store, provider.url, kind, point, run_id]
        died = subprocess.run(command, capture_output=True, text=True, timeout=250)
        assert died.returncode == -signal.SIGKILL, died.stderr
        paid_before = len(provider.journal)
        first = work(store, provider.url, kind, "nowhere", run_id)
        paid = len(provider.journal)
        assert work(store, provider.url, kind, "nowhere", run_id) == first
        assert len(provider.journal) == paid, "the third life pays nothing"
        view = ac.get(run_id, store=store)
        accounts = settle(provider.journal, view.ledger)
    assert (accounts.paid_twice, accounts.problems) == (0, ())
    if unresolved is None:  # killed at the first of four commits: the others were on their way, paid or not
        assert paid_before <= 4 and paid == 4 + accounts.repaid_in_window
        assert accounts.repaid_in_window <= view.cost.unresolved <= 3
        assert len(recorded(store, run_id)) == 4
    else:
        assert (view.cost.unresolved, accounts.repaid_in_window, paid) == (unresolved, unresolved, payments)
        assert view.cost.wasted == (provider.journal[0].cost if kind == "reject" else 0)
