"""Agents are killed at random moments until they are done; their accounts are settled with what they really paid."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from killed_agents import TOOLS, TURNS, think_slot
from memory_runs import leased
from servers import embedded_url

import agentcheckpoint as ac
from agentcheckpoint.core.models import Done

pytestmark = pytest.mark.filterwarnings("ignore::agentcheckpoint.errors.DurabilityWarning")
__all__ = ["embedded_url"]

KILLS = 40


@dataclass
class Diary:
    """What an agent wrote down: payments and what it saw, by slot, in their order; and its last word."""

    paid: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    seen: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    done: list[list[str]] = field(default_factory=list[list[str]])

    @classmethod
    def read(cls, path: Path) -> Diary:
        diary = cls()
        for line in path.read_text().splitlines():
            what, slot, value = json.loads(line)
            if what == "paid":
                diary.paid[slot].append(value)
            elif what == "seen":
                diary.seen[slot].add(value)
            else:
                diary.done.append(value)
        return diary


@pytest.fixture(scope="module")
def diaries(embedded_url: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Diary]:
    directory = tmp_path_factory.mktemp("diaries")
    script = Path(__file__).parent / "killed_agents.py"
    command = [sys.executable, str(script), str(directory), embedded_url, "20261124", str(KILLS)]
    assert int(subprocess.check_output(command, text=True, timeout=280)) >= KILLS
    return {path.name: Diary.read(path) for path in sorted(directory.iterdir())}


def records(url: str, run_id: str) -> dict[str, Done]:
    """The run's checkpoints; none stands in a slot that was taken."""
    found = [entry for entry in ac.get(run_id, store=url).entries if isinstance(entry, Done)]
    assert len({done.slot for done in found}) == len(found)
    return {done.slot: done for done in found}


def test_the_agents_were_killed_and_are_done(diaries: dict[str, Diary], embedded_url: str) -> None:
    lives = 0
    for run_id, diary in diaries.items():
        view = ac.get(run_id, store=embedded_url)
        assert view.state == "completed"
        assert len(records(embedded_url, run_id)) == TURNS * (1 + TOOLS + 2)
        assert diary.done
        assert not leased(embedded_url, run_id)
        lives += len(view.attempts)
    assert lives >= len(diaries) + KILLS / 4, "nearly all were killed before they had opened their run"


def test_nothing_was_paid_after_its_commit(diaries: dict[str, Diary], embedded_url: str) -> None:
    for run_id, diary in diaries.items():
        outer = {f"deep{turn}" for turn in range(TURNS)}
        assert set(diary.paid) == records(embedded_url, run_id).keys() - outer
        for slot, payments in diary.paid.items():
            assert diary.seen[slot] == {payments[-1]}, f"{slot}: the payment that is recorded was not the last"


def test_what_was_paid_again_is_unresolved(diaries: dict[str, Diary], embedded_url: str) -> None:
    for run_id, diary in diaries.items():
        view = ac.get(run_id, store=embedded_url)
        for slot, payments in diary.paid.items():
            bills = [entry.bill for entry in view.ledger if entry.slot == slot]
            if "think" in slot:
                assert bills.count("paid") == 1
                assert bills.count("unresolved") == len(bills) - 1 >= len(payments) - 1
            else:
                assert bills == []
        assert (view.cost.paid, view.cost.wasted) == (2 * TURNS * 1_000_000, 0)


def test_all_lives_saw_the_same_results_and_the_last_returned_them(diaries: dict[str, Diary]) -> None:
    order = [think_slot(turn) for turn in range(TURNS)]
    for diary in diaries.values():
        for results in diary.done:  # one that was killed after its last word lived again
            assert results == diary.done[0]
        assert diary.done[0][:: TOOLS + 2] == [diary.paid[slot][-1] for slot in order]
        assert set(diary.done[0]) == {payments[-1] for payments in diary.paid.values()}


def test_some_died_between_paying_and_committing(diaries: dict[str, Diary]) -> None:
    assert any(len(payments) > 1 for diary in diaries.values() for payments in diary.paid.values())
