"""What answers say of themselves, in every provider's shape: read as it stands, or unmeasured."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import SimpleNamespace
from typing import Any

import pytest
from openai.types import CreateEmbeddingResponse
from openai.types.chat import ChatCompletion
from openai.types.responses import Response

from agentcheckpoint.core.models import Usage
from agentcheckpoint.core.usage import Measured, chat_usage, total_usage, usage_of
from agentcheckpoint.openai.usage import Answered, Endpoint, read_answer, read_stream

CHAT: dict[str, Any] = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1_790_000_000,
    "model": "gpt-5-2025-08-07",
    "service_tier": "default",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "hi"}}],
    "usage": {
        "prompt_tokens": 1_000,
        "completion_tokens": 200,
        "total_tokens": 1_200,
        "prompt_tokens_details": {"cached_tokens": 600, "cache_write_tokens": 100, "audio_tokens": 50},
        "completion_tokens_details": {"reasoning_tokens": 120, "audio_tokens": 20},
    },
}
CHAT_USAGE = Usage(
    input_tokens=1_000,
    output_tokens=200,
    cached_tokens=600,
    cache_write_tokens=100,
    reasoning_tokens=120,
    input_audio_tokens=50,
    output_audio_tokens=20,
)

RESPONSE: dict[str, Any] = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1_790_000_000,
    "model": "gpt-5.6-sol",
    "service_tier": "flex",
    "status": "completed",
    "error": None,
    "output": [],
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [],
    "usage": {
        "input_tokens": 1_000,
        "input_tokens_details": {"cached_tokens": 600, "cache_write_tokens": 100},
        "output_tokens": 200,
        "output_tokens_details": {"reasoning_tokens": 120},
        "total_tokens": 1_200,
    },
}
RESPONSE_USAGE = Usage(
    input_tokens=1_000, output_tokens=200, cached_tokens=600, cache_write_tokens=100, reasoning_tokens=120
)

EMBEDDINGS: dict[str, Any] = {
    "object": "list",
    "model": "text-embedding-3-small",
    "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}],
    "usage": {"prompt_tokens": 8, "total_tokens": 8},
}

ANTHROPIC: dict[str, Any] = {
    "id": "msg_1",
    "type": "message",
    "model": "claude-sonnet-4-5-20250929",
    "content": [{"type": "text", "text": "hi"}],
    "usage": {
        "input_tokens": 100,
        "cache_read_input_tokens": 1_000,
        "cache_creation_input_tokens": 200,
        "cache_creation": {"ephemeral_5m_input_tokens": 200, "ephemeral_1h_input_tokens": 0},
        "output_tokens": 50,
        "output_tokens_details": {"thinking_tokens": 30},
        "service_tier": "standard",
    },
}
ANTHROPIC_USAGE = Usage(
    input_tokens=1_300, output_tokens=50, cached_tokens=1_000, cache_write_tokens=200, reasoning_tokens=30
)

GEMINI: dict[str, Any] = {
    "model_version": "gemini-2.5-flash",
    "candidates": [],
    "usage_metadata": {
        "prompt_token_count": 1_000,
        "cached_content_token_count": 400,
        "tool_use_prompt_token_count": 10,
        "candidates_token_count": 100,
        "thoughts_token_count": 300,
        "total_token_count": 1_410,
        "prompt_tokens_details": [
            {"modality": "TEXT", "token_count": 800},
            {"modality": "AUDIO", "token_count": 200},
        ],
        "cache_tokens_details": [
            {"modality": "TEXT", "token_count": 300},
            {"modality": "AUDIO", "token_count": 100},
        ],
    },
}
GEMINI_JSON: dict[str, Any] = {
    "modelVersion": "gemini-2.5-flash",
    "usageMetadata": {
        "promptTokenCount": 1_000,
        "cachedContentTokenCount": 400,
        "toolUsePromptTokenCount": 10,
        "candidatesTokenCount": 100,
        "thoughtsTokenCount": 300,
        "promptTokensDetails": [{"modality": "AUDIO", "tokenCount": 200}],
        "cacheTokensDetails": [{"modality": "AUDIO", "tokenCount": 100}],
    },
}
GEMINI_USAGE = Usage(
    input_tokens=1_010,
    output_tokens=400,
    cached_tokens=400,
    reasoning_tokens=300,
    input_audio_tokens=200,
    cached_audio_tokens=100,
)


def as_object(value: Any) -> Any:
    """The same as the attributes of an object, as a provider's own client gives it."""
    if isinstance(value, dict):
        return SimpleNamespace(**{name: as_object(member) for name, member in value.items()})
    return [as_object(member) for member in value] if isinstance(value, list) else value


