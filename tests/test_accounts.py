"""A ledger is settled with the provider's journal: what each may say, and what each contradiction is called."""

from __future__ import annotations

from agentcheckpoint.core.models import Bill, LedgerEntry
from agentcheckpoint.testing.accounts import Accounts, paid_before, settle
from agentcheckpoint.testing.payments import Payment


def payment(n: int, digest: str, entry: str, cost: int = 100) -> Payment:
    return Payment("chat", digest, entry, f"req_{n}", "demo-large", {}, cost, n, n)


def entry(name: str, bill: Bill, cost: int | None = 100) -> LedgerEntry:
    return LedgerEntry(id=name, bill=bill, slot="chat", cost=None if bill in ("unresolved", "not_billed") else cost)


def test_a_run_that_paid_each_call_once_is_settled() -> None:
    accounts = settle([payment(1, "x", "a"), payment(2, "y", "b", 7)], [entry("a", "paid"), entry("b", "paid", 7)])
    assert accounts == Accounts(
        provider_calls=2, billed=107, spent=107, in_window=0, paid_twice=0, repaid_in_window=0, problems=()
    )
    assert accounts.settled


def test_a_call_bought_again_after_its_answer_was_committed_is_paid_twice() -> None:
    accounts = settle([payment(1, "x", "a"), payment(2, "x", "b")], [entry("a", "paid"), entry("b", "paid")])
    assert (accounts.paid_twice, accounts.repaid_in_window, accounts.problems) == (1, 0, ())
    assert not accounts.settled


def test_a_call_bought_again_since_its_answer_was_lost_is_repaid_in_the_window_each_time() -> None:
    payments = [payment(1, "x", "a"), payment(2, "x", "b", 70), payment(3, "x", "c", 60)]
    accounts = settle(payments, [entry("a", "unresolved"), entry("b", "unresolved"), entry("c", "paid", 60)])
    assert (accounts.paid_twice, accounts.repaid_in_window) == (0, 2)
    assert (accounts.billed, accounts.spent, accounts.in_window) == (230, 60, 170)
    assert accounts.settled


def test_an_answer_lost_after_one_was_committed_does_not_excuse_the_second_payment() -> None:
    payments = [payment(1, "x", "a"), payment(2, "x", "b"), payment(3, "x", "c")]
    accounts = settle(payments, [entry("a", "paid"), entry("b", "unresolved"), entry("c", "paid")])
    assert (accounts.paid_twice, accounts.repaid_in_window) == (2, 0)


def test_a_rejected_answer_may_be_bought_again() -> None:
    accounts = settle([payment(1, "x", "a"), payment(2, "x", "b")], [entry("a", "wasted"), entry("b", "paid")])
    assert (accounts.paid_twice, accounts.repaid_in_window, accounts.spent) == (0, 0, 200)
    assert accounts.settled


def test_an_intent_that_never_reached_the_provider_costs_nothing() -> None:
    accounts = settle([payment(1, "x", "b")], [entry("a", "unresolved"), entry("b", "paid")])
    assert (accounts.in_window, accounts.settled) == (0, True)


def test_the_later_word_of_a_log_counts() -> None:
    accounts = settle([payment(1, "x", "a")], [entry("a", "unresolved"), entry("a", "paid")])
    assert (accounts.spent, accounts.in_window, accounts.settled) == (100, 0, True)


def test_a_payment_that_is_in_no_entry_is_a_problem() -> None:
    accounts = settle([payment(1, "x", "")], [])
    assert "payment 1" in accounts.problems[0] and "no ledger entry" in accounts.problems[0]
    assert not accounts.settled


def test_a_payment_that_the_ledger_calls_not_billed_is_a_problem() -> None:
    [problem] = settle([payment(1, "x", "a")], [entry("a", "not_billed")]).problems
    assert "says it was not" in problem


def test_another_price_or_none_is_a_problem() -> None:
    [other] = settle([payment(1, "x", "a")], [entry("a", "paid", 99)]).problems
    [unknown] = settle([payment(1, "x", "a")], [entry("a", "paid", None)]).problems
    assert "is $0.000000099 in ledger entry a" in other and "is — in ledger entry a" in unknown


def test_an_entry_without_a_payment_is_a_problem() -> None:
    problems = settle([], [entry("a", "paid"), entry("b", "wasted"), entry("c", "unresolved")]).problems
    assert [problem.split()[2] for problem in problems] == ["a", "b"]


def test_an_entry_that_was_paid_twice_is_a_problem() -> None:
    [problem] = settle([payment(1, "x", "a"), payment(2, "y", "a")], [entry("a", "paid")]).problems
    assert "paid 2 times" in problem


def test_what_a_restart_would_have_paid_again_is_what_was_committed_before_it() -> None:
    payments = [
        payment(1, "x", "a", 1),
        payment(2, "y", "b", 10),
        payment(3, "y", "c", 100),
        payment(4, "z", "d", 1000),
    ]
    entries = [entry("a", "paid", 1), entry("b", "unresolved"), entry("c", "paid", 100), entry("d", "paid", 1000)]
    assert [paid_before(payments, entries, n) for n in range(5)] == [0, 1, 1, 101, 1101]
