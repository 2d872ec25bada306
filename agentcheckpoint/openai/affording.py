"""What one HTTP attempt of a model call may cost at worst, and the smaller request that a budget's hook makes of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import httpx2
from pydantic_core import from_json, to_json

from agentcheckpoint.core.amounts import dollars
from agentcheckpoint.core.bound import request_bound, worst_cost
from agentcheckpoint.core.budget import Ask, Budget
from agentcheckpoint.core.models import LedgerEntry
from agentcheckpoint.errors import AgentCheckpointError
from agentcheckpoint.flow import Course
from agentcheckpoint.openai.modelcall import ModelCall
from agentcheckpoint.paying import afford
from agentcheckpoint.trying import note_failure


def afforded(
    call: ModelCall, entry: LedgerEntry, request: httpx2.Request
) -> Course[tuple[LedgerEntry, Ask, httpx2.Request]]:
    """Keeps room for an attempt in the budgets of the run.

    Returns:
        The attempt with its bound, and the request to send. A budget's ``on_exceeded`` may have changed it: then the
        entry names the model that is really asked. The step's inputs stay those of the call as it was written.

    Raises:
        BudgetExceeded, RunMisuse: as ``paying.afford``.
    """
    told: list[Budget] = []
    try:
        while True:
            ask = _ask(call, entry, request)
            entry = entry.model_copy(update={"bound": ask.usd, "bound_tokens": ask.tokens})
            change = yield from afford(call.attempt, call.site.call, entry, ask, told, call.unsettled)
            if change is None:
                return entry, ask, request
            request = _changed(request, change)
            model = change.get("model", entry.model)
            entry = entry.model_copy(update={"model": model if isinstance(model, str) else None})
    except AgentCheckpointError as error:
        if call.unsettled:  # what became of the attempts before this one would have gone with its intent
            yield from note_failure(call.site, error, 0, tuple(call.unsettled))
            call.unsettled = []
        raise


def _ask(call: ModelCall, entry: LedgerEntry, request: httpx2.Request) -> Ask:
    content, step = request.content, call.site.step
    body = cast("dict[str, Any]", from_json(content))
    budgets = call.attempt.reservations.budgets
    bound = request_bound(
        call.endpoint,
        body,
        len(content),
        assume_output=max((b.assume_output for b in budgets if b.assume_output is not None), default=None),
        counted=next((_count(b, call, body) for b in budgets if b.count_tokens is not None), None),
    )
    tokens = bound.tokens if step.max_tokens is None else step.max_tokens
    if step.max_cost is not None:
        return Ask(dollars(step.max_cost), tokens, "", bound.why, body)
    cost = worst_cost(
        bound,
        model=entry.model,
        provider=call.terms.provider,
        tier=body.get("service_tier"),
        at_ms=entry.at,
        table=call.terms.prices,
    )
    why = bound.why or f"{cost.source}; add its price: ac.wrap(client, prices={{...}})"
    return Ask(cost.nano, tokens, why, bound.why, body)


def _count(budget: Budget, call: ModelCall, body: Mapping[str, Any]) -> int | None:
    assert budget.count_tokens is not None
    counted: Any = budget.count_tokens(call.endpoint, body)
    if counted is not None and (not isinstance(counted, int) or isinstance(counted, bool) or counted < 0):
        raise TypeError(f"Budget(count_tokens=...) returned {counted!r}: it returns a number of tokens, or None")
    return counted


def _changed(request: httpx2.Request, change: Mapping[str, Any]) -> httpx2.Request:
    """The same request with another body."""
    body = {**cast("dict[str, Any]", from_json(request.content)), **change}
    headers = [(key, value) for key, value in request.headers.multi_items() if key.lower() != "content-length"]
    return httpx2.Request(
        request.method, request.url, headers=headers, content=to_json(body), extensions=request.extensions
    )