def altered(body: Mapping[str, Any], **changes: object) -> dict[str, Any]:
    """The body with members of its usage replaced; a dotted name goes into the details."""
    usage = {name: dict(value) if isinstance(value, dict) else value for name, value in body["usage"].items()}
    for name, value in changes.items():
        outer, _, inner = name.partition("__")
        if inner:
            usage[outer][inner] = value
        else:
            usage[outer] = value
    return {**body, "usage": usage}


# --- usage_of: whatever a provider's client returned


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (CHAT, Measured(CHAT_USAGE, "gpt-5-2025-08-07", "default")),
        (RESPONSE, Measured(RESPONSE_USAGE, "gpt-5.6-sol", "flex")),
        (EMBEDDINGS, Measured(Usage(input_tokens=8), "text-embedding-3-small")),
        (ANTHROPIC, Measured(ANTHROPIC_USAGE, "claude-sonnet-4-5-20250929", "standard")),
        (GEMINI, Measured(GEMINI_USAGE, "gemini-2.5-flash")),
        (GEMINI_JSON, Measured(GEMINI_USAGE, "gemini-2.5-flash")),
    ],
    ids=["chat", "responses", "embeddings", "anthropic", "gemini", "gemini json"],
)
def test_each_providers_shape_is_read_from_a_dict_and_from_an_object(answer: dict[str, Any], said: Measured) -> None:
    assert usage_of(answer) == said
    assert usage_of(as_object(answer)) == said
    # a client's object may keep its usage as the dict that it was, and a dict may hold the client's object
    assert usage_of(SimpleNamespace(**answer)) == said
    assert usage_of({name: as_object(member) for name, member in answer.items()}) == said


def test_the_objects_of_the_openai_client_are_read() -> None:
    assert usage_of(ChatCompletion.model_validate(CHAT)).usage == CHAT_USAGE
    assert usage_of(Response.model_validate(RESPONSE)).usage == RESPONSE_USAGE
    assert usage_of(CreateEmbeddingResponse.model_validate(EMBEDDINGS)).usage == Usage(input_tokens=8)


def test_anthropics_input_is_made_to_include_what_was_cached_even_where_one_count_is_null() -> None:
    usage = {
        "input_tokens": 100,
        "cache_read_input_tokens": 40,
        "cache_creation_input_tokens": None,
        "output_tokens": 5,
    }
    expected = Usage(input_tokens=140, output_tokens=5, cached_tokens=40)
    assert usage_of({"model": "claude", "usage": usage}) == Measured(expected, "claude")
    assert usage_of(SimpleNamespace(model="claude", usage=SimpleNamespace(**usage))).usage == expected


def test_anthropics_one_hour_cache_writes_are_told_from_the_others_since_they_cost_more() -> None:
    body = altered(
        ANTHROPIC, cache_creation__ephemeral_1h_input_tokens=150, cache_creation__ephemeral_5m_input_tokens=50
    )
    assert usage_of(body).usage == ANTHROPIC_USAGE.model_copy(update={"cache_write_long_tokens": 150})
    assert usage_of(altered(ANTHROPIC, cache_creation__ephemeral_1h_input_tokens=201)).usage is None


def test_anthropics_speed_and_place_of_inference_are_in_the_tier_since_they_have_prices() -> None:
    assert usage_of(altered(ANTHROPIC, speed="standard", inference_geo="global")).tier == "standard"
    assert usage_of(altered(ANTHROPIC, speed="fast")).tier == "fast"
    assert usage_of(altered(ANTHROPIC, service_tier="batch", inference_geo="us")).tier == "batch+us"
    assert usage_of(altered(ANTHROPIC, service_tier=None)).tier is None


def test_openai_shaped_usage_that_also_names_anthropics_counts_is_not_added_up_twice() -> None:
    body = altered(CHAT, cache_read_input_tokens=600, cache_creation_input_tokens=100)
    assert usage_of(body).usage == CHAT_USAGE


