"""The demo, as processes: workers die by SIGKILL, and the account is settled with the provider's journal."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from faults.servers import until
from typer.testing import CliRunner

from agentcheckpoint import view
from agentcheckpoint.cli.main import app
from agentcheckpoint.demo import DemoFailed, play
from agentcheckpoint.demo.documents import count_documents, own_documents
from agentcheckpoint.demo.life import Life, live
from agentcheckpoint.demo.loopback import loopback
from agentcheckpoint.demo.points import Point, choose_points
from agentcheckpoint.demo.worker import Job
from agentcheckpoint.store.connect import connect
from agentcheckpoint.store.embedded import ensure_server, stop_server
from agentcheckpoint.testing.accounts import settle
from agentcheckpoint.testing.payments import read_payments

pytestmark = pytest.mark.filterwarnings("ignore::agentcheckpoint.errors.DurabilityWarning")

QUESTION = "Why does the lighthouse keeper count the ships?"
TEXTS = {
    "keeper.md": "# The keeper\n\nThe lighthouse keeper counts the ships because the harbour pays for each of them.\n"
    "He writes every ship into a ledger before the night is over.\n",
    "harbour/ledger.txt": "The ledger of the harbour names each ship once, and what it paid for the light.\n\n"
    "A ship that comes twice in a night pays once.\n",
    "storm.rst": "In a storm the lighthouse keeper trusts the ledger more than his memory of the ships.\n",
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The state directory of an embedded server."""
    home = tmp_path_factory.mktemp("state")
    yield home
    stop_server(home)


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("documents")
    for name, text in TEXTS.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    return folder


