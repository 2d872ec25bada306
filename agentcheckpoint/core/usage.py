"""Tokens as providers report them, each in its own shape, read into one ``Usage``.

What does not add up is unmeasured (``None``), never a guess: a wrong count would become a wrong cost.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar, cast

from agentcheckpoint.core.fields import Unreadable, count, details, field, has, items, name_of
from agentcheckpoint.core.hosted import hosted_tools
from agentcheckpoint.core.models import Usage

_T = TypeVar("_T")


@dataclass(frozen=True)
class Measured:
    """What an answer says of itself, as far as money is concerned.

    Attributes:
        usage: tokens and hosted tools; ``None``: unmeasured.
        served: the model that answered, as the provider names it.
        tier: the service tier that it was answered in.
    """

    usage: Usage | None = None
    served: str | None = None
    tier: str | None = None


def usage_of(result: object) -> Measured:
    """Read what a provider's client returned, whichever provider it is: a whole answer, or a stream's final one.

    Args:
        result: a mapping or an object, or one in the other, shaped like an answer of OpenAI, Anthropic, Gemini,
            Bedrock's Converse, Cohere or Ollama, or like one of the many that follow OpenAI's chat completions.

    Returns:
        The usage, ``None`` where no shape fits, the model and the tier. Nothing is raised: what comes in here was
        paid for.
    """
    return Measured(_safely(_any_usage, result), _safely(_model, result), _safely(_tier, result))


def chat_usage(answer: object) -> Usage | None:
    """Read the usage of a chat completion."""
    return _safely(_with_tools(_chat), answer)


def responses_usage(answer: object) -> Usage | None:
    """Read the usage of an answer of OpenAI's Responses API."""
    return _safely(_with_tools(_responses), answer)


def embeddings_usage(answer: object) -> Usage | None:
    """Read the usage of an answer with embeddings, which has no output tokens."""
    return _safely(_with_tools(_embeddings), answer)


def total_usage(usages: Iterable[Usage]) -> Usage:
    """Sum tokens and calls, kind by kind."""
    tokens: Counter[str] = Counter()
    calls: Counter[str] = Counter()
    for usage in usages:
        kinds = usage.model_dump(exclude={"hosted_tools"})
        tokens.update(kinds)
        calls.update(usage.hosted_tools)
    # a sum may be more than one record can hold
    return Usage.model_construct(None, **tokens, hosted_tools=dict(calls))


def _safely(reader: Callable[[object], _T], source: object) -> _T | None:
    try:
        return reader(source)
    except Exception:  # malformed, or the property of a foreign object raised, which it may
        return None


def _model(answer: object) -> str | None:
    return name_of(field(answer, "model", "model_version", "modelVersion"))


def _tier(answer: object) -> str | None:
    """The service tier, in lower case; Anthropic's speed and place of inference, which have prices too, behind it."""
    gemini, usage = field(answer, "usage_metadata", "usageMetadata"), field(answer, "usage")
    tier = (
        name_of(field(answer, "service_tier"))
        or name_of(field(usage, "service_tier"))
        or name_of(field(gemini, "service_tier", "serviceTier", "traffic_type", "trafficType"))
        or name_of(field(field(answer, "serviceTier"), "type"))
    )
    parts = [str.lower(tier)] if tier else []
    if field(usage, "speed") == "fast":
        parts = [part for part in parts if part != "standard"] + ["fast"]
    if field(usage, "inference_geo") == "us":
        parts.append("us")
    return "+".join(parts) or None


def _any_usage(answer: object) -> Usage:
    gemini, usage = field(answer, "usage_metadata", "usageMetadata"), field(answer, "usage")
    if has(gemini, "prompt_token_count", "promptTokenCount"):
        return _with_tools(_gemini, "usage_metadata", "usageMetadata")(answer)
    if has(answer, "prompt_eval_count"):
        return _ollama(answer)
    if field(usage, "billed_units") is not None or field(field(answer, "meta"), "billed_units") is not None:
        return _cohere(answer)
    if has(usage, "inputTokens"):
        return _bedrock(usage)
    if has(usage, "prompt_tokens"):
        # Embeddings alone have no output, and say so by a total that is the input.
        only_input = not has(usage, "completion_tokens") and count(usage, "total_tokens") == count(
            usage, "prompt_tokens", required=True
        )
        return _with_tools(_embeddings if only_input else _chat)(answer)
    if has(usage, "cache_read_input_tokens", "cache_creation_input_tokens"):
        return _with_tools(_anthropic)(answer)
    return _with_tools(_responses)(answer)