def test_reasoning_beside_the_completion_is_added_where_the_total_says_so() -> None:
    usage = {
        "prompt_tokens": 100,
        "completion_tokens": 20,
        "total_tokens": 150,
        "completion_tokens_details": {"reasoning_tokens": 30},
    }
    assert chat_usage({"usage": usage}) == Usage(input_tokens=100, output_tokens=50, reasoning_tokens=30)


def test_a_gemini_modality_may_be_an_enum_and_thoughts_may_be_all_there_is() -> None:
    class Modality(StrEnum):
        AUDIO = "AUDIO"

    metadata = SimpleNamespace(
        prompt_token_count=10,
        candidates_token_count=None,
        thoughts_token_count=5,
        cached_content_token_count=None,
        prompt_tokens_details=[SimpleNamespace(modality=Modality.AUDIO, token_count=4)],
    )
    expected = Usage(input_tokens=10, output_tokens=5, reasoning_tokens=5, input_audio_tokens=4)
    assert usage_of(SimpleNamespace(usage_metadata=metadata)) == Measured(expected)


def test_cached_audio_has_a_price_of_its_own_so_geminis_cache_is_unmeasured_where_nobody_says_what_it_was() -> None:
    metadata = {**GEMINI["usage_metadata"], "cache_tokens_details": None}
    assert usage_of({"usage_metadata": metadata}).usage is None
    without_audio = {**metadata, "prompt_tokens_details": [{"modality": "TEXT", "token_count": 1_000}]}
    measured = usage_of({"usage_metadata": without_audio}).usage
    assert measured == GEMINI_USAGE.model_copy(update={"input_audio_tokens": 0, "cached_audio_tokens": 0})


class Hostile:
    @property
    def usage(self) -> object:
        raise RuntimeError("lazy, and the connection is gone")

    model = "m"


@pytest.mark.parametrize(
    "answer",
    [
        None,
        "text",
        42,
        [],
        {},
        {"usage": None},
        {"usage": "many"},
        {"usage": {}},
        {"usage": {"prompt_tokens": 5}},
        {"usage": {"prompt_tokens": 5, "total_tokens": 9}},
        {"usage": {"input_tokens": 5}},
        {"usage": {"tokens": 5}},
        {"usage_metadata": {"input_tokens": 5, "output_tokens": 6}},
        {"usage_metadata": {"prompt_token_count": None}},
        {"usage_metadata": {"prompt_token_count": 5, "prompt_tokens_details": "AUDIO"}},
        SimpleNamespace(usage=lambda: None),
    ],
)
def test_where_no_shape_fits_there_is_no_usage(answer: object) -> None:
    assert usage_of(answer) == Measured()


def test_an_object_that_raises_when_asked_loses_nothing_else() -> None:
    assert usage_of(Hostile()) == Measured(None, "m")


def test_totals_add_kind_by_kind() -> None:
    assert total_usage([]) == Usage()
    one = Usage(input_tokens=1, output_audio_tokens=2, hosted_tools={"web_search": 2})
    other = RESPONSE_USAGE.model_copy(update={"hosted_tools": {"web_search": 1, "file_search": 1}})
    assert total_usage([one, other]) == RESPONSE_USAGE.model_copy(
        update={
            "input_tokens": 1_001,
            "output_audio_tokens": 2,
            "hosted_tools": {"web_search": 3, "file_search": 1},
        }
    )


def test_usage_that_an_older_version_recorded_is_read_and_one_of_ours_can_be_read_by_it() -> None:
    old = '{"input_tokens":5,"output_tokens":6,"cached_tokens":1,"cache_write_tokens":0,"reasoning_tokens":0}'
    assert Usage.model_validate_json(old) == Usage(input_tokens=5, output_tokens=6, cached_tokens=1)
    ours = Usage(input_tokens=5, output_image_tokens=0, hosted_tools={"web_search": 2})
    assert Usage.model_validate_json(ours.model_dump_json()) == ours
    assert set(Usage.model_fields) >= {"input_tokens", "output_tokens", "cached_tokens", "input_audio_tokens"}


# --- read_answer: a whole answer over HTTP


