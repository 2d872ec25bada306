"""A stream that was left and forgotten is closed by the garbage collector, and that may run in any thread."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from asking import PRICES, chat, is_last_word, recorded
from gates import EVENTS, chunk
from openai import OpenAI

import agentcheckpoint as ac

USAGE = b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"demo-large","choices":[],\
"usage":{"prompt_tokens":10,"completion_tokens":2,"total_tokens":12}}\n\ndata: [DONE]\n\n'


class _Collecting(httpx2.SyncByteStream):
    """Collects garbage in the thread that reads what comes after the last word."""

    def __init__(self) -> None:
        self.collected_in = ""

    def __iter__(self) -> Iterator[bytes]:
        yield chunk("x")
        yield chunk(None, "stop")
        gc.collect()
        self.collected_in = threading.current_thread().name
        yield USAGE


@pytest.fixture
def no_collection() -> Iterator[None]:
    """No garbage is collected but when the test does so."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collection")
def test_a_stream_that_is_collected_by_the_thread_that_reads_its_end_is_a_step_with_its_price(url: str) -> None:
    body = _Collecting()

    def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers=EVENTS, stream=body, request=request)

    http = httpx2.Client(transport=httpx2.MockTransport(answer))
    client = ac.wrap(OpenAI(base_url="http://localhost/v1", api_key="k", http_client=http), prices=PRICES)
    with ac.run("r", store=url) as run:
        _leave(client)
        run.step("next", int)
        assert (run.cost.unresolved, run.cost.unpriced) == (0, 0)
    assert body.collected_in == "agentcheckpoint-drain"
    assert recorded(url) == ["chat", "next"]


def _leave(client: OpenAI) -> None:
    stream = chat(client, stream=True)
    cycle: list[Any] = [stream]
    cycle.append(cycle)
    assert any(is_last_word(event) for event in stream)
