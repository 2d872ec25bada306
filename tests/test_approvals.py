"""``approve=``: a person is asked before a step is called the first time, and what he says stays so."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from memory_runs import fresh, logged

import agentcheckpoint as ac
from agentcheckpoint import approving
from agentcheckpoint.core.models import Waiting

pytestmark = pytest.mark.filterwarnings("ignore::agentcheckpoint.errors.UnmetStepsWarning")


class Shop:
    """Tools that pay out money."""

    def __init__(self) -> None:
        self.paid: list[tuple[int, str]] = []

    @ac.tool(approve=True)
    def refund(self, order: int, amount: str) -> str:
        """Pays money back."""
        self.paid.append((order, amount))
        return f"refunded {order}"

    @ac.tool(approve=lambda self, order: f"Cancel order {order}?")
    async def cancel(self, order: int) -> str:
        self.paid.append((order, "cancelled"))
        return "cancelled"


def suspends(url: str, call: Any) -> ac.Suspended:
    with pytest.raises(ac.Suspended) as caught, ac.run("r", store=url):
        call()
    return caught.value


def test_a_tool_is_called_once_it_is_approved_and_never_before() -> None:
    url, shop = fresh(), Shop()
    for _ in range(2):
        suspends(url, lambda: shop.refund(7, "120 €"))
    (question,) = ac.waiting(store=url)
    assert question.name == "refund/approve" and shop.paid == []
    assert question.prompt == "May refund be called with?\n  order = 7\n  amount = '120 €'"
    ac.answer("r", "refund", {"ok": True}, by="ada", store=url)
    for _ in range(2):
        with ac.run("r", store=url):
            assert shop.refund(7, "120 €") == "refunded 7"
    assert shop.paid == [(7, "120 €")]


def test_a_no_is_an_error_with_the_note_and_the_same_on_every_replay() -> None:
    url, shop = fresh(), Shop()
    suspends(url, lambda: shop.refund(7, "120 €"))
    ac.answer("r", "refund/approve", ac.Approval(False, "too much"), store=url)
    for _ in range(2):
        with ac.run("r", store=url), pytest.raises(ac.NotApproved, match="too much") as caught:
            shop.refund(7, "120 €")
        assert (caught.value.note, caught.value.step) == ("too much", "refund")
    assert shop.paid == []


def test_a_yes_is_to_these_arguments_alone() -> None:
    """Even if the prompt does not show what has changed."""
    url, shop = fresh(), list[str]()
    pay = ac.Step("pay", approve="Pay the bill?")
    with pytest.raises(ac.Suspended), ac.run("r", store=url) as run:
        run.step(pay, shop.append, "1 €")
    ac.answer("r", "pay", {"ok": True}, store=url)
    with pytest.raises(ac.Suspended), ac.run("r", store=url) as run:
        run.step(pay, shop.append, "1,000 €")
    assert shop == [] and len(ac.waiting(store=url)) == 1


def test_without_the_arguments_in_the_question_a_yes_would_do_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    plan_wait = approving.plan_wait
    monkeypatch.setattr(approving, "plan_wait", lambda *args, about, **more: plan_wait(*args, **more))
    with pytest.raises(pytest.fail.Exception):  # it is not suspended: it pays
        test_a_yes_is_to_these_arguments_alone()


def test_parallel_calls_are_approved_one_by_one() -> None:
    url, shop = fresh(), Shop()

    def both() -> list[object]:
        said: list[object] = []
        for call_id, order in (("a", 1), ("b", 2)):
            try:
                said.append(shop.refund.call({"order": order, "amount": "5 €"}, id=call_id))
            except ac.NotApproved as exc:
                said.append(exc.note)
        return said

    suspends(url, both)
    ac.answer("r", "refund[a]/approve", {"ok": False, "note": "no"}, store=url)
    suspends(url, both)
    ac.answer("r", "refund[b]/approve", {"ok": True}, store=url)
    with ac.run("r", store=url):
        assert both() == ["no", "refunded 2"]
    assert shop.paid == [(2, "5 €")]


def test_an_approval_outlives_a_step_that_fails() -> None:
    url, tries = fresh(), list[int]()

    def shaky() -> str:
        tries.append(1)
        if len(tries) == 1:
            raise ConnectionError("try again")
        return "done"

    step = ac.Step("shaky", approve="Go?")
    with pytest.raises(ac.Suspended), ac.run("r", store=url) as run:
        run.step(step, shaky)
    ac.answer("r", "shaky", {"ok": True}, store=url)
    with pytest.raises(ConnectionError), ac.run("r", store=url) as run:
        run.step(step, shaky)
    with ac.run("r", store=url) as run:
        assert run.step(step, shaky) == "done"
    assert len(logged(url, "r", Waiting)) == 1


async def test_an_async_tool_and_a_prompt_made_from_its_arguments() -> None:
    url, shop = fresh(), Shop()
    with pytest.raises(ac.Suspended):
        async with ac.run("r", store=url):
            await asyncio.gather(shop.cancel(1), shop.cancel(2))
    prompts = sorted(question.prompt or "" for question in ac.waiting(store=url))
    assert prompts == ["Cancel order 1?", "Cancel order 2?"]
    for question in ac.waiting(store=url):
        ac.answer("r", question.name, {"ok": True}, store=url)
    async with ac.run("r", store=url):
        assert await asyncio.gather(shop.cancel(1), shop.cancel(2)) == ["cancelled", "cancelled"]


def test_a_step_is_paid_for_after_it_is_approved() -> None:
    url = fresh()
    step = ac.Step("search", cost="0.10", approve=True)
    with pytest.raises(ac.Suspended), ac.run("r", store=url) as run:
        run.step(step, str, "x")
    assert ac.get("r", store=url).ledger == ()
    ac.answer("r", "search", {"ok": True}, store=url)
    with ac.run("r", store=url) as run:
        run.step(step, str, "x")
    assert [entry.bill for entry in ac.get("r", store=url).ledger] == ["paid"]


def test_an_interrupting_prompt_is_refused() -> None:
    async def asks() -> str:
        return "?"

    with pytest.raises(ac.RunMisuse, match="async"):
        ac.Step("s", approve=asks)  # type: ignore[arg-type]
    with pytest.raises(ac.RunMisuse, match="not a str"), ac.run("r", store=fresh()) as run:
        run.step(ac.Step("s", approve=lambda: 3), int)  # type: ignore[arg-type,return-value]


def test_where_nobody_can_be_asked_it_is_not_called(monkeypatch: pytest.MonkeyPatch) -> None:
    shop, url = Shop(), fresh()
    with pytest.raises(ac.RunMisuse, match="no run is active"):
        shop.refund(7, "120 €")
    with ac.run("r", store=url) as run:
        with pytest.raises(ac.RunMisuse, match=r"run\.wait_for"):
            run.begin(ac.Step("draft", approve=True))
        with pytest.raises(ac.RunMisuse, match=r"run\.wait_for"):
            run.charge(ac.Step("fee", approve=True), "1")
    monkeypatch.setenv("AGENTCHECKPOINT", "off")
    with ac.run("r") as run:
        with pytest.raises(ac.RunMisuse, match="AGENTCHECKPOINT=off"):
            shop.refund(7, "120 €")
        with pytest.raises(ac.RunMisuse, match="AGENTCHECKPOINT=off"):
            run.step(ac.Step("pay", approve=True), shop.paid.append, (1, "x"))
    assert shop.paid == []
