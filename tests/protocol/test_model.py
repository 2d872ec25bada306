"""The commit protocol against a model (``tests/faults/model_machine.py``): three workers, commits of one run side by
side, and a network that loses, delays and swallows. On two servers, and on a slow second implementation of fencing that
watches the head in every commit.
"""

from __future__ import annotations

import pytest
from faults import model
from faults.model_courses import FATES
from faults.tally import Tally

OUTCOMES = (
    *("open: NoneType", "open: RunBusy", "open: RunDeleted", "open: CommitUnknown", "open: StoreUnavailable"),
    *("commit: Committed", "commit: Superseded", "commit: LeaseLost", "commit: RunDeleted"),
    *("commit: CommitUnknown", "commit: StoreUnavailable"),
    *("reject: Committed", "reject: LeaseLost", "close: NoneType", "renew: NoneType", "sweep: int"),
    *("delete: NoneType", "delete: Busy", "look: Reading", "look: RunNotFound", "at rest", "3 in flight"),
)
"""What a search must have come to, or it has judged nothing."""


def holds(tally: Tally, *reached: str) -> None:
    assert not tally.violations, tally.violations[0]
    missing = [what for what in reached if not tally.notes.get(what)]
    assert not missing, f"the search never came to: {missing}"
    assert tally.fired > tally.scenarios / 4


def test_nothing_is_lost_doubled_or_written_by_a_stale_worker() -> None:
    holds(model.search(200, number=1), *OUTCOMES, *FATES)


def test_the_same_holds_on_a_real_server(embedded_url: str) -> None:
    holds(
        model.search(60, number=2, url=embedded_url), "commit: Committed", "commit: Superseded", "3 in flight", *FATES
    )


def test_the_same_holds_where_each_commit_watches_the_head() -> None:
    holds(model.search(80, number=3, second=True), "commit: Committed", "commit: Superseded", "3 in flight", *FATES)


def test_a_seed_plays_the_same_examples_again() -> None:
    assert model.search(10, number=4).notes == model.search(10, number=4).notes
    assert model.search(10, number=4).notes != model.search(10, number=5).notes


@pytest.mark.parametrize("seed", ["1x10"])
def test_a_violations_seed_can_be_replayed(seed: str) -> None:
    tally = model.replay(seed)
    assert tally.scenarios >= 10 and not tally.violations