def test_a_whole_chat_answer() -> None:
    assert read_answer("chat", CHAT) == Answered(
        usage=CHAT_USAGE, served="gpt-5-2025-08-07", tier="default", response_id="chatcmpl-1"
    )


def test_a_whole_response() -> None:
    assert read_answer("responses", RESPONSE) == Answered(
        usage=RESPONSE_USAGE, served="gpt-5.6-sol", tier="flex", response_id="resp_1"
    )


def test_embeddings() -> None:
    assert read_answer("embeddings", EMBEDDINGS) == Answered(
        usage=Usage(input_tokens=8), served="text-embedding-3-small"
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"prompt_tokens": -1},
        {"prompt_tokens": 1_000.0},
        {"prompt_tokens": "1000"},
        {"prompt_tokens": True},
        {"prompt_tokens": None},
        {"prompt_tokens": 10**30},
        {"completion_tokens": None},
        {"prompt_tokens_details": 7},
        {"prompt_tokens_details": [600]},
        {"prompt_tokens_details__cached_tokens": "600"},
        {"prompt_tokens_details__cached_tokens": 1_001},
        {"completion_tokens_details__reasoning_tokens": -1},
        {"completion_tokens_details__reasoning_tokens": 201},
    ],
)
def test_malformed_usage_is_unmeasured_and_the_rest_is_kept(changes: dict[str, object]) -> None:
    answer = read_answer("chat", altered(CHAT, **changes))
    assert (answer.usage, answer.served, answer.failed) == (None, "gpt-5-2025-08-07", None)


def test_true_is_not_one_token() -> None:
    assert read_answer("chat", {"usage": {"prompt_tokens": True, "completion_tokens": 1}}).usage is None


def test_details_that_are_null_or_missing_count_nothing() -> None:
    usage = {"prompt_tokens": 5, "completion_tokens": 6, "prompt_tokens_details": None}
    assert read_answer("chat", {"usage": usage}).usage == Usage(input_tokens=5, output_tokens=6)


def test_one_endpoints_usage_is_not_read_from_anothers_answer() -> None:
    assert read_answer("responses", CHAT).usage is None
    assert read_answer("chat", RESPONSE).usage is None


@pytest.mark.parametrize("odd", [None, "", 5, ["gpt-5"], "x" * 5_000])
def test_a_name_that_is_none_is_left_out(odd: object) -> None:
    answer = read_answer("chat", {**CHAT, "model": odd, "service_tier": odd, "id": odd})
    assert (answer.served, answer.tier, answer.response_id) == (None, None, None)


def test_a_response_that_failed_or_was_cancelled_is_no_result_and_says_why() -> None:
    error = {"code": "server_error", "message": "out of luck"}
    failed = read_answer("responses", {**RESPONSE, "status": "failed", "error": error})
    cancelled = read_answer("responses", {**RESPONSE, "status": "cancelled"})
    assert (failed.failed, failed.unfinished) == ("status failed: server_error: out of luck", False)
    assert (cancelled.failed, cancelled.unfinished) == ("status cancelled", False)
    assert failed.usage == RESPONSE_USAGE


def test_an_incomplete_response_is_a_result() -> None:
    body = {**RESPONSE, "status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
    assert read_answer("responses", body) == read_answer("responses", RESPONSE)


@pytest.mark.parametrize("status", ["queued", "in_progress"])
def test_a_response_still_being_made_is_unfinished_and_has_its_id(status: str) -> None:
    answer = read_answer("responses", {**RESPONSE, "status": status, "usage": None})
    assert (answer.unfinished, answer.failed, answer.response_id, answer.usage) == (True, None, "resp_1", None)


@pytest.mark.parametrize(
    ("error", "failed"),
    [
        ({"message": "overloaded", "type": "server_error"}, "server_error: overloaded"),
        ({"message": "overloaded", "code": 502}, "502: overloaded"),
        ("overloaded", "overloaded"),
        ({"detail": "?"}, "error"),
        ({"message": "x" * 5_000}, "x" * 300),
    ],
)
@pytest.mark.parametrize("endpoint", ["chat", "embeddings", "responses"])
def test_a_200_with_an_error_in_it_is_no_result(endpoint: Endpoint, error: object, failed: str) -> None:
    assert read_answer(endpoint, {"error": error}).failed == failed


# --- read_stream: the events of a stream


def chunk(**members: object) -> dict[str, object]:
    base: dict[str, object] = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "gpt-5-2025-08-07"}
    return {**base, "usage": None, **members}