def demo(home: Path, *options: object, expect: int = 0) -> SimpleNamespace:
    """Run the command; its JSON, if it was asked for, is in ``data``."""
    ran = subprocess.run(
        [sys.executable, "-m", "agentcheckpoint", "demo", *map(str, options)],
        env={**os.environ, "AGENTCHECKPOINT_HOME": str(home), "AGENTCHECKPOINT_URL": ""},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert ran.returncode == expect, ran.stdout + ran.stderr
    data: Any = json.loads(ran.stdout) if "json" in options else None
    return SimpleNamespace(out=ran.stdout, err=ran.stderr, data=data)


@pytest.fixture(scope="module")
def unharmed(home: Path, documents: Path) -> dict[str, Any]:
    """The demo without a kill."""
    return demo(home, QUESTION, "--docs", documents, "--kills", 0, "--latency", 0, "-o", "json").data


def test_the_agent_answers_from_the_documents(unharmed: dict[str, Any]) -> None:
    assert "because the harbour pays for each of them. (keeper.md)" in unharmed["answer"]
    assert unharmed["kills"] == unharmed["saved_nano_usd"] == unharmed["replayed"] == 0
    assert 6 <= unharmed["provider_calls"] <= 10 < unharmed["steps"]
    assert unharmed["spent_nano_usd"] == unharmed["billed_nano_usd"] > 0


def test_three_random_kills_pay_nothing_twice_that_was_committed(
    home: Path, documents: Path, unharmed: dict[str, Any]
) -> None:
    ran = demo(home, QUESTION, "--docs", documents, "--kills", 3, "--seed", 4, "--latency", 0.1, "-o", "json")
    data = ran.data
    assert data["kills"] == 3 and data["problems"] == [] and data["paid_twice"] == 0
    assert data["provider_calls"] == unharmed["provider_calls"] + data["repaid_in_window"]
    assert data["billed_nano_usd"] == data["spent_nano_usd"] + data["unresolved_nano_usd"]
    assert (data["repaid_in_window"] > 0) == (data["unresolved_nano_usd"] > 0)
    assert data["replayed"] > 0 and data["saved_nano_usd"] > 0
    assert (data["answer"], data["steps"]) == (unharmed["answer"], unharmed["steps"])
    assert "life 4" in ran.err and "\x1b" not in ran.err


@pytest.mark.parametrize(("after", "kills"), [(1, 1), (4, 5), (19, 1)])
def test_a_worker_that_dies_right_after_a_commit_loses_nothing(
    home: Path, documents: Path, unharmed: dict[str, Any], after: int, kills: int
) -> None:
    options = ["--docs", documents, "--kill-after", after, "--kills", kills, "--latency", 0, "-o", "json"]
    data = demo(home, QUESTION, *options).data
    same = ("provider_calls", "billed_nano_usd", "spent_nano_usd", "steps", "answer")
    assert {name: data[name] for name in same} == {name: unharmed[name] for name in same}
    assert (data["kills"], data["paid_twice"], data["repaid_in_window"], data["problems"]) == (kills, 0, 0, [])
    assert (data["saved_nano_usd"] > 0) == (after > 1)  # the first commit is but the intent of the first call


def test_a_kill_that_comes_too_late_is_said(home: Path, documents: Path) -> None:
    ran = demo(home, QUESTION, "--docs", documents, "--kill-after", 999, "--latency", 0, "-o", "json")
    assert ran.data["kills"] == 0 and ran.data["kills_asked"] == 1
    assert "1 of 1 kills did not happen: the run ended first, after " in ran.err


def test_a_pipe_is_told_of_the_progress_on_stderr_every_few_steps(home: Path, documents: Path) -> None:
    ran = demo(home, QUESTION, "--docs", documents, "--kills", 0, "--latency", 0)
    told = [line for line in ran.err.splitlines() if line.startswith("life 1 · ")]
    assert [line.split(" · ")[1] for line in told][:2] == ["5 steps checkpointed", "10 steps checkpointed"]
    assert not [line for line in ran.out.splitlines() if "checkpointed" in line]


def test_only_documents_that_the_agent_will_read_are_counted(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "inside.md").write_text("inside")
    (folder / "code.py").write_text("no document")
    (tmp_path / "outside.md").write_text("outside")
    (folder / "link.md").symlink_to(tmp_path / "outside.md")
    (folder / "twin.md").symlink_to(folder / "inside.md")
    assert count_documents(folder) == 2


def test_the_story_says_what_was_replayed_and_paid(home: Path, documents: Path) -> None:
    lines = demo(home, QUESTION, "--docs", documents, "--kill-after", 8, "--latency", 0).out.splitlines()
    first, second = (next(line for line in lines if line.startswith(f"life {n}")) for n in (1, 2))
    assert "replayed nothing" in first and "paid $" in first and "killed after" in first
    assert "replayed " in second and "paid $" in second and second.endswith("finished")
    assert any(line.startswith("would have been paid again without replay") for line in lines)
    assert any(line.startswith("paid twice for a stored answer ") and line.endswith(" 0") for line in lines)
    assert lines[-1].startswith("✓ ledger and journal agree")
    assert not any("\x1b" in line for line in lines)


def test_a_payment_whose_worker_died_before_its_commit_is_bought_again_and_stays_unresolved(
    home: Path, documents: Path, tmp_path: Path
) -> None:
    url = ensure_server(home).url
    store = connect(url)
    def pays_again(life: Life, event: dict[str, Any]) -> None:
        if life.done == 2:
            until(lambda: len(read_payments(tmp_path / "journal")) == 2, "the second call is paid")

    with loopback(tmp_path / "journal", 1.5) as provider:
        job = Job("window", url, provider, str(documents), QUESTION)
        # Two steps are checkpointed: the model's first answer and the list. In the second call it dies.
        first = live(job, 0, Point(2, 0.0), tmp_path / "errors", pays_again)
    payments = read_payments(tmp_path / "journal")
    assert first.killed and len(payments) == 2
    lost = next(entry for entry in view.get("window", store=store).ledger if entry.id == payments[1].client_request_id)
    assert lost.bill == "unresolved"

    with loopback(tmp_path / "journal", 0) as provider:
        job = Job("window", url, provider, str(documents), QUESTION)
        second = live(job, 2, None, tmp_path / "errors", lambda life, event: None)
    assert (second.killed, second.replayed, second.saved) == (False, 2, payments[0].cost)
    payments = read_payments(tmp_path / "journal")
    accounts = settle(payments, view.get("window", store=store).ledger)
    assert (accounts.paid_twice, accounts.repaid_in_window, accounts.problems) == (0, 1, ())
    assert accounts.in_window == payments[1].cost and accounts.billed == accounts.spent + accounts.in_window
    assert payments[2].digest == payments[1].digest and payments[2].client_request_id != lost.id


def test_a_worker_that_fails_is_an_error_with_its_words(home: Path, documents: Path, tmp_path: Path) -> None:
    job = Job("a\nb", ensure_server(home).url, "http://127.0.0.1:9/v1", str(documents), QUESTION)
    with pytest.raises(DemoFailed, match="InvalidName"):
        live(job, 0, None, tmp_path / "errors", lambda life, event: None)


def test_a_worker_is_killed_when_its_parent_is_interrupted(home: Path, documents: Path, tmp_path: Path) -> None:
    def interrupt(life: Life, event: dict[str, Any]) -> None:
        raise KeyboardInterrupt

    with loopback(tmp_path / "journal", 0) as provider:
        job = Job("interrupted", ensure_server(home).url, provider, str(documents), QUESTION)
        with pytest.raises(KeyboardInterrupt):
            live(job, 0, None, tmp_path / "errors", interrupt)
        seen = read_payments(tmp_path / "journal")
        time.sleep(0.3)
        assert read_payments(tmp_path / "journal") == seen


def test_accounts_that_disagree_are_a_failure(
    home: Path, documents: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AGENTCHECKPOINT_HOME", str(home))
    # The provider bills what the ledger has not seen.
    monkeypatch.setattr(play, "read_payments", lambda path: [*read_payments(path), *read_payments(path)[:1]])
    ran = CliRunner().invoke(app, ["demo", QUESTION, "--docs", str(documents), "--kills", "0", "-o", "json"])
    assert ran.exit_code == 1
    data = json.loads(ran.stdout)
    assert data["paid_twice"] == 1 and "paid 2 times" in data["problems"][0]


def test_moments_are_spread_over_the_work_and_told_by_the_steps_done() -> None:
    points = choose_points([1.0, 1.5, 4.0], 2000, seed=1)
    assert points == choose_points([1.0, 1.5, 4.0], 2000, seed=1) != choose_points([1.0, 1.5, 4.0], 2000, seed=2)
    gaps = {0: 1.0, 1: 0.5, 2: 2.5}
    assert all(0 <= point.offset <= gaps[point.done] for point in points)
    shares = [sum(point.done == done for point in points) / 2000 for done in gaps]
    assert shares == pytest.approx([0.25, 0.125, 0.625], abs=0.05)
    assert [point.done for point in points] == sorted(point.done for point in points)


def test_without_a_folder_the_agent_reads_the_projects_own_documents(tmp_path: Path) -> None:
    own_documents(tmp_path)
    assert "agentcheckpoint" in (tmp_path / "README.md").read_text()
    checkout = Path(play.__file__).parents[2]
    assert sorted(p.name for p in (tmp_path / "docs").rglob("*")) == sorted(p.name for p in checkout.glob("docs/**/*"))


def test_an_installed_package_brings_the_documents_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = tmp_path / "site-packages" / "agentcheckpoint" / "demo" / "documents"
    (shipped / "docs").mkdir(parents=True)
    (shipped / "README.md").write_text("shipped")
    (shipped / "docs" / "protocol.md").write_text("shipped too")
    monkeypatch.setattr("agentcheckpoint.__file__", str(shipped.parents[1] / "__init__.py"))
    (tmp_path / "copy").mkdir()
    own_documents(tmp_path / "copy")
    assert (tmp_path / "copy" / "README.md").read_text() == "shipped"
    assert (tmp_path / "copy" / "docs" / "protocol.md").read_text() == "shipped too"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--docs", "{empty}"], "holds no .md, .rst or .txt file"),
        (["--docs", "{empty}/absent"], "does not exist"),
        (["--url", "memory://"], "dies with the worker"),
        (["--kill-after", "0"], "kill-after"),
        (["--kills", "-1"], "kills"),
    ],
)
def test_wrong_usage_is_refused_before_anything_starts(tmp_path: Path, options: list[str], message: str) -> None:
    ran = CliRunner().invoke(app, ["demo", *(option.format(empty=tmp_path) for option in options)])
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert message in ran.stderr
