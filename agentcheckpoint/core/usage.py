"""Tokens as providers report them, in OpenAI's, Anthropic's and Gemini's shapes, read into one ``Usage``.

What does not add up is unmeasured (``None``), never a guess: a wrong count would become a wrong cost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import cast

from agentcheckpoint.core.models import MOST, Usage

_LONGEST_NAME = 256


class _Unreadable(Exception):
    """The usage is missing, malformed, or contradicts itself."""


def usage_of(result: object) -> tuple[Usage | None, str | None]:
    """Read tokens and model from what a provider's client returned, whichever provider it is.

    Args:
        result: a mapping or an object shaped like an answer of OpenAI, Anthropic or Gemini.

    Returns:
        The usage, ``None`` where no shape fits, and the model as the provider names it. Nothing is raised: what
        comes in here was paid for.
    """
    try:
        model = name_of(_field(result, "model", "model_version", "modelVersion"))
    except Exception:
        model = None
    try:
        return _read(_any_usage, result), model
    except Exception:  # a property of a foreign object may raise anything
        return None, model


def chat_usage(usage: object) -> Usage | None:
    """Read the ``usage`` of a chat completion."""
    return _read(_chat, usage)


def responses_usage(usage: object) -> Usage | None:
    """Read the ``usage`` of an answer of OpenAI's Responses API."""
    return _read(_responses, usage)


def embeddings_usage(usage: object) -> Usage | None:
    """Read the ``usage`` of an answer with embeddings, which has no output tokens."""
    return _read(_embeddings, usage)


def name_of(value: object) -> str | None:
    """Return the value if it can be a model's, a tier's or a response's name; a provider may send anything."""
    return value if isinstance(value, str) and 0 < len(value) <= _LONGEST_NAME else None


def total_usage(usages: Iterable[Usage]) -> Usage:
    """Sum tokens, kind by kind."""
    totals = dict.fromkeys(Usage.model_fields, 0)
    for usage in usages:
        for name in totals:
            totals[name] += cast(int, getattr(usage, name))
    return Usage.model_construct(None, **totals)  # a sum may be more than one record can hold


def _read(reader: Callable[[object], Usage], source: object) -> Usage | None:
    try:
        return reader(source)
    except _Unreadable:
        return None


def _any_usage(result: object) -> Usage:
    gemini = _field(result, "usage_metadata", "usageMetadata")
    if _has(gemini, "prompt_token_count") or _has(gemini, "promptTokenCount"):
        return _gemini(gemini)
    usage = _field(result, "usage")
    if _has(usage, "prompt_tokens"):
        # Embeddings alone have no output, and say so by a total that is the input.
        only_input = not _has(usage, "completion_tokens") and _tokens(usage, "total_tokens") == _tokens(
            usage, "prompt_tokens", required=True
        )
        return _embeddings(usage) if only_input else _chat(usage)
    if _has(usage, "cache_read_input_tokens") or _has(usage, "cache_creation_input_tokens"):
        return _anthropic(usage)
    return _responses(usage)


def _chat(usage: object) -> Usage:
    before, after = _details(usage, "prompt_tokens_details"), _details(usage, "completion_tokens_details")
    prompt = _tokens(usage, "prompt_tokens", required=True)
    completion = _tokens(usage, "completion_tokens", required=True)
    reasoning = _tokens(after, "reasoning_tokens")
    if reasoning and _tokens(usage, "total_tokens") == prompt + completion + reasoning:
        completion += reasoning  # xAI counts reasoning beside the completion; its own total says so
    return _usage(
        prompt,
        completion,
        cached=_tokens(before, "cached_tokens"),
        written=_tokens(before, "cache_write_tokens"),
        reasoning=reasoning,
        heard=_tokens(before, "audio_tokens"),
        spoken=_tokens(after, "audio_tokens"),
    )


