"""One attempt to buy an answer, and what it used: the frozen records of money. What is stored is exactly these."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

Bill: TypeAlias = Literal["paid", "wasted", "unresolved", "not_billed"]
"""What became of an attempt's money: *unresolved* may have been billed; nobody knows yet."""

MOST = 2**53
"""No count, time or amount of one record is greater: beyond it is damage, and other readers of JSON lose digits."""

Natural: TypeAlias = Annotated[int, Field(ge=0, le=MOST)]
Sum: TypeAlias = Annotated[int, Field(ge=0, lt=2**63)]
"""What many records come to."""


class Record(BaseModel):
    """The base of all that is stored: frozen, and tolerant of fields that a later version added."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


class Usage(Record):
    """What one paid attempt used: tokens by kind, and calls of the provider's hosted tools.

    Kinds lie inside one another, whatever the provider's own way to count: cached and cache-write tokens inside the
    input, reasoning inside the output, audio and image tokens inside the input, the cached or the output tokens.
    """

    input_tokens: Natural = 0
    output_tokens: Natural = 0
    cached_tokens: Natural = 0
    cache_write_tokens: Natural = 0
    cache_write_long_tokens: Natural = 0
    """Those of the cache-write tokens that are kept for longer than usual, at a higher price: Anthropic's hour,
    OpenAI's twelve hours."""
    reasoning_tokens: Natural = 0
    input_audio_tokens: Natural = 0
    output_audio_tokens: Natural = 0
    cached_audio_tokens: Natural = 0
    input_image_tokens: Natural = 0
    output_image_tokens: Natural = 0
    cached_image_tokens: Natural = 0
    hosted_tools: dict[str, Natural] = Field(default_factory=dict[str, int])
    """Calls of tools that the provider runs and bills beside the tokens, by kind, such as ``{"web_search": 2}``."""


class LedgerEntry(Record):
    """One attempt to buy an answer: the only thing that carries money."""

    id: str
    """The attempt's id, also sent to the provider as ``X-Client-Request-Id``."""
    bill: Bill
    slot: str
    model: str | None = None
    """The model asked for."""
    served: str | None = None
    """The model that answered, as the provider names it."""
    provider: str | None = None
    """Whose published prices apply, as genai-prices names them; ``None``: a server that nobody knows."""
    tier: str | None = None
    """The service tier in the response."""
    usage: Usage | None = None
    """``None``: unmeasured."""
    cost: Natural | None = None
    """Nano-dollars; ``None``: unknown, which is not 0."""
    price: str | None = None
    """Where the price came from, or why there is none."""
    bound: Natural | None = None
    """Nano-dollars that it could cost at most, known before it was sent; ``None``: there was no bound."""
    bound_tokens: Natural | None = None
    """The same in tokens."""
    request_id: str | None = None
    """The provider's id of the request."""
    response_id: str | None = None
    """The provider's id of the answer, by which it can be fetched again for nothing."""
    at: Natural = 0
    """When it was sent, milliseconds since the epoch on the store's clock."""
    ms: Natural = 0
    """How long it took, milliseconds."""
