"""From a URL, or a client, that names the nodes of a cluster or Sentinels, to connections to whoever has what."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit, urlunsplit

import redis
import redis.asyncio as aioredis
from redis.asyncio.cluster import RedisCluster as AsyncRedisCluster
from redis.cluster import RedisCluster

from agentcheckpoint.errors import InvalidStore
from agentcheckpoint.store.async_wire import AsyncWire
from agentcheckpoint.store.dial import Dial, masked, parsed, twins
from agentcheckpoint.store.effects import Lost, Node, NotSent
from agentcheckpoint.store.routes import MasterRoute, Routes, SlotRoutes
from agentcheckpoint.store.wire import Wire

_PORTS = {"cluster": 6379, "sentinel": 26379}
_OF_SENTINELS = "sentinel_"
"""How options of a URL begin that are meant for the Sentinels alone."""


class SeveralDial(Dial):
    """Opens connections to any of several servers.

    Args:
        kind, settings: a connection class of redis-py and its settings, but for host and port.
        name: what to call the servers in messages.
        routes: who has what.
        sentinels: connects to the Sentinels, who may know other users.
        remap: where a server is to be found that is named by this address.
    """

    def __init__(
        self,
        kind: type[Any],
        settings: Mapping[str, Any],
        name: str,
        routes: Routes,
        *,
        sentinels: Dial | None = None,
        remap: Callable[[Node], Node] | None = None,
    ) -> None:
        elsewhere = {key: value for key, value in settings.items() if key not in _WHERE}
        sync_class, async_class, known = twins(kind, elsewhere)
        super().__init__(sync_class, async_class, known, name)
        self.routes = self._routes = routes
        self._sentinels = sentinels
        self._remap = remap

    def _place(self, node: Node | None) -> dict[str, Any]:
        return super()._place(node if node is None or self._remap is None else self._remap(node))

    def _of(self, node: Node) -> Dial | None:
        """The dial to a Sentinel."""
        is_sentinel = isinstance(self._routes, MasterRoute) and node in self._routes.sentinels
        if is_sentinel and self._sentinels is not None:
            self._sentinels.timeout = self.timeout
            return self._sentinels
        return None

    def open(self, patience: int = 1, node: Node | None = None) -> Wire:
        assert node is not None, "a routed packet names its server"
        if (other := self._of(node)) is not None:
            return other.open(patience, node)
        wire = super().open(patience, node)
        if question := self._routes.greeting(node):
            try:
                self._routes.check(node, wire.exchange(question))
            except (NotSent, Lost) as exc:
                wire.close()
                raise NotSent(str(exc), timed_out=exc.timed_out) from exc
        return wire

    async def open_async(self, patience: int = 1, node: Node | None = None) -> AsyncWire:
        assert node is not None, "a routed packet names its server"
        if (other := self._of(node)) is not None:
            return await other.open_async(patience, node)
        wire = await super().open_async(patience, node)
        if question := self._routes.greeting(node):
            try:
                self._routes.check(node, await wire.exchange(question))
            except (NotSent, Lost) as exc:
                wire.close()
                raise NotSent(str(exc), timed_out=exc.timed_out) from exc
        return wire


_WHERE = frozenset({"host", "port", "path"})


def dial_several(url: str) -> Dial:
    """A dial for ``redis+cluster://``, ``rediss+cluster://``, ``redis+sentinel://`` or ``rediss+sentinel://``.

    Raises:
        InvalidStore: it cannot be parsed.
    """
    name, parts = masked(url), urlsplit(url)
    scheme, _, what = parts.scheme.partition("+")
    user, at, hosts = parts.netloc.rpartition("@")
    if scheme not in ("redis", "rediss") or not hosts:
        raise InvalidStore(f"{name!r} is not a store: give redis+{what}://HOST:PORT,HOST:PORT, or rediss+{what}://.")
    nodes = [_node(host, _PORTS[what], name) for host in hosts.split(",")]
    of_sentinels, others = _options(parts)
    place, primary = f"{user}{at}h", ""
    path = unquote(parts.path).strip("/")
    if what == "sentinel":
        primary, _, path = path.partition("/")
        if not primary:
            raise InvalidStore(f"{name!r} does not name the primary: redis+sentinel://HOST:PORT,HOST:PORT/NAME/0.")
    elif path not in ("", "0") or of_sentinels:
        raise InvalidStore(f"{name!r} is not a usable URL: a cluster has database 0 alone, and no Sentinels.")
    pool = parsed(urlunsplit((scheme, place, path, urlencode(others), "")), name)
    if what == "cluster":
        return SeveralDial(pool.connection_class, pool.connection_kwargs, name, SlotRoutes(nodes))
    secrets = {key: value for key, value in others.items() if key.startswith("ssl_")} | of_sentinels
    asked = parsed(urlunsplit((scheme, "h", "", urlencode(secrets), "")), name)
    return _sentinel_dial(pool, asked, nodes, primary, name)


def _node(host: str, port: int, name: str) -> Node:
    parts = urlsplit(f"//{host}")
    try:
        if parts.hostname:
            return parts.hostname, parts.port or port
    except ValueError:
        pass
    raise InvalidStore(f"{name!r} is not a usable URL: {host!r} is no HOST:PORT.")


def _options(parts: SplitResult) -> tuple[dict[str, str], dict[str, str]]:
    """The options for the Sentinels, and those for the servers."""
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    ours = {key: value for key, value in options.items() if key.startswith(_OF_SENTINELS)}
    others = {key: value for key, value in options.items() if key not in ours}
    return {key.removeprefix(_OF_SENTINELS): value for key, value in ours.items()}, others


def _sentinel_dial(pool: Any, asked: Any, sentinels: Sequence[Node], primary: str, name: str) -> Dial:
    kind = redis.SSLConnection if issubclass(pool.connection_class, _TLS) else redis.Connection
    sentinel_dial = Dial(*twins(asked.connection_class, asked.connection_kwargs), name)
    routes = MasterRoute(sentinels, primary)
    return SeveralDial(kind, pool.connection_kwargs, name, routes, sentinels=sentinel_dial)


_TLS = (redis.SSLConnection, aioredis.SSLConnection)


def dial_several_client(client: Any) -> Dial:
    """A dial to where a ``RedisCluster``, or the pool of a client that ``Sentinel.master_for`` made, connects to.

    Raises:
        InvalidStore: it is something else.
    """
    if isinstance(client, RedisCluster | AsyncRedisCluster):
        return _dial_cluster(client)
    if getattr(client, "is_master", False) and client.sentinel_manager.sentinels:
        asked = [sentinel.connection_pool for sentinel in client.sentinel_manager.sentinels]
        nodes = [(pool.connection_kwargs["host"], int(pool.connection_kwargs["port"])) for pool in asked]
        name = f"redis+sentinel://{_listed(nodes)}/{client.service_name}/{client.connection_kwargs.get('db', 0)}"
        return _sentinel_dial(client, asked[0], nodes, client.service_name, name)
    given: type[Any] = type(client)  # pyright: ignore[reportUnknownVariableType]
    raise InvalidStore(
        f"{given.__module__}.{given.__qualname__} is not a store: give a URL, a redis.Redis, a redis.asyncio.Redis, a "
        "connection pool of these, a RedisCluster, or what Sentinel.master_for() returns."
    )


def _dial_cluster(client: Any) -> Dial:
    known = client.nodes_manager
    settings = dict(known.connection_kwargs)
    nodes = [(node.host, int(node.port)) for node in known.startup_nodes.values()]
    tls = settings.pop("ssl", False) or issubclass(settings.get("connection_class", redis.Connection), _TLS)
    kind = redis.SSLConnection if tls else redis.Connection
    name = f"redis{'s' if tls else ''}+cluster://{_listed(nodes)}"
    return SeveralDial(kind, settings, name, SlotRoutes(nodes), remap=known.address_remap)


def _listed(nodes: Sequence[Node]) -> str:
    return ",".join(f"{host}:{port}" for host, port in nodes)
