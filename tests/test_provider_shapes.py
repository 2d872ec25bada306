"""One answer of each provider, as its documentation shows it, and what it used.

Beside each stands where its shape was read. ``genai-prices`` is that package's own table of where each provider's
answers keep their counts, and which of them lie beside the input or the output (version 0.2.3).
"""

from __future__ import annotations

from enum import StrEnum
from types import SimpleNamespace
from typing import Any

import pytest
from openai.types import ImagesResponse
from openai.types.responses import Response
from pydantic import BaseModel, ConfigDict

from agentcheckpoint.core.models import Usage
from agentcheckpoint.core.usage import Measured, usage_of

SHAPES: dict[str, tuple[dict[str, Any], Measured]] = {
    # openai 3.54: types/responses/response_usage.py
    "openai responses, twelve-hour cache writes": (
        {
            "model": "gpt-6.1-terra",
            "service_tier": "priority",
            "output": [],
            "usage": {
                "input_tokens": 1_000,
                "input_tokens_details": {
                    "cached_tokens": 300,
                    "cache_write_tokens": 200,
                    "cache_write_tokens_details": {"ttl_30m_tokens": 50, "ttl_12h_tokens": 150},
                },
                "output_tokens": 90,
                "output_tokens_details": {"reasoning_tokens": 64},
                "total_tokens": 1_090,
            },
        },
        Measured(
            Usage(
                input_tokens=1_000,
                output_tokens=90,
                cached_tokens=300,
                cache_write_tokens=200,
                cache_write_long_tokens=150,
                reasoning_tokens=64,
            ),
            "gpt-6.1-terra",
            "priority",
        ),
    ),
    # openai 3.54: types/completion_usage.py
    "openai chat, audio and images": (
        {
            "model": "gpt-audio",
            "usage": {
                "prompt_tokens": 900,
                "completion_tokens": 120,
                "total_tokens": 1_020,
                "prompt_tokens_details": {"audio_tokens": 300, "image_tokens": 400, "text_tokens": 200},
                "completion_tokens_details": {"audio_tokens": 100, "text_tokens": 20, "rejected_prediction_tokens": 5},
            },
        },
        Measured(
            Usage(
                input_tokens=900,
                output_tokens=120,
                input_audio_tokens=300,
                output_audio_tokens=100,
                input_image_tokens=400,
            ),
            "gpt-audio",
        ),
    ),
    # openai 3.54: types/images_response.py
    "openai images, whose output may be itemised": (
        {
            "created": 1_790_000_000,
            "data": [],
            "usage": {
                "input_tokens": 50,
                "input_tokens_details": {"text_tokens": 10, "image_tokens": 40},
                "output_tokens": 1_100,
                "output_tokens_details": {"text_tokens": 44, "image_tokens": 1_056},
                "total_tokens": 1_150,
            },
        },
        Measured(Usage(input_tokens=50, output_tokens=1_100, input_image_tokens=40, output_image_tokens=1_056)),
    ),
    "openai images, whose output may not": (
        {
            "created": 1_790_000_000,
            "data": [],
            "usage": {
                "input_tokens": 50,
                "input_tokens_details": {"text_tokens": 10, "image_tokens": 40},
                "output_tokens": 1_056,
                "total_tokens": 1_106,
            },
        },
        Measured(Usage(input_tokens=50, output_tokens=1_056, input_image_tokens=40, output_image_tokens=1_056)),
    ),
    # openai 3.54: types/audio/transcription.py (UsageTokens): the details are called input_token_details there
    "openai transcription": (
        {
            "text": "hello",
            "usage": {
                "type": "tokens",
                "input_tokens": 14,
                "input_token_details": {"text_tokens": 0, "audio_tokens": 14},
                "output_tokens": 5,
                "total_tokens": 19,
            },
        },
        Measured(Usage(input_tokens=14, output_tokens=5, input_audio_tokens=14)),
    ),
    # https://platform.claude.com/docs/en/api/messages, "Usage"; genai-prices: what was cached lies beside the input
    "anthropic": (
        {
            "id": "msg_1",
            "type": "message",
            "model": "claude-opus-5",
            "content": [{"type": "text", "text": "hi"}],
            "usage": {
                "input_tokens": 21,
                "cache_creation_input_tokens": 500,
                "cache_read_input_tokens": 1_000,
                "cache_creation": {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 400},
                "output_tokens": 393,
                "server_tool_use": {"web_search_requests": 2, "web_fetch_requests": 1},
                "service_tier": "standard",
            },
        },
        Measured(
            Usage(
                input_tokens=1_521,
                output_tokens=393,
                cached_tokens=1_000,
                cache_write_tokens=500,
                cache_write_long_tokens=400,
                hosted_tools={"web_fetch": 1, "web_search": 2},
            ),
            "claude-opus-5",
            "standard",
        ),
    ),
    # https://googleapis.github.io/kotlin-genai/google-genai-kotlin/com.google.genai.kotlin.types/-usage-metadata/
    # and https://hexdocs.pm/geminix/Geminix.V1beta.UsageMetadata.html: the prompt includes what was cached;
    # genai-prices: thoughts lie beside the candidates, the prompts of tools beside the prompt
    "gemini": (
        {
            "modelVersion": "gemini-3.8-flash",
            "candidates": [{"groundingMetadata": {"webSearchQueries": ["oslo weather", "oslo snow"]}}],
            "usageMetadata": {
                "promptTokenCount": 1_000,
                "cachedContentTokenCount": 600,
                "candidatesTokenCount": 100,
                "thoughtsTokenCount": 250,
                "toolUsePromptTokenCount": 30,
                "totalTokenCount": 1_380,
                "promptTokensDetails": [
                    {"modality": "TEXT", "tokenCount": 500},
                    {"modality": "AUDIO", "tokenCount": 200},
                    {"modality": "IMAGE", "tokenCount": 200},
                    {"modality": "DOCUMENT", "tokenCount": 100},
                ],
                "cacheTokensDetails": [
                    {"modality": "TEXT", "tokenCount": 450},
                    {"modality": "AUDIO", "tokenCount": 100},
                    {"modality": "IMAGE", "tokenCount": 50},
                ],
                "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 70}],
                "serviceTier": "FLEX",
            },
        },
        Measured(
            Usage(
                input_tokens=1_030,
                output_tokens=350,
                cached_tokens=600,
                reasoning_tokens=250,
                input_audio_tokens=200,
                cached_audio_tokens=100,
                input_image_tokens=300,
                cached_image_tokens=50,
                output_image_tokens=70,
                hosted_tools={"google_search": 2},
            ),
            "gemini-3.8-flash",
            "flex",
        ),
    ),
    # https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_TokenUsage.html and API_runtime_CacheDetail;
    # genai-prices: what was cached lies beside the input
    "bedrock converse": (
        {
            "output": {"message": {"role": "assistant", "content": [{"text": "hi"}]}},
            "usage": {
                "inputTokens": 30,
                "outputTokens": 20,
                "totalTokens": 1_550,
                "cacheReadInputTokens": 1_000,
                "cacheWriteInputTokens": 500,
                "cacheDetails": [{"ttl": "1h", "inputTokens": 400}, {"ttl": "5m", "inputTokens": 100}],
            },
            "serviceTier": {"type": "flex"},
        },
        Measured(
            Usage(
                input_tokens=1_530,
                output_tokens=20,
                cached_tokens=1_000,
                cache_write_tokens=500,
                cache_write_long_tokens=400,
            ),
            None,
            "flex",
        ),
    ),
    # https://docs.cohere.com/v2/docs/how-does-cohere-pricing-work, genai-prices: billed units are what is billed
    "cohere": (
        {
            "id": "1",
            "finish_reason": "COMPLETE",
            "message": {"role": "assistant", "content": [{"type": "text", "text": "hi"}]},
            "usage": {
                "billed_units": {"input_tokens": 5, "output_tokens": 418},
                "tokens": {"input_tokens": 71, "output_tokens": 418},
            },
        },
        Measured(Usage(input_tokens=5, output_tokens=418)),
    ),
    # genai-prices, cohere "embeddings"; Cohere's Python client has floats there
    "cohere embeddings": (
        {"embeddings": {}, "meta": {"billed_units": {"input_tokens": 12.0}}},
        Measured(Usage(input_tokens=12)),
    ),
    # https://docs.rs/crate/deepseek-sdk/0.7.0/source/src/chat/response.rs, after DeepSeek's own reference: the prompt
    # is hits and misses together
    "deepseek": (
        {
            "model": "deepseek-flash",
            "usage": {
                "prompt_tokens": 100,
                "completion_tokens": 30,
                "total_tokens": 130,
                "prompt_cache_hit_tokens": 64,
                "prompt_cache_miss_tokens": 36,
                "completion_tokens_details": {"reasoning_tokens": 11},
                "server_tool_use": {"web_search_requests": 1},
            },
        },
        Measured(
            Usage(
                input_tokens=100,
                output_tokens=30,
                cached_tokens=64,
                reasoning_tokens=11,
                hosted_tools={"web_search": 1},
            ),
            "deepseek-flash",
        ),
    ),
    # https://docs.x.ai/developers/advanced-api-usage/prompt-caching/usage-and-pricing; genai-prices: reasoning lies
    # beside the completion; https://docs.rs/crate/xai-openapi: sources of live search are counted in the usage
    "xai": (
        {
            "model": "grok-4.6",
            "usage": {
                "prompt_tokens": 125,
                "completion_tokens": 48,
                "total_tokens": 273,
                "prompt_tokens_details": {
                    "text_tokens": 125,
                    "audio_tokens": 0,
                    "image_tokens": 0,
                    "cached_tokens": 98,
                },
                "completion_tokens_details": {"reasoning_tokens": 100, "audio_tokens": 0},
                "num_sources_used": 3,
            },
        },
        Measured(
            Usage(
                input_tokens=125,
                output_tokens=148,
                cached_tokens=98,
                reasoning_tokens=100,
                hosted_tools={"live_search": 3},
            ),
            "grok-4.6",
        ),
    ),
    # genai-prices, moonshotai and anthropic "chat": what was cached stands in the usage itself
    "cached tokens in the usage itself": (
        {"model": "kimi", "usage": {"prompt_tokens": 50, "completion_tokens": 5, "cached_tokens": 32}},
        Measured(Usage(input_tokens=50, output_tokens=5, cached_tokens=32), "kimi"),
    ),
    # genai-prices, mistral "default" and groq "chat": OpenAI's shape
    "mistral": (
        {
            "model": "mistral-large-latest",
            "usage": {
                "prompt_tokens": 11,
                "completion_tokens": 7,
                "total_tokens": 18,
                "prompt_audio_seconds": None,
                "prompt_tokens_details": {"cached_tokens": 4},
            },
        },
        Measured(Usage(input_tokens=11, output_tokens=7, cached_tokens=4), "mistral-large-latest"),
    ),
    "groq": (
        {
            "model": "openai/gpt-oss-120b",
            "service_tier": "on_demand",
            "usage": {
                "queue_time": 0.03,
                "prompt_tokens": 18,
                "prompt_time": 0.0007,
                "completion_tokens": 556,
                "completion_time": 0.46,
                "total_tokens": 574,
                "total_time": 0.464,
            },
        },
        Measured(Usage(input_tokens=18, output_tokens=556), "openai/gpt-oss-120b", "on_demand"),
    ),
    # https://docs.ollama.com/api/usage.md
    "ollama": (
        {
            "model": "gemma3",
            "created_at": "2025-10-17T23:14:07.414671Z",
            "response": "Hello! How can I help you today?",
            "done": True,
            "done_reason": "stop",
            "total_duration": 174_560_334,
            "prompt_eval_count": 11,
            "prompt_eval_duration": 13_074_791,
            "eval_count": 18,
            "eval_duration": 52_479_709,
        },
        Measured(Usage(input_tokens=11, output_tokens=18), "gemma3"),
    ),
    # unsourced: vLLM's OpenAI-compatible server, whose details are null unless asked for
    "vllm": (
        {
            "model": "llama",
            "service_tier": None,
            "usage": {
                "prompt_tokens": 9,
                "total_tokens": 19,
                "completion_tokens": 10,
                "prompt_tokens_details": None,
            },
        },
        Measured(Usage(input_tokens=9, output_tokens=10), "llama"),
    ),
}
EACH = pytest.mark.parametrize("name", SHAPES)


