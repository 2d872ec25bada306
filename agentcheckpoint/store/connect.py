"""From nothing, a URL, or a client, to a store; and what the server's settings mean, said once."""

from __future__ import annotations

import os
import threading
import warnings
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from agentcheckpoint.errors import DurabilityWarning, InvalidStore, StoreRefused, StoreUnavailable
from agentcheckpoint.store.dial import Dial, dial_client, dial_url
from agentcheckpoint.store.effects import Lost, Node, NotSent, Packet, Pause, Protocol, Refusal, Reply
from agentcheckpoint.store.health import CONFIG_NAMES, Health, assess, merged, parse_info
from agentcheckpoint.store.refusals import ADVICE
from agentcheckpoint.store.replicas import Replicas
from agentcheckpoint.store.store import Store

if TYPE_CHECKING:
    import redis
    import redis.asyncio as aioredis
    from redis.asyncio.cluster import RedisCluster as AsyncRedisCluster
    from redis.cluster import RedisCluster

_Client: TypeAlias = "redis.Redis | aioredis.Redis | RedisCluster | AsyncRedisCluster"
_Pool: TypeAlias = "redis.ConnectionPool | aioredis.ConnectionPool"
Connectable: TypeAlias = "str | Store | _Client | _Pool | None"
"""What can be given as a store."""
Durability: TypeAlias = Literal["server", "replicated"]
"""When a write is done: as the primary has it, or as its replicas have it too."""

PAUSES = (0.05, 0.2, 0.5, 1.0)


class _Terms(NamedTuple):
    allow_eviction: bool
    replicas: int


_by_url: dict[str, dict[_Terms, Store]] = {}
_by_client: weakref.WeakKeyDictionary[Any, dict[_Terms, Store]] = weakref.WeakKeyDictionary()
_lock = threading.Lock()


def _forget_lock() -> None:
    """In a forked child: the lock may be held by a thread that is not here."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_lock)


def switched_off() -> bool:
    """``AGENTCHECKPOINT=off``: the whole library is a pass-through."""
    return os.environ.get("AGENTCHECKPOINT", "").strip().lower() in ("off", "0", "false", "no")


def connect(
    target: Connectable = None,
    *,
    allow_eviction: bool = False,
    durability: Durability = "server",
    replicas: int = 1,
) -> Store:
    """A store to keep runs in.

    Args:
        target: a URL (``redis://``, ``rediss://``, ``unix://``, ``memory://``, ``redis+cluster://``,
            ``redis+sentinel://``), a client or connection pool of redis-py (its retry settings are not used: they
            would book a cost twice), or a ``Store``. By default
            ``$AGENTCHECKPOINT_URL``; if that is not set, an embedded server on this machine, which is started if it
            does not run.
        allow_eviction: use a server that may throw checkpoints away, which is otherwise refused.
        durability: ``"server"``: a write is done when the primary has it. ``"replicated"``: when so many of its
            replicas have it too; after a second without them it counts all the same, and a warning says so.
        replicas: how many replicas that is.

    Returns:
        The store; the same for the same target. With ``AGENTCHECKPOINT=off`` nothing is connected or started.

    Raises:
        InvalidStore: the target is none of these, or is a ``Store`` of another durability.
        NotInstalled: what it needs is not installed.
        StoreUnavailable: the server does not answer.
        StoreRefused: it wants another password, is a replica, is older than Redis 6.2, or evicts keys.

    Warns:
        DurabilityWarning: once, for settings that weaken the promise.
    """
    waited = replicas if durability == "replicated" else 0
    if durability not in ("server", "replicated") or replicas < 1:
        raise InvalidStore(
            f"durability={durability!r}, replicas={replicas!r}: give 'server', or 'replicated' and 1 up."
        )
    if isinstance(target, Store):
        if waited > target.replicas:
            raise InvalidStore(f"{target!r} waits for {target.replicas} replicas: ask for more when it is connected.")
        return target
    if target is None:
        target = os.environ.get("AGENTCHECKPOINT_URL") or _embedded_url()
    dial = None if isinstance(target, str) else dial_client(target)
    if switched_off():
        return Store(dial or dial_url(str(target)))
    with _lock:
        stores = _by_url.setdefault(target, {}) if isinstance(target, str) else _by_client.setdefault(target, {})
        terms = _Terms(allow_eviction, waited)
        if terms not in stores:
            stores[terms] = _open(dial or dial_url(str(target)), terms)
        return stores[terms]


def _embedded_url() -> str:
    from agentcheckpoint.store.embedded import ensure_server, socket_url, state_directory

    return socket_url(state_directory() / "socket") if switched_off() else ensure_server().url


def _open(dial: Dial, terms: _Terms) -> Store:
    dial.replicas = Replicas(terms.replicas) if terms.replicas and not dial.in_memory else None
    store = Store(dial)
    if dial.in_memory:
        return store
    nodes = store.servers()
    failover = dial.routes is not None
    each = [store.run(_read_health(dial.name, node, terms.replicas, failover)) for node in nodes]
    store.health = health = merged(each)
    if health.refuse is not None and (health.for_good or not terms.allow_eviction):
        raise StoreRefused(f"{dial.name} cannot keep checkpoints: {health.refuse}")
    findings = health.findings if health.refuse is None else (health.refuse, *health.findings)
    if findings:
        lines = "".join(f"\n  - {finding}" for finding in findings)
        warnings.warn(f"{dial.name} ({health.server}) weakens the promise:{lines}", DurabilityWarning, stacklevel=4)
    return store


def _read_health(name: str, node: Node | None, replicas: int, failover: bool) -> Protocol[Health]:
    questions = tuple(("CONFIG", "GET", setting) for setting in CONFIG_NAMES)
    trouble: Exception | None = None
    for pause in PAUSES:
        try:
            info, *answers = yield Packet((("INFO",), *questions), node=node)
        except (NotSent, Lost) as exc:
            trouble = exc
            yield Pause(pause)
            continue
        if isinstance(info, Refusal) and info.code == "NOAUTH":
            raise StoreRefused(f"{name} refused: {info}. Nothing was written. {ADVICE['NOAUTH']}")
        config = _settings(answers)
        told = parse_info(info) if isinstance(info, bytes) else None
        return assess(told, config or None, replicas=replicas, failover=failover)
    raise StoreUnavailable(
        f"{name} does not answer: {trouble}. Is the server up, and is the URL right? Without a URL, and without "
        "$AGENTCHECKPOINT_URL, an embedded server is used."
    )


def _settings(answers: Sequence[Reply]) -> dict[str, str]:
    """What ``CONFIG GET`` said, as far as it is allowed."""
    pairs = [answer for answer in answers if not isinstance(answer, Refusal) and len(answer) == 2]
    return {name.decode(): value.decode() for name, value in pairs}