def _with_tools(reader: Callable[[object], Usage], *names: str) -> Callable[[object], Usage]:
    """A reader of a whole answer, from one of its usage, and where in the answer that lies."""

    def read(answer: object) -> Usage:
        usage = reader(field(answer, *(names or ("usage",))))
        tools = hosted_tools(answer)
        return usage.model_copy(update={"hosted_tools": tools}) if tools else usage

    return read


def _chat(usage: object) -> Usage:
    before, after = details(usage, "prompt_tokens_details"), details(usage, "completion_tokens_details")
    prompt = count(usage, "prompt_tokens", required=True)
    completion = count(usage, "completion_tokens", required=True)
    reasoning = count(after, "reasoning_tokens")
    if reasoning and count(usage, "total_tokens") == prompt + completion + reasoning:
        completion += reasoning  # xAI counts reasoning beside the completion; its own total says so
    if field(usage, "prompt_audio_seconds") or count(usage, "citation_tokens"):
        raise Unreadable  # Mistral sells audio by the second, Perplexity citations apart
    return _usage(
        input_tokens=prompt,
        output_tokens=completion,
        # DeepSeek has a name of its own for what it read from the cache, Moonshot another place
        cached_tokens=count(before, "cached_tokens") or count(usage, "prompt_cache_hit_tokens", "cached_tokens"),
        cache_write_tokens=count(before, "cache_write_tokens"),
        reasoning_tokens=reasoning,
        input_audio_tokens=count(before, "audio_tokens"),
        output_audio_tokens=count(after, "audio_tokens"),
        input_image_tokens=count(before, "image_tokens"),
        output_image_tokens=count(after, "image_tokens"),
    )


def _responses(usage: object) -> Usage:
    before = details(usage, "input_tokens_details", "input_token_details")  # audio endpoints write it so
    after = details(usage, "output_tokens_details", "output_token_details")
    cached = details(before, "cached_tokens_details")
    given = count(usage, "output_tokens", required=True)
    # The images endpoint counts the images it was sent, and may leave out that all it makes are images.
    drawn = given if after is None and has(before, "image_tokens") else count(after, "image_tokens")
    return _usage(
        input_tokens=count(usage, "input_tokens", required=True),
        output_tokens=given,
        cached_tokens=count(before, "cached_tokens"),
        cache_write_tokens=count(before, "cache_write_tokens"),
        cache_write_long_tokens=count(details(before, "cache_write_tokens_details"), "ttl_12h_tokens"),
        reasoning_tokens=count(after, "reasoning_tokens"),
        input_audio_tokens=count(before, "audio_tokens"),
        output_audio_tokens=count(after, "audio_tokens"),
        cached_audio_tokens=count(cached, "audio_tokens"),
        input_image_tokens=count(before, "image_tokens"),
        output_image_tokens=drawn,
        cached_image_tokens=count(cached, "image_tokens"),
    )


def _embeddings(usage: object) -> Usage:
    return _usage(input_tokens=count(usage, "prompt_tokens", required=True))


def _anthropic(usage: object) -> Usage:
    # Anthropic counts what was cached beside the input; here it lies inside.
    cached = count(usage, "cache_read_input_tokens")
    written = count(usage, "cache_creation_input_tokens")
    return _usage(
        input_tokens=count(usage, "input_tokens", required=True) + cached + written,
        output_tokens=count(usage, "output_tokens", required=True),
        cached_tokens=cached,
        cache_write_tokens=written,
        cache_write_long_tokens=count(details(usage, "cache_creation"), "ephemeral_1h_input_tokens"),
        reasoning_tokens=count(details(usage, "output_tokens_details"), "thinking_tokens"),
    )


