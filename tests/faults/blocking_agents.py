"""Blocking agents, small and of every shape: each is interrupted before and after every packet and payment."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import agentcheckpoint as ac

from .outside import DRAFT, MODEL, PRICES, World, bought

Agent = Callable[[Any, World], object]
THINK = ac.Step("think", prices=PRICES)


def live(agent: Agent, world: World) -> None:
    """One life: opens the run, works, and closes it."""
    world.entered = world.left = False
    opener = ac.run(world.run_id, store=world.url)
    world.attempt = opener._attempt
    with opener as run:
        world.entered = True
        world.output = run.finish(agent(run, world))
        world.left = True


def _plain(x: int) -> int:
    return x


def steps(run: Any, world: World) -> object:
    """A plain step, a paid one inside another, one in two phases, and a paid one."""

    def buy(slot: str) -> dict[str, Any]:
        return world.buy(slot)

    def outer() -> object:
        return [run.llm(THINK, buy, "outer/think"), run.step("inner", _plain, 2)]

    got = [run.step("plain", _plain, 1), run.step("outer", outer)]
    with run.begin("draft") as begun:
        if not begun.done:
            begun.save("saved")
        got.append(begun.value)
    return [*got, run.llm(THINK, buy, "think")]


def calls(run: Any, world: World) -> object:
    """A model call, one whose first answer is refused, a stream that is left after its last word, and another call."""
    client, name, said = world.client, world.run_id, ""
    first = _chat(client, f"first {name}")
    while (draft := _chat(client, f"{DRAFT} {name}")).choices[0].message.content == "bad":
        ac.reject(draft, "it is bad")
    for chunk in _chat(client, f"stream {name}", stream=True, stream_options={"include_usage": True}):
        said += chunk.choices[0].delta.content or ""
        if chunk.choices[0].finish_reason:
            break
    last = _chat(client, f"last {name}")
    return [said, *(answer.choices[0].message.content for answer in (first, draft, last))]


def _chat(client: Any, text: str, **options: Any) -> Any:
    messages = [{"role": "user", "content": text}]
    return client.chat.completions.create(model=MODEL, messages=messages, **options)


AGENTS: Mapping[str, Agent] = {"steps": steps, "calls": calls}
RETURNS: Mapping[str, Callable[[str], object]] = {
    "steps": lambda _: [1, [bought("outer/think"), 2], "saved", bought("think")],
    "calls": lambda name: [f"stream {name}", f"first {name}", f"{DRAFT} {name}", f"last {name}"],
}
"""What each returns in the run of a name, however often it was interrupted."""
