"""Points the OpenAI SDK at a provider on loopback, under code that knows nothing of it.

    python tests/stage.py SCRIPT PROVIDER_URL [N]

runs a script so, and kills it after its N-th commit. The base URL stays OpenAI's own, and with it its prices.
"""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import openai


def _quiet(_request: httpx2.Request) -> None:
    return None


class _Loopback(httpx2.BaseTransport):
    def __init__(self, url: str, before: Callable[[httpx2.Request], None], after: Callable[[httpx2.Request], None]):
        self._to, self._inner = httpx2.URL(url), httpx2.HTTPTransport()
        self._before, self._after = before, after

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        request.url = request.url.copy_with(scheme="http", host=self._to.host, port=self._to.port)
        self._before(request)
        response = self._inner.handle_request(request)
        self._after(request)
        return response


class _AsyncLoopback(httpx2.AsyncBaseTransport):
    def __init__(self, url: str) -> None:
        self._to, self._inner = httpx2.URL(url), httpx2.AsyncHTTPTransport()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        request.url = request.url.copy_with(scheme="http", host=self._to.host, port=self._to.port)
        return await self._inner.handle_async_request(request)


def client_for(
    url: str,
    before: Callable[[httpx2.Request], None] = _quiet,
    after: Callable[[httpx2.Request], None] = _quiet,
    **options: Any,
) -> openai.OpenAI:
    """An OpenAI client whose requests go to the provider at ``url``; the callbacks see each of them pass."""
    transport = _Loopback(url, before, after)
    return openai.OpenAI(api_key="unused", http_client=httpx2.Client(transport=transport), **options)


@contextmanager
def on_loopback(url: str) -> Iterator[None]:
    """Inside, ``OpenAI()`` and ``AsyncOpenAI()`` talk to the provider at ``url``."""
    real, real_async = openai.OpenAI, openai.AsyncOpenAI

    class OpenAI(real):  # type: ignore[misc, valid-type]
        def __init__(self, **options: Any) -> None:
            transport = _Loopback(url, _quiet, _quiet)
            super().__init__(api_key="unused", http_client=httpx2.Client(transport=transport), **options)

    class AsyncOpenAI(real_async):  # type: ignore[misc, valid-type]
        def __init__(self, **options: Any) -> None:
            transport = _AsyncLoopback(url)
            super().__init__(api_key="unused", http_client=httpx2.AsyncClient(transport=transport), **options)

    openai.OpenAI, openai.AsyncOpenAI = OpenAI, AsyncOpenAI  # type: ignore[misc]
    try:
        yield
    finally:
        openai.OpenAI, openai.AsyncOpenAI = real, real_async  # type: ignore[misc]


if __name__ == "__main__":
    script, provider, *kill = sys.argv[1:]
    if kill:
        from agentcheckpoint.testing.crashing import kill_after_commits

        kill_after_commits(int(kill[0]))
    with on_loopback(provider):
        runpy.run_path(script, run_name="__main__")
