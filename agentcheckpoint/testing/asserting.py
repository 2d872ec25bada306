"""What tests say of a run's money: nothing was bought twice, and it cost less than so much."""

from __future__ import annotations

from collections import Counter

from agentcheckpoint.core.amounts import Dollars, dollars
from agentcheckpoint.core.ledger import money
from agentcheckpoint.store.connect import Connectable
from agentcheckpoint.testing.accounts import settle
from agentcheckpoint.testing.provider import Provider
from agentcheckpoint.view import get


def assert_paid_once(
    run_id: str, provider: Provider | None = None, *, store: Connectable = None, namespace: str = "default"
) -> None:
    """No answer of the run was bought twice.

    Args:
        run_id: the run's name.
        provider: the one that was paid: each of its payments has to be in the run's ledger, and no request may have
            paid again once its answer was committed. It must have served this run alone. Without it, the ledger alone
            is asked: no step may have paid for two answers.
        store, namespace: as in ``ac.get``.

    Raises:
        AssertionError: with the run's table.
    """
    view = get(run_id, store=store, namespace=namespace)
    if provider is None:
        bought = Counter(entry.slot for entry in view.ledger if entry.bill in ("paid", "wasted"))
        twice = [f"step {slot!r} was paid {times} times" for slot, times in bought.items() if times > 1]
    else:
        accounts = settle(provider.journal, view.ledger, amounts=False)
        again = accounts.paid_twice
        twice = [f"{again} payment(s) for answers that were committed"] if again else []
        twice += accounts.problems
    if twice:
        raise AssertionError("\n".join([*twice, str(view)]))


def assert_cost_below(run_id: str, usd: Dollars, *, store: Connectable = None, namespace: str = "default") -> None:
    """All attempts of the run together cost less than that, and all of it is known.

    Args:
        run_id: the run's name.
        usd: dollars, such as ``"0.05"``.
        store, namespace: as in ``ac.get``.

    Raises:
        AssertionError: with the run's table.
        TypeError, ValueError: it is no amount.
    """
    most, view = dollars(usd), get(run_id, store=store, namespace=namespace)
    bought = [entry for entry in view.ledger if entry.bill != "not_billed"]
    spent = sum(entry.cost or 0 for entry in bought)
    unknown = sum(entry.cost is None for entry in bought)
    if spent >= most or unknown:
        also = f", and {unknown} attempt(s) of unknown cost" if unknown else ""
        raise AssertionError(f"run {run_id!r} cost {money(spent)}{also}; it was to be below {money(most)}\n{view}")
