"""A server that forgets (``tests/faults/rollback.py``), and what becomes of a run that lost one of its keys."""

from __future__ import annotations

import secrets
from collections import Counter

import pytest
from faults import rollback
from memory_runs import ask
from test_model import holds

import agentcheckpoint as ac
from agentcheckpoint.core.ids import run_tag
from agentcheckpoint.store.keys import RunKeys

REACHED = ("went back", "commit: Committed", "commit: CheckpointsLost", "commit: LeaseLost", "open: CheckpointsLost")

VERDICTS: dict[str, type[ac.AgentCheckpointError] | None] = {
    "head": ac.CheckpointsLost,
    "log": ac.CheckpointsLost,
    "results": ac.CheckpointsLost,
    "meta": ac.CheckpointsLost,
    "lease": None,  # no correctness rests on it
    "tokens": None,  # they only tell a lost head from a new run, and a deletion where to look
    "waste": None,  # nothing tells that it was there: what a replaced worker paid is forgotten
}
"""What a run says when it is opened without this key; ``None``: nothing, it goes on."""


def test_who_was_told_that_something_is_stored_notices_that_it_is_gone() -> None:
    holds(rollback.search(150, number=1), *REACHED, "key evicted", "key overwritten", "commit: CheckpointCorrupt")


def test_the_same_holds_on_a_real_server(embedded_url: str) -> None:
    holds(rollback.search(50, number=2, url=embedded_url), "went back", "commit: Committed", "commit: CheckpointsLost")


def test_a_step_that_is_done_again_after_a_refusal_that_has_vanished_is_told_of_the_loss() -> None:
    """The refusal goes with a deletion, and the deletion with the rollback: the slot then has two records."""
    reached: Counter[str] = Counter()
    played = type("Played", (rollback.Rollback,), {"reached": reached})()
    played.one_is_at_work()
    played._at_once(lambda: played.begin_to_commit(0, 1, 1))
    played.a_backup_is_made()
    played._at_once(lambda: played.begin_to_reject(0, 0))
    played.begin_to_commit(0, 1, 1)
    (again,) = played.courses
    played.the_lease_expires()
    played._at_once(lambda: played.begin_to_delete(1, 3, 1))
    assert played.truth.deleted
    played.it_goes_back(0, connections_live=True)
    played.let_it_end(again)
    assert [entry.k for entry in played.truth.world.entries].count("done") == 2
    assert reached["commit: CheckpointsLost"] == 1
    played.teardown()


@pytest.mark.filterwarnings("ignore::agentcheckpoint.errors.DurabilityWarning")
@pytest.mark.parametrize(("key", "error"), VERDICTS.items())
def test_a_run_that_lost_a_key_says_so_or_does_not_need_it(
    key: str, error: type[ac.AgentCheckpointError] | None, server_url: str
) -> None:
    run_id = f"run-{secrets.token_hex(6)}"
    keys = RunKeys(run_tag("default", run_id))
    with ac.run(run_id, store=server_url) as run:
        run.step("s", pay, "paid")
        head = ask(server_url, "GET", keys.head).decode()
        name = getattr(keys, key) if key in ("head", "tokens", "waste") else getattr(keys, key)(head)
        if key == "waste":
            ask(server_url, "HSET", name, "a", '{"id":"a","bill":"wasted","slot":"s","cost":7}')
        elif key != "lease":
            assert ask(server_url, "EXISTS", name) == 1
    if key == "waste":
        assert ac.get(run_id, store=server_url).cost.wasted == 7
    ask(server_url, "DEL", name)
    if error is None:
        assert ac.get(run_id, store=server_url).cost.wasted == 0
        with ac.run(run_id, store=server_url) as run:
            assert run.step("s", never, "paid") == "paid"
        return
    for _ in range(2):  # the first claim leaves it as it is: it is not mended by being opened
        with pytest.raises(error, match=run_id), ac.run(run_id, store=server_url):
            raise AssertionError("it was opened")
        with pytest.raises(error, match=run_id):
            ac.get(run_id, store=server_url)


def pay(value: str) -> str:
    return value


def never(value: str) -> str:
    raise AssertionError("it is called again")
