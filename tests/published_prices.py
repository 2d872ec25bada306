"""Published prices, written by hand from what was read: dollars per million tokens, or per call.

A row is checked by ``test_published_prices``. Its source is the page on which its numbers were read, and ``read`` the
day on which that page said so; of a page that bears no date a copy was read, in November 2026. ``UNSOURCED`` rows are
from memory or from the package that they are to check, and prove only that nothing moved.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

OPENAI = "api-evangelist/openai: plans/openai-plans-pricing.yml, after https://developers.openai.com/api/docs/pricing"
OPENAI_PRIORITY = "https://openai.com/api-priority-processing/"
OPENAI_HALF = (
    f"{OPENAI}; half of it: https://developers.openai.com/api/docs/guides/flex-processing.md, .../guides/batch"
)
GPT_5_PRICES = "https://tokenmix.ai/blog/gpt-5-api-pricing, after https://openai.com/api/pricing/"
CLAUDE = "https://platform.claude.com/docs/en/about-claude/pricing"
CLAUDE_BATCH = (
    f"{CLAUDE}; https://ai-tools-compared.pages.dev/claude-api-batch-processing-discount-how-much-cheaper-than-r"
)
CLAUDE_SEARCH = "https://claudecodeguides.com/claude-web-search-costs-10-per-thousand/"
CLAUDE_MODEL = "https://platform.claude.com/docs/about-claude/models/whats-new-opus-5"
CLAUDE_FAST = "https://openrouter.ai/anthropic/claude-opus-5-fast-20260723"
CLAUDE_FAST_NEW = "https://vercel.com/ai-gateway/models/claude-opus-5.5-fast.md"
GEMINI = "api-evangelist/gemini: plans/gemini-plans-pricing.yml, after https://ai.google.dev/gemini-api/docs/pricing"
DEEPSEEK = "https://github.com/benderandrew069/deepseek-api-pricing-2026/wiki, after DeepSeek's Models & Pricing"
GROK = "https://apidog.com/blog/how-to-use-grok-4-7-api/"
COHERE = "https://docs.flexprice.io/cookbooks/pricing-teardowns/cohere-pricing, after https://cohere.com/pricing"
UNSOURCED = "unsourced"
COPY = "a copy without a date, read in November 2026"

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
NEXT_YEAR = datetime(2027, 1, 2, 12, tzinfo=UTC)


@dataclass(frozen=True)
class Row:
    """The published prices of one model in one tier. What is ``None`` was not read, and is not checked."""

    provider: str
    model: str
    tier: str | None
    source: str
    read: str
    input: str | None = None
    cached: str | None = None
    output: str | None = None
    cache_write: str | None = None
    cache_write_long: str | None = None
    input_audio: str | None = None
    output_image: str | None = None
    web_search: str | None = None
    """Dollars for one."""
    long: int = 0
    """How many input tokens there are beside those that are priced, to pass a threshold."""
    when: datetime = NOON


ROWS = (
    Row("openai", "gpt-5.5", None, OPENAI, "2026-05-04", input="5.00", cached="0.50", output="30.00"),
    Row("openai", "gpt-5.5-pro", None, OPENAI, "2026-05-04", input="30.00", output="180.00"),
    Row("openai", "gpt-5.4", "default", OPENAI, "2026-05-04", input="2.50", cached="0.25", output="15.00"),
    Row("openai", "gpt-5.4-mini", None, OPENAI, "2026-05-04", input="0.75", cached="0.075", output="4.50"),
    Row("openai", "gpt-5.4-nano", None, OPENAI, "2026-05-04", input="0.20", cached="0.02", output="1.25"),
    Row("openai", "gpt-5.5", "priority", OPENAI_PRIORITY, COPY, input="12.50", cached="1.250", output="75.00"),
    Row("openai", "gpt-5.4", "priority", OPENAI_PRIORITY, COPY, input="5.00", cached="0.500", output="30.00"),
    Row("openai", "gpt-5.4-mini", "priority", OPENAI_PRIORITY, COPY, input="1.50", cached="0.150", output="9.00"),
    Row("openai", "gpt-5.2", "priority", OPENAI_PRIORITY, COPY, input="3.50", cached="0.350", output="28.00"),
    Row("openai", "gpt-5.1", "priority", OPENAI_PRIORITY, COPY, input="2.50", cached="0.250", output="20.00"),
    Row("openai", "gpt-5", "priority", OPENAI_PRIORITY, COPY, input="2.50", cached="0.250", output="20.00"),
    Row("openai", "gpt-5-mini", "priority", OPENAI_PRIORITY, COPY, input="0.45", cached="0.045", output="3.60"),
    Row("openai", "gpt-4.1", "priority", OPENAI_PRIORITY, COPY, input="3.50", cached="0.875", output="14.00"),
    Row("openai", "gpt-5.4", "flex", OPENAI_HALF, COPY, input="1.25", output="7.50"),
    Row("openai", "gpt-5.4-mini", "flex", OPENAI_HALF, COPY, input="0.375", output="2.25"),
    Row("openai", "gpt-5.5", "batch", GPT_5_PRICES, "2026-04-30", input="2.50", output="15.00"),
    Row("openai", "gpt-5.4-nano", "batch", OPENAI_HALF, COPY, input="0.10", output="0.625"),
    Row("openai", "gpt-5.4", None, UNSOURCED, "", web_search="0.01"),
    Row("openai", "gpt-5.4", None, UNSOURCED, "", input="5.00", cached="0.50", output="22.50", long=272_000),
    Row("openai", "gpt-5", "flex", UNSOURCED, "", input="0.625", cached="0.0625", output="5.00"),
    Row("openai", "o3", None, UNSOURCED, "", input="10", output="40", when=datetime(2025, 6, 9, tzinfo=UTC)),
    Row("openai", "o3", None, UNSOURCED, "", input="2", output="8", when=datetime(2025, 6, 10, tzinfo=UTC)),
    Row(
        "anthropic",
        "claude-fable-5-1",
        "standard",
        CLAUDE,
        COPY,
        input="10",
        cache_write="12.50",
        cache_write_long="20",
        cached="0.25",
        output="50",
    ),
    Row(
        "anthropic",
        "claude-opus-5",
        None,
        CLAUDE_MODEL,
        COPY,
        input="5",
        cache_write="6.25",
        cache_write_long="10",
        cached="0.50",
        output="25",
    ),
    Row(
        "anthropic",
        "claude-opus-4-5",
        None,
        CLAUDE,
        COPY,
        input="5",
        cache_write="6.25",
        cache_write_long="10",
        cached="0.50",
        output="25",
    ),
    Row(
        "anthropic",
        "claude-sonnet-4-6",
        None,
        CLAUDE,
        COPY,
        input="3",
        cache_write="3.75",
        cache_write_long="6",
        cached="0.30",
        output="15",
    ),
    Row(
        "anthropic",
        "claude-haiku-4-5",
        None,
        CLAUDE,
        COPY,
        input="1",
        cache_write="1.25",
        cache_write_long="2",
        cached="0.10",
        output="5",
    ),
    Row("anthropic", "claude-opus-5", "batch", CLAUDE_MODEL, COPY, input="2.50", output="12.50"),
    Row("anthropic", "claude-sonnet-4-6", "batch", CLAUDE_BATCH, "2026-03-16", input="1.50", output="7.50"),
    Row("anthropic", "claude-haiku-4-5", "batch", CLAUDE_BATCH, "2026-03-16", input="0.50", output="2.50"),
    Row("anthropic", "claude-opus-5", "fast", CLAUDE_FAST, COPY, input="10", output="50"),
    Row("anthropic", "claude-opus-5-5", "fast", CLAUDE_FAST_NEW, COPY, input="8", output="40"),
    Row("anthropic", "claude-sonnet-4-6", None, CLAUDE_SEARCH, COPY, web_search="0.01"),
    Row("google", "gemini-3.8-flash", None, GEMINI, "2026-09-20", input="0.75", output="3.75"),
    Row("google", "gemini-3.8-flash", None, GEMINI, "2026-09-20", input="1.50", output="7.50", when=NEXT_YEAR),
    Row("google", "gemini-3.5-flash", "standard", GEMINI, "2026-09-20", input="1.50", output="9.00"),
    Row("google", "gemini-3.1-pro-preview", None, GEMINI, "2026-09-20", input="2.00", output="12.00"),
    Row("google", "gemini-3.1-pro-preview", None, GEMINI, "2026-09-20", input="4.00", output="18.00", long=200_000),
    Row("google", "gemini-2.5-pro", None, GEMINI, "2026-09-20", input="1.25"),
    Row("google", "gemini-2.5-pro", None, GEMINI, "2026-09-20", input="2.50", long=200_000),
    Row("google", "gemini-2.5-flash", None, GEMINI, "2026-09-20", input="0.30", input_audio="1.00"),
    Row("google", "gemini-2.5-flash-lite", None, GEMINI, "2026-09-20", output="0.40"),
    Row("google", "gemini-3-pro-image-preview", None, GEMINI, "2026-09-20", output_image="120.00"),
    Row("deepseek", "deepseek-flash", None, DEEPSEEK, "2026-10-27", input="0.15", cached="0.003", output="0.60"),
    Row("deepseek", "deepseek-v4-pro", None, DEEPSEEK, "2026-10-27", input="0.66", cached="0.022", output="1.98"),
    Row("x-ai", "grok-4.7", None, GROK, "2026-09-29", input="2.00", cached="0.50", output="6.00"),
    Row("x-ai", "grok-4.7", None, GROK, "2026-09-29", input="4.00", cached="1.00", output="12.00", long=200_000),
    Row("cohere", "command-r-08-2024", None, COHERE, "2026-11-11", input="0.15", output="0.60"),
)
