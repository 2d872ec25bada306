"""Warnings that are errors, at the places where a model call gives them: nothing is asked for again for one."""

from __future__ import annotations

from typing import Any

import pytest
from asking import MODEL, bills, chat, is_last_word, recorded, sync_client
from memory_runs import leased

import agentcheckpoint as ac
from agentcheckpoint.testing.brain import Answer, scripted
from agentcheckpoint.testing.provider import Provider

pytestmark = pytest.mark.filterwarnings("error::agentcheckpoint.errors.AgentCheckpointWarning")


def test_a_stream_that_is_cut(url: str) -> None:
    with Provider(scripted(Answer(text="one two three", cut_after=3, cut_clean=True), "whole")) as provider:
        with sync_client(provider) as client, ac.run("r", store=url) as run:
            with pytest.raises(ac.UnrecordedCallWarning, match="terminal"):
                list(chat(client, stream=True))
            assert run.cost.unresolved == 1
            assert chat(client).choices[0].message.content == "whole"
        assert len(provider.requests) == 2
    assert sorted(bills(url)) == ["paid", "unresolved"]
    assert not leased(url, "r")


def test_a_call_that_is_never_a_step_is_refused_before_it_is_paid(
    url: str, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agentcheckpoint.openai.modelcall._said", set())
    with sync_client(provider) as client, ac.run("r", store=url) as run:
        with pytest.raises(ac.UnrecordedCallWarning, match="images"):
            client.images.generate(prompt="x", model=MODEL)
        assert run.step("next", int) == 0
    assert provider.requests == []


def test_a_stream_whose_end_comes_with_the_runs_end(url: str, provider: Provider) -> None:
    def leave(client: Any) -> None:
        assert any(is_last_word(event) for event in chat(client, stream=True))

    with sync_client(provider) as client:
        with ac.run("r", store=url) as run:
            run.step("old", int)
        with pytest.raises(ac.UnmetStepsWarning), ac.run("r", store=url):
            leave(client)
    assert "chat" in recorded(url)
    assert ac.get("r", store=url).state == "completed"
