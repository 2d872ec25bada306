"""``ac.get`` and ``ac.delete``: looking at a run and deleting it, without working on it."""

from __future__ import annotations

import time
import uuid

import pytest

import agentcheckpoint as ac
from agentcheckpoint.core.ids import run_tag
from agentcheckpoint.core.models import Closed
from agentcheckpoint.core.pricing import Price
from agentcheckpoint.store.effects import Packet, Protocol
from agentcheckpoint.store.keys import RunKeys


@pytest.fixture
def url() -> str:
    return f"memory://{uuid.uuid4().hex}"


PRICES = {"m": Price(input="1", output="2")}


def ask(question: str) -> str:
    return f"answer to {question}"


def llm(name: str = "ask", *, accept: bool = True, tokens: int | None = 1_000_000) -> ac.Step:
    """A paid step that costs $1 for a million tokens."""
    usage = None if tokens is None else ac.Usage(input_tokens=tokens)
    return ac.Step(name, model="m", prices=PRICES, usage=lambda _: usage, accept=lambda _: accept)


def expire_lease(run_id: str) -> Protocol[None]:
    keys = RunKeys(run_tag("default", run_id))
    (head,) = yield Packet((("GET", keys.head),))
    yield Packet((("DEL", keys.lease(head.decode())),))


def test_a_view_shows_state_attempts_steps_and_money(url: str) -> None:
    with pytest.raises(TimeoutError), ac.run("r", store=url) as run:
        run.llm(llm(), ask, "a")
        with pytest.raises(ac.StepRejected):
            run.llm(llm("bad", accept=False), ask, "b")
        raise TimeoutError
    view = ac.get("r", store=url)
    assert (view.id, view.namespace, view.state, view.attempt) == ("r", "default", "retryable", 1)
    assert [(row.slot, row.kind, row.outcome) for row in view.steps] == [
        ("ask", "llm", "done"),
        ("bad", "llm", "failed"),
    ]
    assert (view.cost.paid, view.cost.wasted, view.cost.saved) == (10**9, 10**9, 0)
    assert {entry.bill for entry in view.ledger} == {"paid", "wasted"}

    with ac.run("r", store=url) as run:
        run.llm(llm(), ask, "a")
    view = ac.get("r", store=url)
    assert (view.state, view.attempt) == ("completed", 2)
    assert [row.number for row in view.attempts] == [1, 2]
    assert (view.cost.spent, view.cost.saved, view.cost.replayed) == (2 * 10**9, 10**9, 1)
    assert [entry.k for entry in view.entries if entry.k in ("birth", "opened", "closed")] == [
        "birth",
        "opened",
        "closed",
        "opened",
        "closed",
    ]


def test_what_all_attempts_saved_is_summed(url: str) -> None:
    for _ in range(3):
        with ac.run("r", store=url) as run:
            run.llm(llm(), ask, "a")
    assert (ac.get("r", store=url).cost.saved, ac.get("r", store=url).cost.replayed) == (2 * 10**9, 2)


def test_an_unknown_cost_is_not_zero(url: str) -> None:
    with ac.run("r", store=url) as run:
        run.llm(llm(tokens=None), ask, "a")
    view = ac.get("r", store=url)
    assert view.ledger[0].cost is None
    assert view.cost.unpriced == 1
    assert "spent unknown" in str(view)


def test_a_view_is_read_while_a_worker_is_at_the_run_and_does_not_disturb_it(url: str) -> None:
    with ac.run("r", store=url) as run:
        run.step("one", ask, "a")
        view = ac.get("r", store=url)
        assert view.state == "running"
        assert [row.slot for row in view.steps] == ["one"]
        run.step("two", ask, "b")
    assert not any(isinstance(entry, Closed) for entry in view.entries), "a view does not change"


def test_waste_booked_by_a_worker_that_was_fenced_off_is_counted(url: str) -> None:
    def overtaken(question: str) -> str:
        ac.connect(url).run(expire_lease("r"))
        with ac.run("r", store=url):
            pass
        return question

    with pytest.raises(ac.LeaseLost), ac.run("r", store=url) as slow:
        slow.llm(llm(), overtaken, "a")
    view = ac.get("r", store=url)
    assert view.state == "completed"
    assert (view.cost.paid, view.cost.wasted) == (0, 10**9)
    assert [entry.bill for entry in view.ledger] == ["wasted"]


def test_a_view_is_printed_as_a_line_and_a_table_and_no_stored_text_escapes_it(url: str) -> None:
    with ac.run("r\u202e 1", store=url) as run:
        run.step(ac.Step("fetch", key="a\u202eb"), ask, "a")
    head, title, row = str(ac.get("r\u202e 1", store=url)).splitlines()
    assert head == r"run r\u202e 1 · completed · attempt 1 · spent $0.00"
    assert title.split()[:3] == ["step", "kind", "outcome"]
    assert row.startswith(r"fetch[a\u202eb]")


def test_there_is_no_view_of_a_run_that_is_not_there(url: str) -> None:
    with pytest.raises(ac.RunNotFound, match=r"'r'.*no such run"):
        ac.get("r", store=url)
    with ac.run("r", store=url, namespace="other"):
        pass
    with pytest.raises(ac.RunNotFound):
        ac.get("r", store=url)
    assert ac.get("r", store=url, namespace="other").state == "completed"
    with pytest.raises(ac.InvalidName):
        ac.get("", store=url)


def test_a_deleted_run_is_gone_and_its_id_stays_taken(url: str) -> None:
    with ac.run("r", store=url) as run:
        run.step("one", ask, "a")
    ac.delete("r", store=url)
    with pytest.raises(ac.RunNotFound, match="deleted"):
        ac.get("r", store=url)
    time.sleep(0.002)  # a delete of the same millisecond would be taken for the first one, sent again
    with pytest.raises(ac.RunNotFound):
        ac.delete("r", store=url)
    with pytest.raises(ac.RunDeleted), ac.run("r", store=url):
        pass


def test_a_run_that_somebody_works_on_is_not_deleted(url: str) -> None:
    with ac.run("r", store=url) as run:
        with pytest.raises(ac.RunBusy) as busy:
            ac.delete("r", store=url)
        assert busy.value.run_id == "r"
        assert busy.value.ttl > 0
        run.step("one", ask, "a")
    ac.delete("r", store=url)


def test_a_run_that_is_not_there_cannot_be_deleted(url: str) -> None:
    with pytest.raises(ac.RunNotFound):
        ac.delete("r", store=url)


def test_what_could_not_be_priced_is_no_saving_of_nothing(url: str) -> None:
    for _ in range(2):
        with ac.run("r", store=url) as run:
            run.llm("ask", str)
    assert str(run.cost) == "spent unknown · saved unknown (1 step replayed, 1 unpriced) · 1 unpriced"
    assert str(ac.get("r", store=url).cost) == str(run.cost)
