"""Steps that must not happen twice: what leaves them in doubt, what settles it, and what is refused beforehand."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from counted import Counted
from memory_runs import fresh, logged, packets

import agentcheckpoint as ac
from agentcheckpoint import attempt as attempts
from agentcheckpoint.core.models import Done, Failed, Intent, Withdrawn

ONCE = ac.Step("mail", effect="once")
CENT = 10**7


def interrupted(to: str = "ada") -> str | None:
    raise KeyboardInterrupt


def leave_in_doubt(url: str, step: ac.Step = ONCE, *args: str) -> None:
    with pytest.raises(KeyboardInterrupt), ac.run("r", store=url) as run:
        run.step(step, interrupted, *args)


# -- what it costs, and what leaves it in doubt -----------------------------------------------------------------------


def test_it_takes_two_commits_and_one_that_is_paid_for_takes_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    url = fresh()
    with ac.run("r", store=url) as run, packets(monkeypatch) as sent:
        for step, commits in ((ONCE, 2), (ac.Step("buy", effect="once", cost="0.01"), 2), (ac.Step("free"), 1)):
            before = len(sent)
            run.step(step, Counted())
            assert len(sent) - before == commits
    assert [len(intent.entries) for intent in logged(url, "r", Intent)] == [0, 1]


def test_its_intent_is_stored_before_it_is_called() -> None:
    url, seen = fresh(), []
    with ac.run("r", store=url) as run:
        run.step(ONCE, lambda: seen.extend(logged(url, "r", Intent)))
    assert [intent.slot for intent in seen] == ["mail"]


def test_an_exception_is_a_known_failure_and_it_is_called_again() -> None:
    url, calls = fresh(), []

    def fail_once() -> str:
        calls.append(1)
        if len(calls) == 1:
            raise OSError("refused")
        return "sent"

    with ac.run("r", store=url) as run:
        with pytest.raises(OSError, match="refused"):
            run.step(ONCE, fail_once)
        assert run.step(ONCE, fail_once) == "sent"


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ac.Interrupted, ac.Suspended, asyncio.CancelledError])
def test_what_is_no_exception_leaves_it_in_doubt_in_this_attempt_and_the_next(error: type[BaseException]) -> None:
    url, again = fresh(), Counted()

    def stop() -> None:
        raise error

    with ac.run("r", store=url) as run:
        with pytest.raises(error):
            run.step(ONCE, stop)
        with pytest.raises(ac.StepInDoubt, match="may have happened") as caught:
            run.step(ONCE, again)
        assert caught.value.idempotency_key in str(caught.value) and caught.value.step == "mail"
    with pytest.raises(ac.StepInDoubt), ac.run("r", store=url) as run:
        run.step(ONCE, again)
    assert not again.calls and not logged(url, "r", Failed)


def test_a_result_that_cannot_be_stored_leaves_it_in_doubt() -> None:
    url = fresh()
    with ac.run("r", store=url) as run:
        with pytest.raises(ac.ResultNotStorable):
            run.step(ONCE, lambda: {1, 2})
        with pytest.raises(ac.StepInDoubt):
            run.step(ONCE, Counted())
    assert [failed.in_doubt for failed in logged(url, "r", Failed)] == [True]


def test_a_result_that_its_accept_refuses_leaves_it_in_doubt() -> None:
    step = ac.Step("mail", effect="once", accept=lambda result: False)
    with ac.run("r", store=fresh()) as run:
        with pytest.raises(ac.StepRejected):
            run.step(step, Counted())
        with pytest.raises(ac.StepInDoubt):
            run.step(step, Counted())


def test_without_its_effect_it_is_called_again() -> None:
    url = fresh()
    leave_in_doubt(url)
    with ac.run("r", store=url) as run:
        assert run.step("mail", lambda to: "sent", "ada") == "sent"


def test_a_paid_call_that_died_is_in_doubt_once_its_step_must_not_happen_twice() -> None:
    url = fresh()
    leave_in_doubt(url, ac.Step("mail", cost="0.01"))
    with pytest.raises(ac.StepInDoubt), ac.run("r", store=url) as run:
        run.step(ONCE, Counted())


# -- what is decided --------------------------------------------------------------------------------------------------


def test_to_rerun_it_calls_it_again_and_says_so() -> None:
    url, again = fresh(), Counted("sent")
    leave_in_doubt(url)
    with ac.run("r", store=url) as run:
        assert run.step(ac.Step("mail", effect="once", in_doubt="rerun", on_mismatch="reuse"), again) == "sent"
    assert again.calls == 1
    assert [intent.decided for intent in logged(url, "r", Intent)] == [None, "rerun"]


def test_to_skip_it_records_none_and_asks_nobody() -> None:
    url = fresh()
    leave_in_doubt(url)
    step = ac.Step("mail", effect="once", in_doubt="skip", accept=lambda result: result is not None)
    for _ in range(2):
        with ac.run("r", store=url) as run:
            assert run.step(step, interrupted) is None
    assert [done.decided for done in logged(url, "r", Done)] == ["skip"]


@pytest.mark.parametrize("found", ["happened", "did not happen"])
@pytest.mark.parametrize("is_async", [False, True])
async def test_what_verify_finds_counts_in_both_colours(found: str, is_async: bool) -> None:
    url, asked, again = fresh(), [], Counted("sent")
    leave_in_doubt(url, ONCE, "bob")

    def verify(to: str) -> ac.Happened[str] | None:
        asked.append((to, ac.idempotency_key()))
        return ac.Happened("found") if found == "happened" else None

    async def verify_async(to: str) -> ac.Happened[str] | None:
        await asyncio.sleep(0)
        return verify(to)

    def send(to: str) -> str:
        assert asked == [(to, ac.idempotency_key())]
        return str(again())

    if is_async:
        async with ac.run("r", store=url) as a_run:
            result = await a_run.step(ac.Step("mail", effect="once", verify=verify_async), send, "bob")
    else:
        with ac.run("r", store=url) as run:
            result = run.step(ac.Step("mail", effect="once", verify=verify), send, "bob")
    assert result == ("found" if found == "happened" else "sent")
    assert [to for to, _ in asked] == ["bob"]
    assert [done.decided for done in logged(url, "r", Done)] == [found]
    assert again.calls == (found != "happened")


def test_a_verify_that_fails_is_a_failed_attempt_and_leaves_it_in_doubt() -> None:
    url = fresh()
    leave_in_doubt(url)

    def unreachable() -> None:
        raise OSError("no answer")

    for _ in range(2):
        with pytest.raises(OSError, match="no answer"), ac.run("r", store=url) as run:
            run.step(ac.Step("mail", effect="once", verify=unreachable), interrupted)
    assert [failed.in_doubt for failed in logged(url, "r", Failed)] == [True, True]


def test_a_verify_that_returns_something_else_is_refused_and_so_is_an_async_one_in_a_blocking_run() -> None:
    url = fresh()
    leave_in_doubt(url)

    async def verify() -> None:
        return None

    for wrong, why in ((lambda: True, "returned bool"), (verify, "it is async")):
        with pytest.raises(ac.RunMisuse, match=why), ac.run("r", store=url) as run:
            run.step(ac.Step("mail", effect="once", verify=wrong), interrupted)


def test_a_verified_call_that_is_paid_for_is_booked_as_paid() -> None:
    url = fresh()
    step = ac.Step("mail", effect="once", cost="0.01", verify=lambda: ac.Happened("found"))
    leave_in_doubt(url, step)
    assert ac.get("r", store=url).cost.unresolved == 1
    with ac.run("r", store=url) as run:
        run.step(step, interrupted)
        assert (run.cost.paid, run.cost.unresolved) == (CENT, 0)


# -- other inputs -----------------------------------------------------------------------------------------------------


def test_a_call_with_other_inputs_in_its_place_is_a_mismatch_with_three_ways_on() -> None:
    def send(to: str) -> str:
        return to

    for policy, outcome in (("error", ac.StepMismatch), ("reuse", ac.StepInDoubt), ("rerun", None)):
        url = fresh()
        leave_in_doubt(url, ONCE, "ada")
        with ac.run("r", store=url, on_mismatch=policy) as run:  # type: ignore[arg-type]
            if outcome is None:
                assert run.step(ONCE, send, "bob") == "bob"
            else:
                with pytest.raises(outcome):
                    run.step(ONCE, send, "bob")


def test_nested_and_parallel_ones_find_their_own_doubts() -> None:
    url, left = fresh(), list[str]()

    def send(to: str) -> str:
        left.append(to)
        if to in ("bob", "eve") and left.count(to) == 1:
            raise KeyboardInterrupt
        return to

    def newsletter(order: list[str]) -> list[str]:
        with ac.run("r", store=url) as run:
            return run.step(ac.Step("all", ignore=("order",)), each, order)

    def each(order: list[str]) -> list[str]:
        return [sent(to) for to in order]

    @ac.step(name="mail", key=lambda to: to, effect="once", in_doubt="rerun")
    def sent(to: str) -> str:
        return send(to)

    for order in (["ada", "bob"], ["eve", "ada"]):
        with pytest.raises(KeyboardInterrupt):
            newsletter(order)
    assert newsletter(["bob", "eve", "ada"]) == ["bob", "eve", "ada"]
    assert left == ["ada", "bob", "eve", "bob", "eve"]
    assert {intent.slot for intent in logged(url, "r", Intent)} == {f"all/mail[{to}]" for to in ("ada", "bob", "eve")}


def test_a_step_inside_of_one_is_replayed_when_that_is_called_again() -> None:
    url, drafts = fresh(), Counted("draft")

    def send(fail: bool) -> object:
        draft = run.step("draft", drafts)
        if fail:
            raise KeyboardInterrupt
        return draft

    step = ac.Step("mail", effect="once", in_doubt="rerun", ignore=("fail",))
    with pytest.raises(KeyboardInterrupt), ac.run("r", store=url) as run:
        run.step(step, send, True)
    with ac.run("r", store=url) as run:
        assert run.step(step, send, False) == "draft"
    assert drafts.calls == 1


# -- refused beforehand -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"effect": "twice"},
        {"effect": "once", "in_doubt": "guess"},
        {"in_doubt": "skip"},
        {"verify": Counted()},
        {"effect": "once", "in_doubt": "ask", "verify": Counted()},
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ac.RunMisuse):
        ac.Step("mail", **options)
    with pytest.raises(ac.RunMisuse):
        ac.tool(**options)(interrupted)


def test_a_model_call_a_two_phase_step_and_a_charge_have_no_effect() -> None:
    with ac.run("r", store=fresh()) as run:
        with pytest.raises(ac.RunMisuse, match="model call"):
            run.llm(ONCE, Counted())
        with pytest.raises(ac.RunMisuse, match="calls no function"):
            run.begin(ONCE)
        with pytest.raises(ac.RunMisuse, match="calls no function"):
            run.charge(ONCE, "0.01")


def test_to_skip_what_cannot_be_none_is_refused_before_it_is_called() -> None:
    called = Counted()

    def send() -> str:
        return str(called())

    def may_be_none() -> str | None:
        return send()

    step = ac.Step("mail", effect="once", in_doubt="skip")
    with ac.run("r", store=fresh()) as run:
        with pytest.raises(ac.RunMisuse, match="None"):
            run.step(step, send)
        assert not called.calls
        assert run.step(step, may_be_none) == "1"


# -- interrupts while something is being stored -----------------------------------------------------------------------


async def cancel_at(kind: type[Any], monkeypatch: pytest.MonkeyPatch, url: str, step: ac.Step, again: Counted) -> None:
    """Cancels the step while the server applies an entry of that kind."""

    async def send() -> object:
        return again()

    def in_mid_commit(_attempt: object, change: Any) -> None:
        if isinstance(change.entry, kind):
            task.cancel()

    async with ac.run("r", store=url) as run:
        task = asyncio.create_task(run.step(step, send))
        with monkeypatch.context() as patched:
            patched.setattr(attempts, "after_commit", [in_mid_commit])
            with pytest.raises(asyncio.CancelledError):
                await task


async def test_a_cancellation_while_the_intent_is_stored_leaves_nothing_in_doubt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url, again = fresh(), Counted("sent")
    step = ac.Step("mail", effect="once", cost="0.01")
    await cancel_at(Intent, monkeypatch, url, step, again)
    assert not again.calls and len(logged(url, "r", Withdrawn)) == 1
    assert [entry.bill for entry in ac.get("r", store=url).ledger] == ["not_billed"]
    assert [row.attempts for row in ac.get("r", store=url).steps] == [1]
    async with ac.run("r", store=url) as run:
        assert await run.step(step, again) == "sent"


async def test_a_cancellation_while_the_result_is_stored_leaves_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    url, again = fresh(), Counted("sent")
    await cancel_at(Done, monkeypatch, url, ONCE, again)
    async with ac.run("r", store=url) as run:
        assert await run.step(ONCE, again) == "sent"
    assert again.calls == 1


async def test_a_time_out_around_one_leaves_it_in_doubt() -> None:
    url = fresh()
    async with ac.run("r", store=url) as run:
        with pytest.raises(TimeoutError) as caught:
            async with asyncio.timeout(0.02):
                await run.step(ONCE, asyncio.sleep, 60)
        assert not isinstance(caught.value, ac.StepTimeout)
        with pytest.raises(ac.StepInDoubt):
            await run.step(ONCE, asyncio.sleep, 60)
    assert not logged(url, "r", Failed)


def test_ctrl_c_while_the_intent_is_stored_leaves_nothing_in_doubt(monkeypatch: pytest.MonkeyPatch) -> None:
    url, again = fresh(), Counted("sent")
    real = attempts.Attempt.commit

    def struck(self: attempts.Attempt, change: Any, *args: Any) -> Any:
        outcome = yield from real(self, change, *args)
        if isinstance(change.entry, Intent):
            raise KeyboardInterrupt
        return outcome

    with pytest.raises(KeyboardInterrupt), ac.run("r", store=url) as run, monkeypatch.context() as patched:
        patched.setattr(attempts.Attempt, "commit", struck)
        run.step(ONCE, again)
    with ac.run("r", store=url) as run:
        assert run.step(ONCE, again) == "sent"
    assert again.calls == 1