class Loose(BaseModel):
    """A model as a client generates it: known members typed, the others kept as they came."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())


def as_object(value: Any) -> Any:
    if isinstance(value, dict):
        return SimpleNamespace(**{name: as_object(member) for name, member in value.items()})
    return [as_object(member) for member in value] if isinstance(value, list) else value


@EACH
def test_an_answer_as_its_provider_documents_it(name: str) -> None:
    answer, said = SHAPES[name]
    assert usage_of(answer) == said


@EACH
def test_the_same_answer_as_the_objects_of_a_client(name: str) -> None:
    answer, said = SHAPES[name]
    assert usage_of(as_object(answer)) == said
    assert usage_of(Loose.model_validate(answer)) == said


def test_the_openai_clients_own_objects_are_read() -> None:
    images, said = SHAPES["openai images, whose output may be itemised"]
    assert usage_of(ImagesResponse.model_validate(images)) == said
    response, said = SHAPES["openai responses, twelve-hour cache writes"]
    whole = {
        **response,
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
    }
    assert usage_of(Response.model_validate(whole)) == said


def test_a_tier_may_be_an_enum_as_googles_client_has_it() -> None:
    class ServiceTier(StrEnum):
        PRIORITY = "PRIORITY"

    metadata = SimpleNamespace(prompt_token_count=5, candidates_token_count=1, service_tier=ServiceTier.PRIORITY)
    assert usage_of(SimpleNamespace(usage_metadata=metadata, model_version="gemini-3.8-flash")).tier == "priority"


@pytest.mark.parametrize(
    ("name", "usage"),
    [
        # what is sold by another measure than tokens
        ("mistral", {"prompt_tokens": 11, "completion_tokens": 7, "prompt_audio_seconds": 12}),
        ("cohere", {"billed_units": {"search_units": 1}}),
        ("cohere", {"billed_units": {"input_tokens": 5, "output_tokens": 4.5}}),
        ("cohere", {"billed_units": {"input_tokens": 5, "images": 1}}),
        ("openai transcription", {"type": "duration", "seconds": 9}),
        # Perplexity's citations have a price that lies in neither
        ("mistral", {"prompt_tokens": 11, "completion_tokens": 7, "citation_tokens": 900}),
        # parts that are more than their whole
        ("bedrock converse", {"inputTokens": 1, "outputTokens": 1, "cacheDetails": [{"ttl": "1h", "inputTokens": 5}]}),
        (
            "openai images, whose output may be itemised",
            {"input_tokens": 50, "input_tokens_details": {"image_tokens": 51}, "output_tokens": 5},
        ),
    ],
)
def test_what_is_no_count_of_tokens_is_unmeasured(name: str, usage: dict[str, Any]) -> None:
    answer, said = SHAPES[name]
    assert said.usage is not None
    assert usage_of({**answer, "usage": usage}).usage is None


def test_geminis_live_answers_are_unmeasured_since_video_has_a_price_there() -> None:
    assert usage_of({"usageMetadata": {"promptTokenCount": 5, "responseTokenCount": 9}}).usage is None


def test_an_ollama_answer_without_its_prompts_count_is_unmeasured() -> None:
    answer, _ = SHAPES["ollama"]
    assert usage_of({**answer, "prompt_eval_count": None}).usage is None
