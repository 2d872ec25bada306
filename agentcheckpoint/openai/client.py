"""``ac.wrap``: the same client, of the same type, whose calls inside a run are steps.

Two methods of the SDK's clients are overridden, and nothing else of them is touched: ``request``, the funnel of all
calls, opens a call's scope; ``_send_request``, through which each HTTP attempt leaves, records inside that scope. The
user's own HTTP client sends everything, with its base URL, proxies, time-outs and limits. A contract test pins both.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from contextvars import ContextVar, Token
from functools import cached_property
from typing import Any, TypeVar, cast

import httpx2
import openai

from agentcheckpoint.core.pricing import Price
from agentcheckpoint.errors import AgentCheckpointError, RunMisuse
from agentcheckpoint.flow import Flow, run_flow, run_flow_async
from agentcheckpoint.openai.added import ask, is_refused
from agentcheckpoint.openai.background import Look, look
from agentcheckpoint.openai.course import send_flow
from agentcheckpoint.openai.line import Line
from agentcheckpoint.openai.modelcall import ModelCall, Terms, begin
from agentcheckpoint.openai.sending import fail
from agentcheckpoint.openai.streams import async_line, blocking_line
from agentcheckpoint.openai.tee import make_way

C = TypeVar("C", openai.OpenAI, openai.AsyncOpenAI)

_classes: dict[Any, Any] = {}
_scope: ContextVar[ModelCall | Look | None] = ContextVar("agentcheckpoint_call", default=None)


def _above(face: type[Any], client: object) -> Any:
    """The SDK's own methods, beneath a face: no type checker can know which class that will be."""
    return cast(Any, super(face, client))


def _leave(token: Token[ModelCall | Look | None]) -> None:
    with suppress(ValueError):  # a coroutine that nobody awaited to its end is closed in another context
        _scope.reset(token)


def _flow(call: ModelCall | Look, request: httpx2.Request, stream: bool, line: Line) -> Flow[httpx2.Response]:
    """One HTTP attempt of a call, or one look at a response."""
    if isinstance(call, Look):
        return call.flow(request, stream, line)
    return send_flow(call, request, stream, line)


class _Checkpointed:
    """Marks a wrapped client, and carries what ``wrap`` was told to its copies."""

    _agentcheckpoint: Terms

    def copy(self, **options: Any) -> Any:
        new = _above(_Checkpointed, self).copy(**options)
        _refuse_legacy(new)
        new._agentcheckpoint = self._agentcheckpoint
        return new

    with_options = copy

    def _begin(self, options: Any) -> ModelCall | Look | None:
        base: httpx2.URL = _above(_Checkpointed, self).base_url
        given = self._agentcheckpoint
        provider = given.provider or ("openai" if base.host == "api.openai.com" else None)
        terms = Terms(provider, given.prices, given.recover, str(base))
        path = "/" + str(options.url).removeprefix(str(base)).partition("?")[0].strip("/")
        call = begin(options.method, path, _body(options), terms)
        if call is None:
            return look(options.method, path, terms)
        make_way(call)
        return call


class _Blocking(_Checkpointed):
    def request(self, cast_to: Any, options: Any, **kwargs: Any) -> Any:
        send = _above(_Blocking, self).request
        call = self._begin(options)
        token = _scope.set(call)  # also if there is none: a call made inside another one is not part of that
        try:
            if not isinstance(call, ModelCall):
                return send(cast_to, options, **kwargs)
            options = _without_retries(call, options)
            try:
                return send(cast_to, ask(call, options), **kwargs)
            except openai.APIStatusError as exc:
                if not is_refused(call, exc):
                    raise
            return send(cast_to, ask(call, options), **kwargs)
        except BaseException as exc:
            if isinstance(call, ModelCall) and call.attempt.store is not None:
                try:
                    if not isinstance(exc, AgentCheckpointError):
                        run_flow(call.attempt.store, fail(call, exc))
                finally:
                    call.attempt.journal.end(call.site.call)
            raise
        finally:
            _leave(token)

    def _send_request(self, request: httpx2.Request, *, stream: bool, **kwargs: Any) -> httpx2.Response:
        send = _above(_Blocking, self)._send_request
        call = _scope.get()
        if call is None or call.attempt.store is None:
            return cast(httpx2.Response, send(request, stream=stream, **kwargs))
        line = blocking_line(lambda request, stream: send(request, stream=stream, **kwargs))
        return run_flow(call.attempt.store, _flow(call, request, stream, line))


