"""``demo --live``: a provider that is taken from the environment, and shows no journal; here it is on loopback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from faults.servers import Server
from typer.testing import CliRunner

import agentcheckpoint as ac
from agentcheckpoint.cli.main import app
from agentcheckpoint.demo.loopback import loopback
from agentcheckpoint.store.server_binary import find_binary
from agentcheckpoint.testing.payments import read_payments

pytestmark = pytest.mark.filterwarnings("ignore::agentcheckpoint.errors.DurabilityWarning")

NEW = {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}


def test_a_kill_costs_nothing_that_was_stored_and_what_has_no_price_is_unknown(tmp_path: Path) -> None:
    documents, journal = tmp_path / "documents", tmp_path / "journal"
    documents.mkdir()
    (documents / "keeper.md").write_text("# The keeper\n\nThe lighthouse keeper counts the ships for the harbour.\n")
    store = f"unix://{tmp_path}/socket"
    with Server(str(find_binary()), tmp_path), loopback(journal, 0.0) as url:
        words = ["demo", "Why count ships?", "--live", "--docs", str(documents), "--model", "who-knows", "-o", "json"]
        ran = subprocess.run(
            [sys.executable, "-m", "agentcheckpoint", *words, "--kill-after", "4", "--store", store],
            env={**os.environ, **NEW, "OPENAI_BASE_URL": url, "OPENAI_API_KEY": "sk-quiet"},
            capture_output=True,
            text=True,
            timeout=250,
        )
        assert ran.returncode == 0, ran.stderr
        told = json.loads(ran.stdout)
        seen = ac.get(told["run_id"], store=store)
    payments = read_payments(journal)
    assert (told["kills"], told["kills_asked"], told["bought_twice"]) == (1, 1, 0)
    assert {entry.model for entry in seen.ledger} == {"who-knows"} and told["calls"] == len(seen.ledger)
    # A call that was under way at the kill may have reached the provider or not: it is unresolved.
    assert told["calls"] - told["unresolved"] <= len(payments) <= told["calls"] and told["unresolved"] <= 1
    assert told["replayed"] > 0 and told["spent_nano_usd"] is None and told["saved_nano_usd"] is None
    assert "paid — for" in ran.stderr and "who-knows at 127.0.0.1, which costs money" in ran.stderr
    assert "sk-quiet" not in ran.stdout + ran.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--live"], "OPENAI_API_KEY"),
        (["--live", "--seed", "1"], "--seed"),
        (["--model", "gpt-5-mini"], "--live"),
    ],
)
def test_what_cannot_be_is_said_before_money_is_spent(words: list[str], says: str) -> None:
    key = {} if says == "OPENAI_API_KEY" else {"OPENAI_API_KEY": "sk-x"}
    ran = CliRunner().invoke(app, ["demo", *words], env={"OPENAI_API_KEY": None, **key})
    assert (ran.exit_code, ran.stdout) == (2, "") and says in ran.stderr
