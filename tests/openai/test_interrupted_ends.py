"""Streams that were left, and an interrupt that comes while the end of the run waits for theirs."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from asking import chat, chat_async, is_last_word, recorded, sync_client
from gates import Stalled, chunk
from memory_runs import leased
from openai import AsyncOpenAI

import agentcheckpoint as ac
from agentcheckpoint.openai.streams import Tee
from agentcheckpoint.testing.provider import Provider


@pytest.mark.parametrize("times", [1, 3])
async def test_a_cancellation_while_the_runs_end_waits_for_a_stream_closes_the_run(url: str, times: int) -> None:
    with Stalled(chunk("x") + chunk(None, "stop"), b"") as server:
        client = ac.wrap(AsyncOpenAI(base_url=server.url, api_key="k", max_retries=0))
        leaving = asyncio.Event()

        async def leave() -> None:
            async with ac.run("r", store=url):
                stream = await chat_async(client, stream=True)
                async for event in stream:
                    if is_last_word(event):
                        break
                leaving.set()

        task = asyncio.create_task(leave())
        await leaving.wait()
        for _ in range(times):
            await asyncio.sleep(0.02)
            task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert recorded(url) == ["chat"]
    assert ac.get("r", store=url).state == "interrupted"
    assert not leased(url, "r")


@pytest.mark.parametrize("error", [None, ValueError("mine")], ids=["left normally", "left by an error"])
def test_ctrl_c_while_the_runs_end_waits_for_a_stream_closes_the_run(
    url: str, provider: Provider, monkeypatch: pytest.MonkeyPatch, error: Exception | None
) -> None:
    def interrupted(_tee: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Tee, "drain", interrupted)
    with pytest.raises(KeyboardInterrupt), ac.run("r", store=url):
        events = iter(chat(sync_client(provider), stream=True))
        assert any(is_last_word(event) for event in events)
        if error is not None:
            raise error
    assert recorded(url) == ["chat"]
    assert ac.get("r", store=url).state == ("interrupted" if error is None else "retryable")
    assert not leased(url, "r")
