"""A run that is being worked on is looked at again and again: its worker may die long before its lease runs out."""

from __future__ import annotations

import secrets

import agentcheckpoint as ac
from agentcheckpoint.core.lifecycle import LOOK_MS, Standing, what_to_do
from agentcheckpoint.store.connect import connect
from agentcheckpoint.store.index import ask
from agentcheckpoint.store.keys import due_key


def held(held_ms: int) -> Standing:
    return Standing(state="running", due_ms=None, held_ms=held_ms, cancelled=False, agent="a")


def test_a_held_run_is_looked_at_again_before_its_lease_runs_out() -> None:
    assert what_to_do(held(30_000), 5) == ("later", 5 + LOOK_MS)
    assert what_to_do(held(LOOK_MS // 2), 5) == ("later", 5 + LOOK_MS // 2)


def test_a_run_that_was_opened_just_now_is_looked_at_soon() -> None:
    store = connect(f"memory://{secrets.token_hex(8)}")
    with ac.run("looked-at", store=store):
        time, due = store.run(ask(("TIME",), ("ZSCORE", due_key("default"), "looked-at")))
    assert float(due) <= int(time[0]) * 1000 + int(time[1]) // 1000 + LOOK_MS
