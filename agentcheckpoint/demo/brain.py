"""The model behind the demo's provider: no intelligence, but real work on what the tools really find.

It keeps nothing between calls: all that it knows stands in the conversation, so equal requests get equal answers.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from agentcheckpoint.demo import LATENCY
from agentcheckpoint.testing.brain import Answer, Brain, Request, ToolCall
from agentcheckpoint.testing.payments import JSON

_ROUNDS = 7
"""List, then three times search and read: so many times it asks for tools at most."""
_READS = 3
_SENTENCES = 4
_STREAMED = 3
"""The last answer is streamed for as long as so many calls take."""
_COMMON = re.compile(
    "about|after|all|also|and|any|are|been|before|but|can|could|did|does|for|from|had|has|have|how|its|into|may|more|"
    "must|not|now|only|other|our|out|over|should|some|such|than|that|the|their|them|then|there|these|they|this|those|"
    "through|under|very|was|what|when|where|which|while|who|why|will|with|would|you|your"
)
"""Words that say nothing of what is asked."""
_HIT = re.compile(r"(.+?):(\d+): (.*)")
_WORD = re.compile(r"[^\W\d_]{3,}")


@dataclass(frozen=True, slots=True)
class _Turn:
    """One call of a tool, and what came of it."""

    name: str
    arguments: JSON
    result: str


def research_brain(latency: float = LATENCY) -> Brain:
    """A model that researches a question and answers it with sentences from what it has read.

    Args:
        latency: seconds between the payment of a call and its answer.
    """

    def brain(request: Request, /) -> Answer:
        turns = _turns(request.messages)
        question = next(str(message["content"]) for message in request.messages if message["role"] == "user")
        if request.messages[-1]["role"] == "user" and turns:
            text = _answer(question, turns)
            return Answer(text=text, delay=latency, chunk_delay=latency * _STREAMED / len(text.split()))
        calls = tuple(_next_calls(question, turns))
        return Answer(text="" if calls else "I have read enough.", tool_calls=calls, delay=latency)

    return brain


def _turns(messages: Sequence[JSON]) -> list[_Turn]:
    asked = {
        call["id"]: call["function"] for message in messages for call in message.get("tool_calls") or () if call["id"]
    }
    results = [message for message in messages if message["role"] == "tool" and message["tool_call_id"] in asked]
    return [
        _Turn(function["name"], json.loads(function["arguments"]), str(message["content"]))
        for message in results
        for function in [asked[message["tool_call_id"]]]
    ]


def _next_calls(question: str, turns: Sequence[_Turn]) -> Iterator[ToolCall]:
    """What to ask for now: list once, then search and read by turns, each time with words of what was read last."""
    if not turns:
        yield ToolCall("list_documents", {})
        return
    searched = [str(turn.arguments["words"]) for turn in turns if turn.name == "search_documents"]
    rounds = 1 + sum(a.name != b.name for a, b in pairwise(turns))
    if rounds >= _ROUNDS:
        return
    if turns[-1].name == "search_documents":
        yield from _reads(question, turns)
        return
    words = keywords(question) or keywords(turns[0].result)
    fresh = words[:3] if not searched else _related(words, turns)
    yield from (ToolCall("search_documents", {"words": word}) for word in fresh if word not in searched)


def _reads(question: str, turns: Sequence[_Turn]) -> Iterator[ToolCall]:
    """The best places that were found and not read yet; nothing found: the first documents from their start."""
    seen = {(turn.arguments["name"], turn.arguments["line"]) for turn in turns if turn.name == "read_document"}
    words = keywords(question)
    score: Counter[tuple[str, int]] = Counter()
    for turn in turns:
        for line in turn.result.splitlines() if turn.name == "search_documents" else ():
            if hit := _HIT.fullmatch(line):
                place = hit[1], max(1, int(hit[2]) // 20 * 20)
                score[place] += 1 + sum(word in hit[3].lower() for word in words)
    listed = [(line.split(": ")[0], 1) for line in turns[0].result.splitlines()]
    best = sorted(score, key=lambda place: (-score[place], place)) or listed
    places = [place for place in best if place not in seen][:_READS]
    yield from (ToolCall("read_document", {"name": name, "line": line}) for name, line in places)


def _related(words: Sequence[str], turns: Sequence[_Turn]) -> list[str]:
    """Words that stand near those of the question in what was read, and were not searched for yet."""
    near: Counter[str] = Counter()
    for sentence in _sentences(turns):
        if any(word in sentence.lower() for word in words):
            near.update(set(keywords(sentence)))
    searched = {str(turn.arguments["words"]) for turn in turns if turn.name == "search_documents"}
    known = searched | set(words)
    return [word for word in sorted(near, key=lambda word: (-near[word], word)) if word not in known][:2]


def _answer(question: str, turns: Sequence[_Turn]) -> str:
    """The sentences that hold most of the question's words, each with its document."""
    words = keywords(question) or keywords(turns[0].result)
    ranked: dict[str, tuple[float, int, str]] = {}
    for place, (name, sentence) in enumerate(_quotes(turns)):
        hits = sum(word in sentence.lower() for word in words)
        if hits and sentence not in ranked:
            ranked[sentence] = (-hits / (8 + len(sentence.split())) ** 0.3, place, name)
    best = sorted(ranked, key=lambda sentence: ranked[sentence])[:_SENTENCES]
    if not best:
        return f"The documents say nothing about {', '.join(words) or 'it'}."
    return " ".join(f"{sentence} ({ranked[sentence][2]})" for sentence in sorted(best, key=lambda s: ranked[s][1]))


def _quotes(turns: Sequence[_Turn]) -> Iterator[tuple[str, str]]:
    for turn in turns:
        if turn.name == "read_document":
            for sentence in _sentences([turn]):
                yield str(turn.arguments["name"]), sentence


def _sentences(turns: Sequence[_Turn]) -> Iterator[str]:
    """What was read, as prose: without headings, code, tables and marks of emphasis."""
    for turn in turns:
        if turn.name != "read_document":
            continue
        text = re.sub(r"```.*?(```|\Z)", "\n\n", turn.result, flags=re.DOTALL)
        for block in re.split(r"\n\s*\n|\n(?=\s*(?:[-*#|>]|\d+\.)\s)", text):
            if not block.strip() or block.lstrip()[0] in "#|=~<{[":
                continue
            prose = re.sub(r"^\s*(?:[-*>]|\d+\.)\s+|[*`]{1,2}", "", " ".join(block.split()))
            yield from (part for part in re.split(r"(?<=[.!?])\s+", prose) if 4 <= len(part.split()) <= 60)


def keywords(text: str) -> list[str]:
    """The words that matter, without their endings, each once, in the order in which they come."""
    words = [word for word in _WORD.findall(text.lower()) if not _COMMON.fullmatch(word)]
    return list(dict.fromkeys(re.sub(r"(?<=\w{4})(?:ing|ed|es|s)$", "", word) for word in words))
