"""The servers of this directory's tests, as fixtures."""

from __future__ import annotations

from servers import embedded_url, redis_server, run_id, server_url

__all__ = ["embedded_url", "redis_server", "run_id", "server_url"]
