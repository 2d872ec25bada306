"""``memory://``: fakeredis, an in-process server. Nothing survives the process: for tests and trying out."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from agentcheckpoint.errors import NotInstalled
from agentcheckpoint.store.dial import Dial

if TYPE_CHECKING:
    from fakeredis import FakeServer

_servers: dict[str, FakeServer] = {}
_lock = threading.Lock()


def dial_memory(url: str) -> Dial:
    """The in-process server of that name: the same URL is the same server, for the life of this process."""
    try:
        from fakeredis import FakeServer
    except ImportError:
        raise NotInstalled(
            "memory:// needs fakeredis: pip install 'agentcheckpoint-redis[testing]'. Without any URL, an embedded "
            "server is used that keeps its data."
        ) from None
    with _lock:
        server = _servers.setdefault(url, FakeServer())
    return dial_fake({"server": server, "host": "memory", "port": 0, "db": 0}, url)


def dial_fake(settings: Mapping[str, Any], name: str) -> Dial:
    """Connections to a fakeredis server that is already there."""
    import fakeredis
    from fakeredis import aioredis

    sync_class = fakeredis.FakeRedis(server=settings["server"]).connection_pool.connection_class
    async_class = aioredis.FakeRedis(server=settings["server"]).connection_pool.connection_class
    return Dial(sync_class, async_class, settings, name)
