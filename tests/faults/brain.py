"""The model of the generated agents."""

from __future__ import annotations

import os

from agentcheckpoint.testing.brain import Answer, Request


class Brain:
    """It says something new each time; "bad", the first time that an answer is to be rejected. A stream that is to be
    cut short has no end the first time, and its line is closed properly.
    """

    def __init__(self) -> None:
        self._asked: set[str] = set()

    def __call__(self, request: Request, /) -> Answer:
        asked = str(request.messages[-1]["content"])
        first = asked not in self._asked
        self._asked.add(asked)
        text = ("bad " if first and asked.endswith("rejected") else "good ") + os.urandom(6).hex()
        short = 4 if first and asked.endswith("short") else None
        return Answer(text=text, cut_after=short, cut_clean=True)
