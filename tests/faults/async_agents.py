"""Async agents, small and of every shape: each is cancelled at every place where it waits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import agentcheckpoint as ac

from .outside import DRAFT, MODEL, PRICES, World, bought

Agent = Callable[[Any, World], Awaitable[object]]
THINK = ac.Step("think", prices=PRICES)


async def live(agent: Agent, world: World) -> None:
    """One life: opens the run, works, and closes it."""
    world.entered = world.left = False
    opener = ac.run(world.run_id, store=world.url)
    world.attempt = opener._attempt
    async with opener as run:
        world.entered = True
        world.output = run.finish(await agent(run, world))
        world.left = True


def _buyer(world: World) -> Callable[[str], Awaitable[dict[str, Any]]]:
    """Buys there, and waits before it has paid and after."""

    async def buy(slot: str) -> dict[str, Any]:
        await asyncio.sleep(0)
        bought = world.buy(slot)
        await asyncio.sleep(0)
        return bought

    return buy


async def _plain(x: int) -> int:
    await asyncio.sleep(0)
    return x


async def steps(run: Any, world: World) -> object:
    """A plain step, a paid one inside another, one in two phases, and a paid one."""

    buy = _buyer(world)

    async def outer() -> object:
        return [await run.llm(THINK, buy, "outer/think"), await run.step("inner", _plain, 2)]

    got = [await run.step("plain", _plain, 1), await run.step("outer", outer)]
    async with run.begin("draft") as begun:
        if not begun.done:
            await asyncio.sleep(0)
            await begun.save("saved")
        got.append(begun.value)
    return [*got, await run.llm(THINK, buy, "think")]


async def gathered(run: Any, world: World) -> object:
    """Parallel children: paid, plain, and two of one key."""

    buy = _buyer(world)

    def paid(n: int) -> Any:
        slot = "think" + (f"#{n + 1}" if n else "")
        return run.llm(THINK, buy, slot)

    keyed = ac.Step("fetch", key="k")
    calls = [*(paid(n) for n in range(3)), *(run.step(keyed, _plain, 7) for _ in range(2))]
    return await asyncio.gather(*calls, run.step("look", _plain, 3))


async def calls(run: Any, world: World) -> object:
    """A model call, one whose first answer is refused, and a stream that is read to its end."""
    client, name = world.client, world.run_id
    first = await _chat(client, f"first {name}")
    while (draft := await _chat(client, f"{DRAFT} {name}")).choices[0].message.content == "bad":
        ac.reject(draft, "it is bad")
    stream = await client.responses.create(model=MODEL, input=f"stream {name}", stream=True)
    text = "".join([event.delta async for event in stream if event.type == "response.output_text.delta"])
    return [first.choices[0].message.content, draft.choices[0].message.content, text]


async def left_stream(run: Any, world: World) -> object:
    """A stream that is left after its last word, and parallel model calls."""
    client, name, said = world.client, world.run_id, ""
    async for chunk in await _chat(client, f"left {name}", stream=True, stream_options={"include_usage": True}):
        said += chunk.choices[0].delta.content or ""
        if chunk.choices[0].finish_reason:
            break
    both = await asyncio.gather(*(_chat(client, f"{n} {name}") for n in range(2)))
    return [said, *(answer.choices[0].message.content for answer in both)]


async def _chat(client: Any, text: str, **options: Any) -> Any:
    messages = [{"role": "user", "content": text}]
    return await client.chat.completions.create(model=MODEL, messages=messages, **options)


AGENTS: Mapping[str, Agent] = {"steps": steps, "gathered": gathered, "calls": calls, "left stream": left_stream}
RETURNS: Mapping[str, Callable[[str], object]] = {
    "steps": lambda _: [1, [bought("outer/think"), 2], "saved", bought("think")],
    "gathered": lambda _: [*map(bought, ("think", "think#2", "think#3")), 7, 7, 3],
    "calls": lambda name: [f"first {name}", f"{DRAFT} {name}", f"stream {name}"],
    "left stream": lambda name: [f"left {name}", f"0 {name}", f"1 {name}"],
}
"""What each returns in the run of a name, however often it was interrupted."""