def _responses(usage: object) -> Usage:
    before, after = _details(usage, "input_tokens_details"), _details(usage, "output_tokens_details")
    return _usage(
        _tokens(usage, "input_tokens", required=True),
        _tokens(usage, "output_tokens", required=True),
        cached=_tokens(before, "cached_tokens"),
        written=_tokens(before, "cache_write_tokens"),
        reasoning=_tokens(after, "reasoning_tokens"),
    )


def _embeddings(usage: object) -> Usage:
    return _usage(_tokens(usage, "prompt_tokens", required=True), 0)


def _anthropic(usage: object) -> Usage:
    # Anthropic counts what was cached beside the input; here it lies inside.
    cached = _tokens(usage, "cache_read_input_tokens")
    written = _tokens(usage, "cache_creation_input_tokens")
    if _tokens(_details(usage, "cache_creation"), "ephemeral_1h_input_tokens"):
        raise _Unreadable  # writes kept for an hour cost more, and a Usage cannot tell them from the others
    return _usage(
        _tokens(usage, "input_tokens", required=True) + cached + written,
        _tokens(usage, "output_tokens", required=True),
        cached=cached,
        written=written,
        reasoning=_tokens(_details(usage, "output_tokens_details"), "thinking_tokens"),
    )


def _gemini(usage: object) -> Usage:
    thoughts = _tokens(usage, "thoughts_token_count", "thoughtsTokenCount")
    tools = _tokens(usage, "tool_use_prompt_token_count", "toolUsePromptTokenCount")
    return _usage(
        _tokens(usage, "prompt_token_count", "promptTokenCount", required=True) + tools,
        _tokens(usage, "candidates_token_count", "candidatesTokenCount") + thoughts,
        cached=_tokens(usage, "cached_content_token_count", "cachedContentTokenCount"),
        reasoning=thoughts,
        heard=_audio(_field(usage, "prompt_tokens_details", "promptTokensDetails"))
        + _audio(_field(usage, "tool_use_prompt_tokens_details", "toolUsePromptTokensDetails")),
        spoken=_audio(_field(usage, "candidates_tokens_details", "candidatesTokensDetails")),
    )


def _audio(details: object) -> int:
    """The audio tokens in Gemini's list of counts by modality."""
    if details is None:
        return 0
    if not isinstance(details, Sequence) or isinstance(details, str | bytes):
        raise _Unreadable
    counts = cast(Sequence[object], details)
    # The modality is a str in JSON, and an enum of str in Google's client.
    return sum(_tokens(count, "token_count", "tokenCount") for count in counts if _field(count, "modality") == "AUDIO")


def _usage(
    taken: int, given: int, *, cached: int = 0, written: int = 0, reasoning: int = 0, heard: int = 0, spoken: int = 0
) -> Usage:
    if max(cached, written, heard) > taken or max(reasoning, spoken) > given:
        raise _Unreadable  # a part is larger than its whole: the shape is not what it looks like
    return Usage(
        input_tokens=taken,
        output_tokens=given,
        cached_tokens=cached,
        cache_write_tokens=written,
        reasoning_tokens=reasoning,
        input_audio_tokens=heard,
        output_audio_tokens=spoken,
    )


def _tokens(source: object, *names: str, required: bool = False) -> int:
    count = _field(source, *names)
    if count is None and not required:
        return 0
    if isinstance(count, int) and not isinstance(count, bool) and 0 <= count <= MOST:
        return count
    raise _Unreadable


def _details(source: object, name: str) -> object:
    details = _field(source, name)
    if isinstance(details, str | bytes | int | float | Sequence):
        raise _Unreadable
    return details


def _field(source: object, *names: str) -> object:
    """The first of the names that has a value, in a mapping or an object."""
    for name in names:
        if isinstance(source, Mapping):
            value = cast(Mapping[str, object], source).get(name)
        else:
            value = cast(object, getattr(source, name, None))
        if value is not None:
            return value
    return None


def _has(source: object, name: str) -> bool:
    return name in source if isinstance(source, Mapping) else hasattr(source, name)
