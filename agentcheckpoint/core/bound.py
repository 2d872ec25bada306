"""The most that a model call can take: its tokens, bounded by the request's bytes and limits, at their dearest price.

A token is never less than one byte of the text that it stands for, so the bytes of a request bound its input. What is
not in the request (an image behind a URL, an earlier answer, what a hosted tool finds) has no bound by bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from pydantic_core import to_json

from agentcheckpoint.core.models import Usage
from agentcheckpoint.core.pricing import Cost, Price, price_usage

BASE = 256
"""Tokens that a server may add to any request: its own opening, the way in which it announces tools."""
EACH = 64
"""Tokens that a server may add for each message, part and tool, beside the bytes that these have in the request."""

_TEXT = frozenset(
    {"message", "text", "refusal", "input_text", "output_text", "function", "function_call", "function_call_output"}
    | {"custom", "custom_tool_call", "custom_tool_call_output"}
)
"""Types of messages, items and parts whose input is the text that they have in them."""
_INSIDE = ("content", "tool_calls", "output")
_OWN_TOOLS = frozenset({"function", "custom"})
_ELSEWHERE = ("previous_response_id", "conversation", "prompt")
"""Fields that name input which lies at the provider."""
_APART = ("web_search_options", "audio", "image", "context_management")
"""Fields that bring costs beside the tokens of text."""
_LIMITS = {"chat": ("max_completion_tokens", "max_tokens"), "responses": ("max_output_tokens",)}
_STANDARD_TIERS = frozenset({"", "auto", "default", "standard", "scale"})
_DEAREST: tuple[tuple[str, ...], ...] = (
    (),
    ("cached_tokens",),
    ("cache_write_tokens",),
    ("cache_write_tokens", "cache_write_long_tokens"),
)
"""What all of the input may turn out to be: the cost is linear, so the dearest kind bounds every mixture."""


@dataclass(frozen=True, slots=True)
class Bound:
    """The most tokens that a call can take.

    Attributes:
        input, output: tokens; ``None``: there is no bound.
        why: where there is none: why, and what to add.
    """

    input: int | None
    output: int | None
    why: str = ""

    @property
    def tokens(self) -> int | None:
        """Input and output together."""
        return None if self.input is None or self.output is None else self.input + self.output


def request_bound(
    endpoint: str,
    body: Mapping[str, object],
    size: int,
    *,
    assume_output: int | None = None,
    counted: int | None = None,
) -> Bound:
    """Bounds the tokens of one request.

    Args:
        endpoint: ``chat``, ``responses`` or ``embeddings``.
        body: the request's JSON.
        size: its bytes in UTF-8, as they leave.
        assume_output: output tokens to assume where the request sets no limit.
        counted: the input tokens, where somebody has counted them; they need no bound by bytes.
    """
    apart = next(_billed_apart(body), None)
    if apart is not None:
        return Bound(None, None, f"{apart} costs what no limit of tokens bounds; {_MAX_COST}")
    parts = list(_parts(body))
    given = counted
    if given is None:
        unseen = next(_unseen(body, parts), None)
        if unseen is not None:
            return Bound(None, None, f"the bytes of {unseen} do not bound its tokens; {_COUNT} {_MAX_COST}")
        tools = body.get("tools")
        given = BASE + size + EACH * (len(parts) + (len(cast("list[object]", tools)) if _is_list(tools) else 0))
    output = _output(endpoint, body, assume_output)
    if output is None:
        limit = _LIMITS.get(endpoint, ("a limit",))[0]
        return Bound(given, None, f"it sets no limit of output: add {limit}=..., or Budget(assume_output=...)")
    return Bound(given, output)


_MAX_COST = "give the call a bound of your own: ac.name(..., max_cost=..., max_tokens=...)"
_COUNT = "count them with Budget(count_tokens=...), or"


def worst_cost(
    bound: Bound,
    *,
    model: str | None,
    provider: str | None,
    tier: object,
    at_ms: int,
    table: Mapping[str, Price],
) -> Cost:
    """What so many tokens cost at most: nothing is assumed to come from a cache, and the tier to be the dearer one.

    Args:
        bound: the tokens.
        model, provider, at_ms, table: as in ``price_usage``.
        tier: the service tier that is asked for: the answer's is that one, or the standard one.

    Returns:
        Nano-dollars; ``None``: unknown, and ``source`` says why.
    """
    if bound.input is None or bound.output is None:
        return Cost(None, bound.why)
    worst = Cost(0, "")
    for served in {None, tier if isinstance(tier, str) and tier not in _STANDARD_TIERS else None}:
        for kinds in _DEAREST:
            of = {"input_tokens": bound.input, "output_tokens": bound.output, **dict.fromkeys(kinds, bound.input)}
            usage = Usage.model_validate(of)
            cost = price_usage(usage, model=model, provider=provider, tier=served, at_ms=at_ms, table=table)
            if cost.nano is None and not kinds:
                return cost
            if cost.nano is not None and cost.nano >= (worst.nano or 0):
                worst = cost
    return worst


def _parts(body: Mapping[str, object]) -> Iterator[Mapping[str, Any]]:
    """Messages, items, and the parts inside them."""
    waiting: list[object] = [body.get("messages"), body.get("input")]
    while waiting:
        one = waiting.pop()
        if _is_list(one):
            several = cast("list[object]", one)
            yield from ({"type": "text"} for text in several if isinstance(text, str | list))  # of embeddings
            waiting.extend(several)
        elif isinstance(one, Mapping):
            part = cast("Mapping[str, Any]", one)
            yield part
            waiting.extend(part.get(name) for name in _INSIDE)


def _unseen(body: Mapping[str, object], parts: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """What adds input that is not in the request as text."""
    for name in _ELSEWHERE:
        if body.get(name) is not None:
            yield f"{name}="
    for part in parts:
        kind = part.get("type", "message")
        if kind not in _TEXT:
            yield f"a part of type {kind!r}"
        if part.get("audio") is not None:
            yield "an earlier answer's audio"


def _billed_apart(body: Mapping[str, object]) -> Iterator[str]:
    """What costs something beside the tokens of text."""
    for name in _APART:
        if body.get(name) is not None:
            yield f"{name}="
    modalities = body.get("modalities")
    if _is_list(modalities) and set(map(str, cast("list[object]", modalities))) - {"text"}:
        yield "modalities="
    tools = body.get("tools")
    for tool in cast("list[object]", tools) if _is_list(tools) else ():
        kind = cast("Mapping[str, object]", tool).get("type") if isinstance(tool, Mapping) else None
        if kind not in _OWN_TOOLS:
            yield f"the hosted tool {kind!r}"


def _output(endpoint: str, body: Mapping[str, object], assume_output: int | None) -> int | None:
    if endpoint == "embeddings":
        return 0
    limits = [limit for name in _LIMITS[endpoint] if (limit := _whole(body.get(name))) is not None]
    limit = max(limits, default=assume_output)
    if limit is None:
        return None
    predicted = body.get("prediction")  # what of it is not used is billed as output
    more = 0 if predicted is None else len(to_json(predicted))
    return (limit + more) * max(1, _whole(body.get("n")) or 1)


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _is_list(value: object) -> bool:
    return isinstance(value, list | tuple)