def choice(reason: str | None = None, index: int = 0) -> dict[str, object]:
    return {"index": index, "delta": {"content": "h"}, "finish_reason": reason}


def test_a_chat_stream_has_usage_in_its_last_chunk() -> None:
    events = [
        chunk(choices=[choice()], service_tier="auto"),
        chunk(choices=[choice("stop")], service_tier="default"),
        chunk(choices=[], usage=CHAT["usage"], service_tier="default"),
    ]
    assert read_stream("chat", events) == read_answer("chat", CHAT)


def test_where_a_server_counts_along_the_last_count_holds() -> None:
    first = {"prompt_tokens": 5, "completion_tokens": 1}
    last = {"prompt_tokens": 5, "completion_tokens": 2}
    answer = read_stream("chat", [chunk(choices=[choice()], usage=first), chunk(choices=[choice("stop")], usage=last)])
    assert answer.usage == Usage(input_tokens=5, output_tokens=2)


def test_a_malformed_last_count_is_not_replaced_by_an_earlier_one() -> None:
    first = {"prompt_tokens": 5, "completion_tokens": 1}
    events = [chunk(choices=[choice("stop")], usage=first), chunk(choices=[], usage={"prompt_tokens": "5"})]
    assert read_stream("chat", events).usage is None


def test_a_chat_stream_without_usage_is_finished_and_unmeasured() -> None:
    answer = read_stream("chat", [chunk(choices=[choice()]), chunk(choices=[choice("length")])])
    assert (answer.usage, answer.unfinished, answer.failed) == (None, False, None)


@pytest.mark.parametrize(
    "events",
    [
        [],
        [chunk(choices=[choice()])],
        [chunk(choices=[choice("stop", 0)]), chunk(choices=[choice(None, 1)])],
        [chunk(choices="none")],
    ],
    ids=["nothing", "cut", "one of two choices", "odd"],
)
def test_a_chat_stream_without_every_finish_reason_is_unfinished(events: list[dict[str, object]]) -> None:
    assert read_stream("chat", events).unfinished


def test_an_error_in_a_chat_stream_makes_it_no_result() -> None:
    answer = read_stream("chat", [chunk(choices=[choice()]), {"error": {"message": "overloaded"}}])
    assert (answer.failed, answer.unfinished, answer.response_id) == ("overloaded", False, "chatcmpl-1")


def event(kind: str, number: int, **response: object) -> dict[str, object]:
    return {"type": kind, "sequence_number": number, "response": {**RESPONSE, **response}}


STARTED = event("response.created", 0, status="in_progress", usage=None, service_tier="auto")
DELTA: dict[str, object] = {"type": "response.output_text.delta", "sequence_number": 1, "delta": "h"}


@pytest.mark.parametrize("status", ["completed", "incomplete"])
def test_a_responses_stream_is_read_from_its_last_event(status: str) -> None:
    events = [STARTED, DELTA, event(f"response.{status}", 2, status=status)]
    assert read_stream("responses", events) == read_answer("responses", RESPONSE)


@pytest.mark.parametrize("status", ["failed", None])
def test_a_responses_stream_that_ends_failed_is_no_result(status: str | None) -> None:
    answer = read_stream("responses", [STARTED, event("response.failed", 1, status=status, usage=None)])
    assert (answer.failed, answer.unfinished, answer.usage) == ("status failed", False, None)


def test_a_cut_responses_stream_is_unfinished_and_has_the_id_by_which_to_fetch_it() -> None:
    answer = read_stream("responses", [STARTED, DELTA])
    assert (answer.unfinished, answer.response_id, answer.usage, answer.failed) == (True, "resp_1", None, None)


def test_a_responses_stream_cut_before_its_first_event_is_unfinished() -> None:
    assert read_stream("responses", []) == Answered(unfinished=True)


def test_an_error_event_in_a_responses_stream_makes_it_no_result() -> None:
    error = {"type": "error", "code": "server_error", "message": "out of luck", "sequence_number": 1}
    answer = read_stream("responses", [STARTED, error])
    assert (answer.failed, answer.unfinished, answer.response_id) == ("server_error: out of luck", False, "resp_1")
