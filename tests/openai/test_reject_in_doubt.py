"""A refusal of which nobody knows whether it is stored."""

from __future__ import annotations

from typing import Any

import pytest
from asking import bills, chat, sync_client

import agentcheckpoint as ac
from agentcheckpoint.attempt import Attempt
from agentcheckpoint.core.models import Rejected
from agentcheckpoint.store.commit import Change
from agentcheckpoint.store.effects import Protocol
from agentcheckpoint.testing.provider import Provider


def test_a_refusal_of_unknown_fate_is_not_sent_again_by_its_attempt(
    url: str, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Attempt.store_change

    def applied_but_unanswered(self: Attempt, change: Change, *more: Any) -> Protocol[Any]:
        known = dict(self.money)
        outcome = yield from real(self, change, *more)
        if isinstance(change.entry, Rejected):
            self.money = known
            raise ac.CommitUnknown("the server went away")
        return outcome

    monkeypatch.setattr(Attempt, "store_change", applied_but_unanswered)
    with sync_client(provider) as client:
        with pytest.raises(ac.CommitUnknown, match="no more steps"), ac.run("r", store=url):
            answer = chat(client)
            with pytest.raises(ac.CommitUnknown, match="went away"):
                ac.reject(answer, "bad")
            ac.reject(answer, "bad")
        monkeypatch.undo()
        with ac.run("r", store=url):  # it would warn of totals that are not the sums
            chat(client)
    assert sum(isinstance(entry, Rejected) for entry in ac.get("r", store=url).entries) == 1
    assert bills(url) == ["wasted", "paid"]