class _Async(_Checkpointed):
    async def request(self, cast_to: Any, options: Any, **kwargs: Any) -> Any:
        send = _above(_Async, self).request
        call = self._begin(options)
        token = _scope.set(call)
        try:
            if not isinstance(call, ModelCall):
                return await send(cast_to, options, **kwargs)
            options = _without_retries(call, options)
            try:
                return await send(cast_to, ask(call, options), **kwargs)
            except openai.APIStatusError as exc:
                if not is_refused(call, exc):
                    raise
            return await send(cast_to, ask(call, options), **kwargs)
        except BaseException as exc:
            if isinstance(call, ModelCall) and call.attempt.store is not None:
                try:
                    if not isinstance(exc, AgentCheckpointError):
                        await run_flow_async(call.attempt.store, fail(call, exc))
                finally:
                    call.attempt.journal.end(call.site.call)
            raise
        finally:
            _leave(token)

    async def _send_request(self, request: httpx2.Request, *, stream: bool, **kwargs: Any) -> httpx2.Response:
        send = _above(_Async, self)._send_request
        call = _scope.get()
        if call is None or call.attempt.store is None:
            return cast(httpx2.Response, await send(request, stream=stream, **kwargs))
        line = async_line(lambda request, stream: send(request, stream=stream, **kwargs))
        return await run_flow_async(call.attempt.store, _flow(call, request, stream, line))


def wrap(
    client: C,
    /,
    *,
    prices: Mapping[str, Price] | None = None,
    provider: str | None = None,
    recover: bool | None = None,
) -> C:
    """The same client, whose chat completions, responses and embeddings are checkpointed inside a run.

    Outside a run it behaves exactly like the one given, which itself is left as it is; both share one connection pool.

    Args:
        client: an ``OpenAI`` or ``AsyncOpenAI`` (or a subclass, such as Azure's).
        prices: your own prices by model name; they come before the published ones.
        provider: whose published prices apply, such as ``"openai"``. By default OpenAI's where the base URL is
            OpenAI's own; a compatible server's prices are unknown until you name them.
        recover: which answers of the Responses API can be fetched again by their ids after a crash, instead of bought
            again. By default streams; ``True``: plain calls too, which then travel as streams underneath, so that
            their ids are known while they are made; ``False``: none. It takes a response that the provider stores
            (``store=False`` is not), and one commit more, for its id.

    Returns:
        A client of the same type, as far as type checkers and ``isinstance`` can tell. A client that is wrapped
        already keeps its terms, unless others are given.

    Raises:
        RunMisuse: it is not such a client, or it sends through the legacy httpx library.
    """
    given: Any = client  # what callers without a type checker may give
    if not isinstance(given, openai.OpenAI | openai.AsyncOpenAI):
        raise RunMisuse(f"ac.wrap takes an OpenAI or AsyncOpenAI client, not {type(given).__qualname__}.")
    _refuse_legacy(given)
    known: Terms | None = vars(given).get("_agentcheckpoint")
    if known is not None and prices is None and provider is None and recover is None:
        return client
    kind: Any = type(given) if known is not None else _wrapped_class(type(given))
    new = object.__new__(kind)
    for attribute, value in vars(given).items():
        if not isinstance(getattr(kind, attribute, None), cached_property):  # client.chat remembers its client
            vars(new)[attribute] = value
    known = known or Terms(None, {})
    new._agentcheckpoint = Terms(
        provider or known.provider,
        known.prices if prices is None else dict(prices),
        known.recover if recover is None else recover,
    )
    return cast(C, new)


def _refuse_legacy(client: object) -> None:
    http: Any = vars(client)["_client"]
    if not isinstance(http, httpx2.Client | httpx2.AsyncClient):
        raise RunMisuse(
            f"ac.wrap: the client sends through {type(http).__module__}, which cannot be recorded safely. "
            "Give it an httpx2 client: OpenAI(http_client=httpx2.Client(...))."
        )


def _wrapped_class(kind: Any) -> Any:
    known = _classes.get(kind)
    if known is not None:
        return known
    if not hasattr(kind, "_send_request"):
        raise RunMisuse(f"ac.wrap: openai {openai.__version__} is not supported: install openai>=3.40,<4.")
    face = _Async if issubclass(kind, openai.AsyncOpenAI) else _Blocking
    return _classes.setdefault(kind, type(kind.__name__, (face, kind), {"__module__": kind.__module__}))


def _without_retries(call: ModelCall, options: Any) -> Any:
    """Inside a step that is tried again by a policy the SDK does not retry: three times three is in nobody's mind."""
    return options.model_copy(update={"max_retries": 0}) if call.site.scope.retried else options


def _body(options: Any) -> object:
    """The JSON body as it will be sent."""
    body, extra = options.json_data, options.extra_json
    if not isinstance(body, Mapping) or not isinstance(extra, Mapping):
        return cast(object, body if body is not None else extra)
    merged = {**cast("Mapping[str, object]", body), **cast("Mapping[str, object]", extra)}
    return {name: value for name, value in merged.items() if not isinstance(value, openai.Omit)}
