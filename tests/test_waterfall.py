"""The card of a run, which has its steps as a table and as a picture; and a run as records and data frames."""

from __future__ import annotations

import re
import sys
import xml.etree.ElementTree as ET
from decimal import Decimal
from typing import Any

import pytest
from memory_runs import fresh

import agentcheckpoint as ac
from agentcheckpoint.core.foresight import Foreseen
from agentcheckpoint.core.models import Done, Failed, Failure, Inputs, LogEntry, Opened, Payload
from agentcheckpoint.core.spans import timeline
from agentcheckpoint.notebook.lists import RunList
from agentcheckpoint.notebook.telling import mismatch_card
from agentcheckpoint.show.card import MOST, RunFacts, run_card
from agentcheckpoint.show.picture import waterfall_picture

HOSTILE = "<script>alert('x')</script>\x1b[31m\u202e&\"'"
OPENED = Opened(id="o", at=0, attempt=1, worker="me")


def done(slot: str, start: int, end: int, **more: Any) -> Done:
    return Done(
        id=f"{slot}-{end}", at=end, slot=slot, inputs=Inputs(digest=""), payload=Payload(size=1), ms=end - start, **more
    )


def failed(slot: str, start: int, end: int) -> Failed:
    return Failed(id=f"{slot}-{end}", at=end, slot=slot, error=Failure(type="E", message=""), ms=end - start)


def facts(entries: list[LogEntry], name: str = "r") -> RunFacts:
    return RunFacts(name, "completed", 1, ac.CostReport(), [OPENED, *entries], say=[name])


def test_a_card_has_no_script_and_everything_in_it_is_escaped() -> None:
    card = str(run_card(facts([done(HOSTILE, 0, 9), failed(f"x[{HOSTILE}]", 9, 20)], HOSTILE)))
    error = ac.StepMismatch("m", run_id=HOSTILE, step=HOSTILE)
    error.differences = ((HOSTILE, HOSTILE, HOSTILE),)
    for html in (card, str(mismatch_card(error, HOSTILE))):
        assert "alert(" in html and "<script" not in html and "\x1b" not in html and "\u202e" not in html
        ET.fromstring(html)  # nothing breaks out of its element
        assert not re.search(r"\son\w+=|javascript:|https?://(?!www\.w3\.org/2000/svg)", html)


def test_a_card_is_bounded_whatever_the_run_is() -> None:
    def size(n: int) -> int:
        entries: list[LogEntry] = [done(f"step-{k:06}" + "x" * 200, k, k + 1) for k in range(n)]
        return len(str(run_card(facts(entries))))

    assert size(MOST) < size(5000) < size(MOST) + 1000
    tries: list[LogEntry] = [failed("a", k, k + 1) for k in range(20_000)]
    assert len(str(waterfall_picture(timeline([OPENED, *tries])))) < 150_000


def test_a_card_is_light_and_dark_and_says_states_in_words() -> None:
    card = str(run_card(facts([done("a", 0, 9)])))
    assert "prefers-color-scheme:dark" in card and "✓ completed" in card and 'role="img"' in card
    assert ET.fromstring(card).find(".//svg") is not None or "<svg" in card


@pytest.fixture
def seen() -> ac.RunView:
    url = fresh()
    with ac.run("r", store=url) as run:
        run.step(ac.Step("paid", cost="0.01"), int)
        run.step("free", int)
    return ac.get("r", store=url)


KEYS = {
    *("step", "kind", "outcome", "attempts", "took_ms", "input_tokens", "output_tokens", "cost_nano_usd"),
    *("cost_is_whole", "size_bytes", "at"),
}


def test_records_of_a_run_are_exact(seen: ac.RunView) -> None:
    assert all(row.keys() == KEYS for row in seen.to_records())
    assert [(row["step"], row["cost_nano_usd"]) for row in seen.to_records()] == [("paid", 10_000_000), ("free", None)]


def test_what_can_be_shown_has_text_and_html(seen: ac.RunView) -> None:
    for value in (seen, seen.cost):
        bundle = value._repr_mimebundle_()
        assert bundle["text/plain"] == str(value) and bundle["text/html"] == value._repr_html_()


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_a_data_frame_needs_its_library_and_says_so(
    seen: ac.RunView, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ac.NotInstalled, match=f"pip install {library}"):
        getattr(seen, f"to_{library}")()


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_records_become_a_data_frame(seen: ac.RunView, library: str) -> None:
    frames = pytest.importorskip(library, reason="data frames are an extra of the tests (pandas, polars)")

    def frame(value: Any) -> Any:
        made = getattr(value, f"to_{library}")()
        assert isinstance(made, frames.DataFrame) and list(made.columns) == list(value.to_records()[0])
        return made

    steps = frame(seen)
    assert steps.shape == (2, len(KEYS)) and list(steps["step"]) == ["paid", "free"]
    assert steps["cost_nano_usd"][0] == 10_000_000
    assert list(frame(seen.cost)["attempts"]) == [1]
    listed = frame(RunList((seen,)))
    assert (listed["run"][0], listed["spent_usd"][0], listed["steps"][0]) == ("r", Decimal("0.01"), 2)
    foreseen = (Foreseen("paid", "llm", "again", True, 5, False), Foreseen("free", None, "reused", False, None, False))
    assert list(frame(ac.Preview("r", "default", "resume", "r", None, True, foreseen))["paid"]) == [True, False]
