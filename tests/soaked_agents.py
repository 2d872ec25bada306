"""The agents and workers of the soak. Each model call has a text of its own, so that payments can be told apart."""

from __future__ import annotations

import functools
import os
import warnings

from openai import AsyncOpenAI, OpenAI

import agentcheckpoint as ac

PRICES = {"demo-small": ac.Price(input="0.15", cached="0.015", output="0.6")}
URL = "SOAK_PROVIDER"
"""The environment variable that says where the provider is."""


@functools.cache
def client() -> OpenAI:
    return ac.wrap(OpenAI(base_url=os.environ[URL], api_key="none", max_retries=0), prices=PRICES)


@ac.tool
def look_up(what: str) -> str:
    return what.upper()


@ac.agent
def thinking(name: str) -> str:
    said = ""
    for n in range(3):
        asked = f"{name}, {n}: {said}"
        said = client().responses.create(model="demo-small", input=asked, store=False).output_text[:40]
    return look_up(said)


@ac.tool
async def look_up_later(what: str) -> str:
    return what.upper()


@ac.agent
async def unblocking(name: str) -> str:
    said = ""
    async with AsyncOpenAI(base_url=os.environ[URL], api_key="none", max_retries=0) as plain:
        later = ac.wrap(plain, prices=PRICES)
        for n in range(3):
            asked = f"{name}, {n}: {said}"
            said = (await later.responses.create(model="demo-small", input=asked, store=False)).output_text[:40]
    return await look_up_later(said)


AGENTS = [thinking, unblocking]


def work(url: str, provider: str, until_idle: bool) -> None:
    """One worker's life."""
    warnings.simplefilter("ignore")
    os.environ[URL] = provider
    ac.Worker(AGENTS, store=url, concurrency=3, poll=0.05, until_idle=until_idle, on_attempt=lambda *_: None).run()
