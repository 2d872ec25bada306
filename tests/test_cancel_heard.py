"""An end that is asked for where nothing else would look: between two tries without a wait, and as a run suspends."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from unittest import mock

import pytest
import tenacity

import agentcheckpoint as ac
from agentcheckpoint import opening
from agentcheckpoint.store.effects import Protocol

pytestmark = pytest.mark.filterwarnings("ignore::agentcheckpoint.DurabilityWarning")


@pytest.fixture
def store() -> Iterator[ac.Store]:
    yield ac.connect(f"memory://{secrets.token_hex(4)}")


def test_no_further_try_is_made_once_the_end_is_heard_though_no_time_is_waited(store: ac.Store) -> None:
    tries: list[int] = []

    def pay() -> None:
        tries.append(1)
        ac.cancel("run", store=store)
        raise ValueError("not yet")

    policy = tenacity.Retrying(stop=tenacity.stop_after_attempt(5), wait=tenacity.wait_none())
    with pytest.raises(ac.Interrupted), ac.run("run", store=store) as run:
        run.step(ac.Step("pay", retry=policy), pay)
    assert (len(tries), ac.get("run", store=store).state) == (1, "cancelled")


def test_an_end_that_is_asked_for_as_the_run_suspends_is_noted_by_the_next_sweep(store: ac.Store) -> None:
    end_attempt = opening.end_attempt

    def asked_before(*args: object) -> Protocol[None]:
        assert not ac.cancel("run", store=store), "somebody still works on it"
        return end_attempt(*args)  # type: ignore[arg-type]

    with mock.patch.object(opening, "end_attempt", asked_before):
        with pytest.raises(ac.Suspended), ac.run("run", store=store) as run:
            run.wait_for("question", str)
    assert ac.sweep(store=store).cancelled == ["run"]
    assert ac.get("run", store=store).state == "cancelled"
