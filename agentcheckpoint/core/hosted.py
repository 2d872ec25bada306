"""Calls of tools that the provider ran itself and bills beside the tokens, counted from the answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import cast

from agentcheckpoint.core.fields import count, details, field, has, name_of

_FREE_CALLS = frozenset(
    {
        "apply_patch_call",
        "computer_call",
        "custom_tool_call",
        "function_call",
        "local_shell_call",
        "mcp_call",
        "tool_search_call",
    }
)
"""Items of a response that cost tokens alone: the caller ran them, or their provider charges nothing for the call."""

_SEARCH_MODELS = {"-search-preview": "web_search_preview", "-search-api": "web_search"}
"""OpenAI's chat models that search before each answer, and what that search is sold as."""

_SERVER_TOOLS = {"web_search_requests": "web_search", "web_fetch_requests": "web_fetch"}


def hosted_tools(answer: object) -> dict[str, int]:
    """Count the hosted tools that an answer says it used, whichever provider it is.

    Kinds are named as the provider names them. What nobody knows yet is counted too: it may be billed.

    Args:
        answer: a mapping or an object shaped like an answer of OpenAI, Anthropic or Gemini.

    Returns:
        Billable calls by kind, such as ``{"web_search": 2}``; without those that are 0.

    Raises:
        Unreadable: a count is no count.
    """
    counts: Counter[str] = Counter()
    _count_response(answer, counts)
    _count_usage(answer, counts)
    for block in _list(answer, "content"):
        if field(block, "type") == "server_tool_use" and "code_execution" in (name_of(field(block, "name")) or ""):
            counts["code_execution"] += 1
    for candidate in _list(answer, "candidates"):
        grounds = field(candidate, "grounding_metadata", "groundingMetadata")
        counts["google_search"] += len(_list(grounds, "web_search_queries", "webSearchQueries"))
    return {kind: calls for kind, calls in sorted(counts.items()) if calls}


def _list(source: object, *names: str) -> Sequence[object]:
    """A list; empty for all that is none: these names mean other things elsewhere."""
    value = field(source, *names)
    return cast(Sequence[object], value) if isinstance(value, list | tuple) else ()


def _count_response(answer: object, counts: Counter[str]) -> None:
    """OpenAI's Responses API: items of the output, and the provider's own count of what is billed."""
    containers: set[object] = set()
    for item in _list(answer, "output"):
        kind = name_of(field(item, "type")) or ""
        if kind == "code_interpreter_call":  # sold by the container, however often it is called
            containers.add(field(item, "container_id") or len(containers))
        elif kind.endswith("_call") and kind not in _FREE_CALLS and _is_billed(kind, item):
            counts[kind.removesuffix("_call")] += 1
    counts["code_interpreter"] += len(containers)
    reported = field(answer, "tool_usage")
    if (searches := field(reported, "web_search")) is not None:
        counts["web_search"] = count(searches, "num_requests", required=True)
    if count(field(reported, "image_gen"), "total_tokens"):
        counts["image_generation"] = max(1, counts["image_generation"])
    if any((name_of(field(tool, "type")) or "").startswith("web_search_preview") for tool in _list(answer, "tools")):
        counts["web_search_preview"] += counts.pop("web_search", 0)  # the older tool has other prices


def _is_billed(kind: str, item: object) -> bool:
    if kind == "web_search_call":  # to open a page that was found, or to look into it, costs no call
        return field(field(item, "action"), "type") in (None, "search")
    if kind == "shell_call":
        return field(field(item, "environment"), "type") == "container_reference"
    return True


def _count_usage(answer: object, counts: Counter[str]) -> None:
    usage = field(answer, "usage")
    if has(usage, "prompt_tokens"):
        model = name_of(field(answer, "model")) or ""
        counts.update(kind for part, kind in _SEARCH_MODELS.items() if part in model)
        counts["live_search"] += count(usage, "num_sources_used")  # xAI bills each source
    for name, kind in _SERVER_TOOLS.items():
        counts[kind] += count(details(usage, "server_tool_use"), name)
    for iteration in _list(usage, "iterations"):  # Anthropic's other passes are not in the usage's own counts
        kind = name_of(field(iteration, "type")) or "iteration"
        counts[kind] += kind != "message"
