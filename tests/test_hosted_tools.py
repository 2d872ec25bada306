"""Tools that the provider runs and bills beside the tokens: counted, priced where a price is published, else said."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from agentcheckpoint.core.hosted import hosted_tools
from agentcheckpoint.core.models import Usage
from agentcheckpoint.core.pricing import Cost, Price, price_usage
from agentcheckpoint.core.usage import usage_of
from agentcheckpoint.openai.usage import read_answer, read_stream

NOW = int(datetime(2026, 11, 20, tzinfo=UTC).timestamp()) * 1000
USAGE: dict[str, Any] = {"input_tokens": 1_000, "output_tokens": 100}
SEARCH = {"type": "web_search_call", "status": "completed", "action": {"type": "search", "query": "q"}}
OPEN = {"type": "web_search_call", "status": "completed", "action": {"type": "open_page", "url": "u"}}


def response(*output: dict[str, Any], **members: Any) -> dict[str, Any]:
    return {"id": "resp_1", "model": "gpt-5.4", "status": "completed", "output": output, "usage": USAGE, **members}


def reported(searches: int, drawn: int = 0) -> dict[str, Any]:
    """``tool_usage`` as the response reports it: families without use have zero counts."""
    image = {"input_tokens": 0, "output_tokens": drawn, "total_tokens": drawn, "input_tokens_details": {}}
    return {"web_search": {"num_requests": searches}, "image_gen": image}


@pytest.mark.parametrize(
    ("answer", "counts"),
    [
        (response(), {}),
        (response({"type": "message"}, {"type": "reasoning"}, {"type": "function_call"}, {"type": "mcp_call"}), {}),
        (response(SEARCH, OPEN, SEARCH), {"web_search": 2}),
        (response({"type": "web_search_call"}), {"web_search": 1}),  # older answers do not name the action
        (response(SEARCH, SEARCH, tool_usage=reported(1)), {"web_search": 1}),  # the provider's own count holds
        (response(SEARCH, tool_usage=reported(0)), {}),
        (response(SEARCH, tools=[{"type": "web_search_preview_2025_03_11"}]), {"web_search_preview": 1}),
        (response({"type": "file_search_call"}, {"type": "file_search_call"}), {"file_search": 2}),
        (
            response(*({"type": "code_interpreter_call", "container_id": each} for each in ("a", "b", "a"))),
            {"code_interpreter": 2},
        ),
        (response({"type": "image_generation_call"}, tool_usage=reported(0, 1_056)), {"image_generation": 1}),
        (response(tool_usage=reported(0, 1_056)), {"image_generation": 1}),
        (response({"type": "shell_call", "environment": {"type": "local"}}), {}),
        (response({"type": "shell_call", "environment": {"type": "container_reference"}}), {"shell": 1}),
        (response({"type": "x_search_call"}), {"x_search": 1}),  # a tool that nobody knows may be billed
        ({"model": "gpt-4o-search-preview", "usage": {"prompt_tokens": 1}}, {"web_search_preview": 1}),
        ({"model": "gpt-5-search-api", "usage": {"prompt_tokens": 1}}, {"web_search": 1}),
        ({"model": "gpt-5", "usage": {"prompt_tokens": 1}}, {}),
        (
            {"content": [{"type": "server_tool_use", "name": "bash_code_execution"}, {"type": "text"}], "usage": {}},
            {"code_execution": 1},
        ),
        # Anthropic's other passes are not in the counts of the usage itself
        ({"usage": {"iterations": [{"type": "compaction"}, {"type": "message"}]}}, {"compaction": 1}),
        # these names mean other things elsewhere
        ({"content": "text", "output": "text", "candidates": 3, "tools": {}, "usage": {"iterations": 7}}, {}),
    ],
)
def test_billed_calls_are_counted_by_kind(answer: dict[str, Any], counts: dict[str, int]) -> None:
    assert hosted_tools(answer) == counts


def test_the_counts_are_read_from_whole_answers_and_from_streams() -> None:
    answer = response(SEARCH, {"type": "file_search_call"})
    expected = Usage(input_tokens=1_000, output_tokens=100, hosted_tools={"file_search": 1, "web_search": 1})
    events = [{"type": "response.created", "response": {**answer, "output": [], "usage": None}}]
    ended = [*events, {"type": "response.completed", "response": answer}]
    assert read_answer("responses", answer).usage == expected
    assert read_stream("responses", ended).usage == expected
    assert usage_of(answer).usage == expected


def test_a_chat_streams_model_says_that_it_searched() -> None:
    chunk = {"model": "gpt-4o-search-preview", "choices": [{"index": 0, "finish_reason": "stop"}]}
    last = {**chunk, "choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 6}}
    usage = read_stream("chat", [chunk, last]).usage
    assert usage is not None and usage.hosted_tools == {"web_search_preview": 1}


def test_a_malformed_count_makes_the_usage_unmeasured() -> None:
    assert read_answer("responses", response(tool_usage={"web_search": {"num_requests": -1}})).usage is None
    assert read_answer("responses", response(tool_usage={"web_search": {}})).usage is None


def cost(tools: dict[str, int], model: str = "gpt-5.4", provider: str | None = "openai", **more: Any) -> Cost:
    usage = Usage(input_tokens=1_000, output_tokens=100, hosted_tools=tools)
    return price_usage(usage, model=model, provider=provider, at_ms=NOW, **more)


def test_calls_with_a_published_price_are_added_to_the_tokens() -> None:
    # 1000 x 2.5 = 2500, 100 x 15 = 1500; 2 searches at $10 a thousand = 20000, 1 at $2.50 a thousand = 2500
    assert cost({"web_search": 2, "file_search": 1}).nano == 26_500_000
    # 1000 x 5 = 5000, 100 x 25 = 2500, 10000; a fetch costs its tokens alone
    assert cost({"web_search": 1, "web_fetch": 3}, "claude-opus-5", "anthropic").nano == 17_500_000


def test_calls_cost_the_same_in_every_tier() -> None:
    # 1000 x 1.25 = 1250, 100 x 7.5 = 750, 10000
    assert cost({"web_search": 1}, tier="flex").nano == 12_000_000


@pytest.mark.parametrize(
    ("tools", "model", "provider", "named"),
    [
        ({"image_generation": 1}, "gpt-5.4", "openai", "image_generation (x1)"),
        ({"code_interpreter": 2, "web_search": 1}, "gpt-5.4", "openai", "code_interpreter (x2)"),
        ({"web_search_preview": 1}, "gpt-5.4", "openai", "web_search_preview (x1)"),
        ({"web_search": 1}, "gpt-5-search-api", "openai", "web_search (x1)"),
        ({"compaction": 1}, "claude-opus-5", "anthropic", "compaction (x1)"),
        ({"google_search": 4}, "gemini-3.8-flash", "google", "google_search (x4)"),  # some are free each month
        ({"web_fetch": 1}, "deepseek-flash", "deepseek", "web_fetch (x1)"),  # billed there
    ],
)
def test_a_tool_without_a_published_price_makes_the_cost_unknown_and_is_named_with_the_known_part(
    tools: dict[str, int], model: str, provider: str, named: str
) -> None:
    unknown = cost(tools, model, provider)
    assert unknown.nano is None
    assert unknown.source.startswith(f"no price for hosted tools: {named}; the rest costs $0.0")
    assert f"({provider}:" in unknown.source


def test_the_known_part_is_exact() -> None:
    # 1000 x 2.5 = 2500, 100 x 15 = 1500, one search 10000
    assert "; the rest costs $0.014 by genai-prices" in cost({"image_generation": 1, "web_search": 1}).source


def test_your_table_prices_what_no_list_does() -> None:
    table = {"gpt-5.4": Price(input="2.50", output=15, per_call={"image_generation": "0.04"})}
    assert cost({"image_generation": 2}, table=table) == Cost(84_000_000, "table (gpt-5.4)")