def _bedrock(usage: object) -> Usage:
    # Converse, too, counts what was cached beside the input.
    cached = count(usage, "cacheReadInputTokens")
    written = count(usage, "cacheWriteInputTokens")
    kept = (count(part, "inputTokens") for part in items(usage, "cacheDetails") if field(part, "ttl") == "1h")
    return _usage(
        input_tokens=count(usage, "inputTokens", required=True) + cached + written,
        output_tokens=count(usage, "outputTokens", required=True),
        cached_tokens=cached,
        cache_write_tokens=written,
        cache_write_long_tokens=sum(kept),
    )


def _gemini(usage: object) -> Usage:
    if count(usage, "response_token_count", "responseTokenCount"):
        raise Unreadable  # the Live API's, where video has a price of its own
    thoughts = count(usage, "thoughts_token_count", "thoughtsTokenCount")
    tools = count(usage, "tool_use_prompt_token_count", "toolUsePromptTokenCount")
    prompt = _modalities(usage, "prompt_tokens_details", "promptTokensDetails")
    prompt += _modalities(usage, "tool_use_prompt_tokens_details", "toolUsePromptTokensDetails")
    cached = _modalities(usage, "cache_tokens_details", "cacheTokensDetails")
    made = _modalities(usage, "candidates_tokens_details", "candidatesTokensDetails")
    read = count(usage, "cached_content_token_count", "cachedContentTokenCount")
    if read and prompt["AUDIO"] and not cached:
        raise Unreadable  # cached audio has a price of its own, and nobody says how much of it there was
    return _usage(
        input_tokens=count(usage, "prompt_token_count", "promptTokenCount", required=True) + tools,
        output_tokens=count(usage, "candidates_token_count", "candidatesTokenCount") + thoughts,
        cached_tokens=read,
        reasoning_tokens=thoughts,
        input_audio_tokens=prompt["AUDIO"],
        output_audio_tokens=made["AUDIO"],
        cached_audio_tokens=cached["AUDIO"],
        input_image_tokens=prompt["IMAGE"] + prompt["DOCUMENT"],
        output_image_tokens=made["IMAGE"],
        cached_image_tokens=cached["IMAGE"] + cached["DOCUMENT"],
    )


def _modalities(usage: object, *names: str) -> Counter[str]:
    """Gemini's list of counts by modality, which is a str in JSON and an enum of str in Google's client."""
    counts: Counter[str] = Counter()
    for part in items(usage, *names):
        counts[str.upper(cast(str, field(part, "modality")))] += count(part, "token_count", "tokenCount")
    return counts


def _cohere(answer: object) -> Usage:
    billed = field(field(answer, "usage"), "billed_units") or field(field(answer, "meta"), "billed_units")
    if any(field(billed, unit) for unit in ("search_units", "classifications", "images", "image_tokens")):
        raise Unreadable  # sold by another measure
    return _usage(
        input_tokens=_units(billed, "input_tokens", required=True), output_tokens=_units(billed, "output_tokens")
    )


def _units(billed: object, name: str, required: bool = False) -> int:
    value = field(billed, name)
    if isinstance(value, float) and value.is_integer():  # Cohere's client has floats for whole numbers
        value = int(value)
    return count({name: value}, name, required=required)


def _ollama(answer: object) -> Usage:
    return _usage(
        input_tokens=count(answer, "prompt_eval_count", required=True),
        output_tokens=count(answer, "eval_count", required=True),
    )


def _usage(**counts: int) -> Usage:
    usage = Usage(**counts)  # type: ignore[arg-type]
    if (
        max(usage.cached_tokens, usage.cache_write_tokens) > usage.input_tokens
        or usage.cache_write_long_tokens > usage.cache_write_tokens
        or usage.input_audio_tokens + usage.input_image_tokens > usage.input_tokens
        or usage.cached_audio_tokens + usage.cached_image_tokens > usage.cached_tokens
        or usage.cached_audio_tokens > usage.input_audio_tokens
        or usage.cached_image_tokens > usage.input_image_tokens
        or max(usage.reasoning_tokens, usage.output_audio_tokens + usage.output_image_tokens) > usage.output_tokens
    ):
        raise Unreadable  # a part is larger than its whole: the shape is not what it looks like
    return usage
