"""A run that has every kind of entry, and cursors, made by real attempts; and the program that replays it."""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

import httpx2
from openai import OpenAI
from pydantic import BaseModel

import agentcheckpoint as ac
from agentcheckpoint.attempt import Attempt, new_id
from agentcheckpoint.core.models import Revived, Waiting
from agentcheckpoint.core.pricing import Price
from agentcheckpoint.options import RunOptions
from agentcheckpoint.store.commit import Change
from agentcheckpoint.taking import take_run
from agentcheckpoint.testing.brain import Answer, Request
from agentcheckpoint.testing.provider import Provider

from . import rich_loops
from .stored import key_of, keys_of, send

RUN = "rich"
MODEL = "demo-large"
PRICES = {MODEL: Price(input="2.5", output="10", cached="0.25")}

calls: Counter[str] = Counter()
"""How often each function was called, and the model."""
failing: set[str] = set()
"""The functions that raise."""
UNTIL = 1_800_000_000_000
WAITS_FOR: dict[str, Any] = {
    "until": UNTIL,
    "answer": True,
    "prompt": "Shall it go on?",
    "form": '{"type":"boolean"}',
    "refused": "it is no boolean",
}
"""What the run waits for, after an answer that was not taken."""


class Page(BaseModel):
    """What a tool returns."""

    url: str
    on: date


@dataclass
class Plan:
    """What a step returns."""

    question: str
    urls: tuple[str, ...]
    limit: Decimal


def _called(name: str) -> None:
    calls[name] += 1
    if name in failing:
        raise TimeoutError(f"{name} took too long")


@ac.step
def plan(question: str) -> Plan:
    _called("plan")
    return Plan(question, ("https://a.test/?q=[1]", "https://b.test/"), Decimal("0.50"))


@ac.tool(key=lambda url: url)
def fetch(url: str) -> Page:
    _called("fetch")
    return Page(url=url, on=date(2026, 11, 24))


@ac.step
def score(url: str) -> float | None:
    _called("score")
    return None if url.endswith("]") else 0.5


@ac.step(accept=lambda votes: "vote" not in failing)
def vote() -> list[int]:
    calls["vote"] += 1
    return [3, 1, 2]


@ac.step
def report(said: str) -> dict[str, Any]:
    _called("report")
    return {"said": polish(said).decode(), "at": [1, None, True]}


@ac.step
def polish(text: str) -> bytes:
    _called("polish")
    return text.encode()


def body(client: OpenAI) -> dict[str, Any]:
    """The program of the run: steps, tools, children, and model calls one of whose answers is refused."""
    made = plan("why?")
    pages = [fetch(url) for url in made.urls]
    scores = [score(url) for url in made.urls]
    said = _ask(client, "think")
    votes = vote()
    judged = _ask(client, "judge")
    if judged == "bad":
        ac.reject("judge", "it is bad")
        judged = _ask(client, "judge")
    return {"plan": made, "pages": pages, "scores": scores, "said": said, "votes": votes, "report": report(judged)}


def _ask(client: OpenAI, name: str) -> str | None:
    with ac.name(name):
        answer = client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": name}])
    return answer.choices[0].message.content


def unconnected() -> OpenAI:
    """A client whose calls are counted, and refused."""

    def refuse(request: httpx2.Request) -> httpx2.Response:
        calls["model"] += 1
        return httpx2.Response(400, json={"error": {"message": "not to be asked again"}}, request=request)

    transport = httpx2.Client(transport=httpx2.MockTransport(refuse))
    return ac.wrap(
        OpenAI(base_url="http://model.test/v1", api_key="none", http_client=transport, max_retries=0), prices=PRICES
    )


def agent_of(client: OpenAI) -> Any:
    """The same program as an agent: its attempts have inputs, and its run an output."""

    @ac.agent(name="research")
    def research(question: str) -> dict[str, str]:
        return {question: str(body(client)["said"])}

    return research


def make(store: ac.Store, url: str, run_id: str = RUN) -> Any:
    """Makes the run by several attempts; returns its output."""
    story = _Story(store, url, run_id)
    with Provider(story.brain) as provider, warnings.catch_warnings():
        warnings.simplefilter("ignore", ac.UnmetStepsWarning)
        client = ac.wrap(OpenAI(base_url=provider.url, api_key="none", max_retries=0), prices=PRICES)
        agent = agent_of(client).using(store=store, metadata={"user": "42"}, conversation="chat-7")
        assert agent.submit(run_id, "why?")
        story.fails(agent, "fetch", TimeoutError)
        story.fails(agent.using(on_existing="fresh"), "score", TimeoutError)
        story.fails(agent, "vote", ac.StepRejected)
        story.fails(agent, "taken over", ac.LeaseLost)
        story.revive()
        output = agent.run(run_id, "why?")
    send(store, ("SET", keys_of(run_id).cancel, "too late"))
    return output


@dataclass
class _Story:
    """What happens while the run is made."""

    store: ac.Store
    url: str
    run_id: str
    trouble: str = ""
    judged: bool = False

    def fails(self, agent: Any, trouble: str, error: type[Exception]) -> None:
        """An attempt that ends by that error."""
        self.trouble = trouble
        failing.add(trouble)
        try:
            agent.run(self.run_id, "why?")
        except error:
            self.trouble = ""
            failing.clear()
        else:
            raise AssertionError(f"the attempt did not fail by {trouble}")

    def revive(self) -> None:
        """Somebody lets the run, which waits, go on now."""
        attempt = Attempt(self.store, self.run_id, RunOptions())
        self.store.run(take_run(attempt, 0, counted=False))
        now = attempt.now_ms()
        fields = {"state": "waiting", "due": str(now)}
        self.store.run(attempt.store_change(Change(Revived(id=new_id(), at=now), fields=fields, release=True)))
        attempt.open = False

    def brain(self, request: Request) -> Answer:
        if self.trouble == "taken over":
            self._take_over()
        bad = request.messages[-1]["content"] == "judge" and not self.judged
        self.judged = self.judged or (bad and not self.trouble)
        return Answer(text="bad" if bad else "it is so")

    def _take_over(self) -> None:
        send(self.store, ("DEL", key_of(self.url, self.run_id, "lease")))
        try:
            with ac.run(self.run_id, store=self.store) as run:
                rich_loops.leave(run)
                waiting = Waiting(id=new_id(), at=1, slot="approve", digest="d", **WAITS_FOR)
                self.store.run(run._attempt.store_change(Change(waiting)))
                raise ac.Suspended("it waits", until_ms=UNTIL)
        except ac.Suspended:
            return


EXPECTED: dict[str, Any] = {
    "plan": Plan("why?", ("https://a.test/?q=[1]", "https://b.test/"), Decimal("0.50")),
    "pages": [Page(url=url, on=date(2026, 11, 24)) for url in ("https://a.test/?q=[1]", "https://b.test/")],
    "scores": [None, 0.5],
    "said": "it is so",
    "votes": [3, 1, 2],
    "report": {"said": "it is so", "at": [1, None, True]},
}
"""What the program comes to, in type."""
OUTPUT = {"why?": "it is so"}
"""What the agent returns."""
FUNCTIONS: dict[str, Any] = {
    "plan": plan,
    "fetch": fetch,
    "score": score,
    "vote": vote,
    "report": report,
    "report/polish": polish,
}
"""The functions of the steps that are no model calls, by their slots less key and ordinal."""
