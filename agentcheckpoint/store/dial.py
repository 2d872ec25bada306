"""From a URL, or a client that the user already has, to connections of our own: no retries, no decoding, RESP2."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import cache
from typing import Any, cast
from urllib.parse import SplitResult, unquote, unquote_plus, urlsplit, urlunsplit

import redis
import redis.asyncio as aioredis
from redis import DriverInfo
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from agentcheckpoint.errors import InvalidStore
from agentcheckpoint.store.async_wire import AsyncWire, take_over
from agentcheckpoint.store.effects import Node, Protocol, T
from agentcheckpoint.store.replicas import Replicas
from agentcheckpoint.store.routed import routed
from agentcheckpoint.store.routes import Routes
from agentcheckpoint.store.wire import AsyncParser, Parser, Wire, connect_error

TIMEOUT = 5.0
"""Seconds to wait for a reply before the connection counts as lost."""

_TAKEN_OVER = frozenset(
    {"host", "port", "path", "db", "username", "password", "credential_provider", "client_name"}
    | {"socket_connect_timeout", "socket_keepalive", "socket_keepalive_options", "socket_read_size"}
    | {"server", "version", "server_type", "lua_modules", "client_class"}  # fakeredis
)
_FIXED: dict[str, Any] = {
    **{"decode_responses": False, "health_check_interval": 0, "protocol": 2},
    "driver_info": DriverInfo(),  # else each connection reads redis-py's version from its files
}

_TWINS: tuple[tuple[type[Any], type[Any]], ...] = (
    (redis.SSLConnection, aioredis.SSLConnection),  # first: each is also a plain Connection
    (redis.Connection, aioredis.Connection),
    (redis.UnixDomainSocketConnection, aioredis.UnixDomainSocketConnection),
)


class Dial:
    """Opens connections of either colour to one server.

    Args:
        sync_class, async_class: redis-py's (or fakeredis's) connection classes.
        settings: where and as whom to connect; anything about retries and decoding is left out.
        name: what to call the server in messages, without its password.
    """

    def __init__(self, sync_class: type[Any], async_class: type[Any], settings: Mapping[str, Any], name: str) -> None:
        kept = {key: value for key, value in settings.items() if key in _TAKEN_OVER or key.startswith("ssl_")}
        self._settings = kept | _FIXED
        self.in_memory = "server" in kept
        """It is fakeredis: nothing to be told about its settings."""
        self._sync_class = sync_class
        self._async_class = async_class
        self.name = name
        self.timeout = TIMEOUT
        self.routes: Routes | None = None
        """Who has what, where there are several servers."""
        self.replicas: Replicas | None = None
        """Those that each write waits for."""

    def led(self, protocol: Protocol[T]) -> Protocol[T]:
        """The protocol as a driver is to run it: led to its servers, and with the replicas waited for."""
        if self.routes is not None:
            protocol = routed(protocol, self.routes)
        return protocol if self.replicas is None else self.replicas.acknowledged(protocol)

    def _place(self, node: Node | None) -> dict[str, Any]:
        return self._settings if node is None else self._settings | {"host": node[0], "port": node[1]}

    def open(self, patience: int = 1, node: Node | None = None) -> Wire:
        """A connected wire to the server, or to ``node``.

        Raises:
            NotSent: no connection can be made.
            StoreRefused: the server refuses this user.
        """
        limits = {"socket_timeout": self.timeout * patience, "retry": Retry(NoBackoff(), 0)}
        connection = self._sync_class(**self._place(node), **limits, parser_class=Parser)
        try:
            connection.connect()
        except Exception as exc:
            raise connect_error(exc) from exc
        wire = Wire(connection)
        wire.node = node
        return wire

    async def open_async(self, patience: int = 1, node: Node | None = None) -> AsyncWire:
        limits = {"socket_timeout": self.timeout * patience, "retry": AsyncRetry(NoBackoff(), 0)}
        connection = self._async_class(**self._place(node), **limits, parser_class=AsyncParser)
        try:
            await connection.connect()
        except Exception as exc:
            raise connect_error(exc) from exc
        wire = take_over(connection)
        wire.node = node
        return wire


def dial_url(url: str) -> Dial:
    """A dial for ``redis://``, ``rediss://``, ``unix://`` or ``memory://``, for a cluster or for Sentinel.

    Raises:
        InvalidStore: it is none of these, or cannot be parsed.
        NotInstalled: ``memory://`` without fakeredis.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        raise InvalidStore(f"{masked(url)} is not a store.") from None
    scheme = parts.scheme
    if scheme == "memory":
        from agentcheckpoint.store.memory import dial_memory

        return dial_memory(url)
    if scheme.endswith(("+cluster", "+sentinel")):
        from agentcheckpoint.store.several import dial_several

        return dial_several(url)
    if scheme not in ("redis", "rediss", "unix"):
        raise InvalidStore(
            f"{masked(url)!r} is not a store: a URL begins with redis://, rediss://, unix:// or memory://, with "
            "redis+cluster:// or redis+sentinel://. Without a URL, and without $AGENTCHECKPOINT_URL, an embedded "
            "server is used."
        )
    return _from_pool(parsed(url, masked(url)), masked(url))


