"""The process that workers are forked from: all that they need is imported and built, and no line is open."""

from __future__ import annotations

import asyncio
import gc
import os
import secrets
import tempfile
import time
import warnings
from pathlib import Path
from unittest import mock

import anyio
import httpx2
import openai

import agentcheckpoint as ac
from agentcheckpoint import opening
from agentcheckpoint.store.dial import dial_url
from agentcheckpoint.testing.desk import Desk
from agentcheckpoint.testing.payments import PRICES as PROVIDERS
from agentcheckpoint.testing.payments import Journal, encode

from .agents import KINDS, Agent, Op
from .brain import Brain
from .diary import Diary
from .drives import DONE, WAITS
from .lives import PRICES, Clients, live


class Direct(httpx2.BaseTransport, httpx2.AsyncBaseTransport):
    """Asks the provider's desk without any line."""

    def __init__(self) -> None:
        self._desk = Desk(Brain(), Journal(None), PROVIDERS, 1024)

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        reply = self._desk.post(request.url.path, dict(request.headers), request.read())
        kind = "application/json" if reply.events is None else "text/event-stream"
        headers = {"content-type": kind, "x-request-id": reply.request_id}
        body = encode(reply.body) if reply.events is None else b"".join(reply.events)
        return httpx2.Response(reply.answer.status, headers=headers, content=body, request=request)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        await request.aread()
        return self.handle_request(request)


def warm_up() -> None:
    """Lets both colours of an agent do everything once, in memory: the SDK builds its types when they are first used.

    No thread is started, so that the process can be forked.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # the SDK loads numpy where there is one, which starts threads
    options = {"api_key": "k", "base_url": "http://127.0.0.1:9/v1"}
    direct = Direct()
    clients = Clients(
        ac.wrap(openai.OpenAI(**options, http_client=httpx2.Client(transport=direct)), prices=PRICES),  # type: ignore[arg-type]
        ac.wrap(openai.AsyncOpenAI(**options, http_client=httpx2.AsyncClient(transport=direct)), prices=PRICES),  # type: ignore[arg-type]
    )
    ops = tuple(Op(kind, kind) for kind in KINDS)
    with tempfile.TemporaryDirectory() as room, mock.patch.object(opening, "keep_alive", lambda _: None):
        for is_async in (False, True):
            diary = Diary(Path(room, f"diary-{is_async}"))
            with warnings.catch_warnings():
                url = f"memory://{secrets.token_hex(4)}"
                for is_job in (False, True):
                    _to_its_end(
                        Agent(0, is_async, (Op("stumbled", "s"), *ops) if is_job else ops, is_job), url, clients, diary
                    )
    asyncio.run(anyio.sleep(0))  # what httpx2 and redis-py do on real lines was not met in memory
    dial_url("unix:///nowhere")
    asyncio.set_event_loop(None)
    deadline = time.monotonic() + 60
    while len(os.listdir("/proc/self/task")) > 1:  # those of the loop's executor may still be on their way out
        assert time.monotonic() < deadline, "the template has threads"
        time.sleep(0.01)
    gc.collect()
    gc.freeze()  # what the children only read is not copied for them


def _to_its_end(agent: Agent, url: str, clients: Clients, diary: Diary) -> None:
    """All lives of one agent."""
    run_id, asked, code = f"warm-{agent.is_job}", list[str](), WAITS
    while code == WAITS:
        code = live(agent, run_id, url, clients, diary, asked=asked)
        asked = [question.name for question in ac.waiting(store=url) if question.run_id == run_id]
    assert code == DONE
