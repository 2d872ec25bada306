"""A process that spends under a shared budget, as often as it may; or dies by SIGKILL at a named point.

python tests/openai/spender.py STORE PROVIDER RUN LIMIT CALLS [POINT]
"""

from __future__ import annotations

import json
import os
import signal
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import httpx2
from asking import MODEL, PRICES, user
from openai import OpenAI

import agentcheckpoint as ac
from agentcheckpoint import attempt, reserving
from agentcheckpoint.store import budgets

OUTPUT = 200
"""The limit of output of each call."""
POINTS = ("reserved", "intent", "answer", "done", "settled")


def die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def arm(point: str) -> None:
    """From now on the process dies there."""
    if point in ("intent", "done"):
        attempt.after_commit.append(lambda _, change: die() if change.entry.k == point else None)
    if point in ("reserved", "settled"):
        name = {"reserved": "reserve", "settled": "settle"}[point]
        plain = getattr(budgets, name)

        def and_die(*given: Any) -> Iterator[Any]:
            yield from plain(*given)
            die()

        setattr(reserving, name, and_die)


def keep_nothing() -> None:
    """Broken on purpose: the budget is asked, and nothing is reserved."""
    plain = budgets._write

    def pretend(account: Any, decision: Any, patience: int) -> Iterator[Any]:
        if any(one.state == "reserved" for one in decision.changes.values()):
            return True
        return (yield from plain(account, decision, patience))

    budgets._write = pretend  # type: ignore[assignment]


def spend(store: str, provider: str, run_id: str, limit: str, calls: int, point: str = "") -> dict[str, Any]:
    """What came of the calls: how many were answered, and what was said of those that were refused."""
    answered, refused = 0, []
    hooks = {"response": [die] if point == "answer" else []}
    bare = OpenAI(base_url=provider, api_key="k", http_client=httpx2.Client(event_hooks=hooks))
    with (
        ac.wrap(bare, prices=PRICES) as client,
        ac.run(run_id, store=store, budget=ac.Budget(limit, name="all of them")) as run,
    ):
        for n in range(calls):
            with ac.name("ask", key=str(n)):
                try:
                    client.chat.completions.create(model=MODEL, messages=user(f"{run_id} {n}"), max_tokens=OUTPUT)
                    answered += 1
                except ac.BudgetExceeded as error:
                    refused.append([error.limit, error.spent, error.reserved, error.asked])
        return {"answered": answered, "refused": refused, "spent": run.cost.spent}


def main(store: str, provider: str, run_id: str, limit: str, calls: str, point: str = "") -> None:
    warnings.simplefilter("ignore", ac.DurabilityWarning)
    if point == "keep nothing":
        keep_nothing()
    arm(point)
    print("ready", flush=True)
    sys.stdin.readline()
    print(json.dumps(spend(store, provider, run_id, limit, int(calls), point)), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
