"""How a client speaks HTTP in its colour: what a flow invokes, to be awaited where there is a loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx2

from agentcheckpoint.core.models import LedgerEntry
from agentcheckpoint.openai.modelcall import ModelCall
from agentcheckpoint.openai.sse import Passing
from agentcheckpoint.store.store import Store


@dataclass(frozen=True, slots=True)
class Line:
    """One HTTP attempt's way out and back. What its callables return is awaitable for an async client.

    Attributes:
        send: sends a request; its second argument says whether the body of the response is left unread.
        read: reads the body of a response.
        close: closes a response whose body is not wanted.
        chunks: what gives the next chunk of a response's body at each call; ``None`` at its end.
        tee: a stream that passes to the caller and is recorded at its end.
        watch: a stream that passes to the caller as it is; what is said at its end is taken to the books.
    """

    send: Callable[[httpx2.Request, bool], Any]
    read: Callable[[httpx2.Response], Any]
    close: Callable[[httpx2.Response], Any]
    chunks: Callable[[httpx2.Response], Callable[[], Any]]
    tee: Callable[[ModelCall, LedgerEntry, httpx2.Response, Store], Any]
    watch: Callable[[httpx2.Response, Callable[[Passing], Any], Store], Any]