def parsed(url: str, name: str) -> Any:
    """The connection pool that redis-py makes of a URL. Raises ``InvalidStore``, which calls it ``name``."""
    parts = urlsplit(url)
    try:
        pool: Any = cast(Any, redis.ConnectionPool).from_url(url)
    except ValueError as exc:
        why = "what is secret in it must be percent-encoded" if _is_torn(parts) else exc
        raise InvalidStore(f"{name!r} is not a usable URL: {why}.") from None
    _check_parts(name, parts, pool)
    return pool


def _check_parts(name: str, parts: SplitResult, pool: Any) -> None:
    """Refuses what redis-py drops without a word."""
    database = unquote(parts.path).removeprefix("/")
    if parts.scheme != "unix" and database and not (database.isascii() and database.isdigit()):
        raise InvalidStore(f"{name!r} is not a usable URL: {database!r} is no number of a database.")
    known = _parameters(pool.connection_class) | {"max_connections", "timeout"}
    if strange := sorted({_option(pair) for pair in parts.query.split("&") if pair} - known):
        raise InvalidStore(
            f"{name!r} is not a usable URL: redis-py has no option {', '.join(map(repr, strange))} for it."
        )


def dial_client(client: object) -> Dial:
    """A dial to where a client of redis-py or fakeredis, sync or async, connects to. The client itself is not used.

    Raises:
        InvalidStore: it is something else.
    """
    pool = client if isinstance(client, redis.ConnectionPool | aioredis.ConnectionPool) else None
    if isinstance(client, redis.Redis | aioredis.Redis):
        pool = client.connection_pool
    if pool is None or hasattr(pool, "sentinel_manager"):
        from agentcheckpoint.store.several import dial_several_client

        return dial_several_client(client if pool is None else pool)
    where = pool.connection_kwargs
    name = f"unix://{where['path']}" if "path" in where else f"redis://{where.get('host')}:{where.get('port')}"
    return _from_pool(pool, f"{name}/{where.get('db', 0)}")


def _from_pool(pool: Any, name: str) -> Dial:
    kind: type[Any] = pool.connection_class
    settings: Mapping[str, Any] = pool.connection_kwargs
    if "server" in settings:
        from agentcheckpoint.store.memory import dial_fake

        return dial_fake(settings, name)
    return Dial(*twins(kind, settings), name)


def twins(kind: type[Any], settings: Mapping[str, Any]) -> tuple[type[Any], type[Any], dict[str, Any]]:
    """A connection class, sync or async, with its twin, and the settings that both know. Raises ``InvalidStore``."""
    for sync_class, async_class in _TWINS:
        if issubclass(kind, sync_class):
            return kind, async_class, _known(settings, async_class)
        if issubclass(kind, async_class):
            return sync_class, kind, _known(settings, sync_class)
    raise InvalidStore(f"connections of class {kind.__module__}.{kind.__qualname__} cannot be used: give a URL.")


def _known(settings: Mapping[str, Any], twin: type[Any]) -> dict[str, Any]:
    """Without the TLS settings that the twin does not know and that ask for nothing; one that does is not dropped."""
    names = _parameters(twin)
    strange = {name for name in settings if name.startswith("ssl_") and name not in names}
    if asked := sorted(name for name in strange if settings[name]):
        raise InvalidStore(
            f"{', '.join(asked)}: redis-py has no such setting for {twin.__module__}.{twin.__qualname__}, and a store "
            "makes connections of both kinds. Leave it out, or give a URL."
        )
    return {name: value for name, value in settings.items() if name not in strange}


def _parameters(kind: type[Any]) -> set[str]:
    """The settings that a connection class takes."""
    made = [vars(base)["__init__"] for base in kind.__mro__ if "__init__" in vars(base)]
    return {name for init in made for name in _names(init)} - {"self", "args", "kwargs"}


@cache  # to look takes longer than to connect
def _names(function: Any) -> tuple[str, ...]:
    return tuple(inspect.signature(function).parameters)


def masked(url: str) -> str:
    """The URL without its secrets: a password, or who logs in by the query."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "(a URL that cannot be parsed)"
    if _is_torn(parts):
        return f"{parts.scheme}://***@{url.rpartition('@')[2]}"
    netloc, query = parts.netloc, "&".join(map(_masked_option, parts.query.split("&")))
    if parts.password is not None:
        user, _, host = netloc.rpartition("@")
        netloc = f"{user.partition(':')[0]}:***@{host}"
    if (netloc, query) == (parts.netloc, parts.query):
        return url
    return urlunsplit(parts._replace(netloc=netloc, query=query))


def _is_torn(parts: SplitResult) -> bool:
    """Whether a ``/``, ``?`` or ``#`` in a password may have ended the host's part too soon."""
    return "@" not in parts.netloc and "@" in f"{parts.path}{parts.query}{parts.fragment}" and ":" in parts.netloc


def _option(pair: str) -> str:
    return unquote_plus(pair.partition("=")[0])


def _masked_option(pair: str) -> str:
    name = _option(pair)
    return f"{name}=***" if "password" in name or name.endswith("username") else pair
