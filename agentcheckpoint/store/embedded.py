"""The embedded server: one Redis or Valkey per state directory, started on demand and shared by every process.

It has no port, only a socket that this user alone can open, and writes each commit to disk before it answers. It
outlives the process that started it, so that the next one finds what was committed; ``stop_server`` ends it.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import redis
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError
from redis.retry import Retry

from agentcheckpoint.errors import DurabilityWarning, InvalidStore, StoreUnavailable
from agentcheckpoint.store.place import HOME_VARIABLE, Place, ephemeral_reason, find, locked, prepare, state_directory
from agentcheckpoint.store.server_binary import find_binary

__all__ = [
    "EmbeddedServer",
    "ensure_server",
    "ephemeral_reason",
    "server_status",
    "socket_url",
    "state_directory",
    "stop_server",
]

_PATIENCE = 10.0
"""Seconds to wait for a server that starts, loads its data, or stops."""
_POLL = 0.01
_LOG_BYTES = 1 << 20
_TAIL_BYTES = 2000
_ENVIRONMENT = ("PATH", "TZ", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
"""What a server that lives for weeks may know of its first client's environment: no API keys."""
_warned: set[Path] = set()


@dataclass(frozen=True, slots=True)
class EmbeddedServer:
    """A running embedded server.

    Attributes:
        home: the state directory.
        socket: the Unix socket that it listens on.
        pid: its process id, in its own PID namespace.
        started: it was started by the call that returned this; else it was running already.
    """

    home: Path
    socket: Path
    pid: int
    started: bool

    @property
    def url(self) -> str:
        """What redis-py connects to."""
        return socket_url(self.socket)


def socket_url(socket: Path) -> str:
    """The URL of a server that listens on a Unix socket."""
    return f"unix://{quote(str(socket))}"


def ensure_server(home: Path | None = None) -> EmbeddedServer:
    """Start the server of a state directory, or join the one that runs. Any number of processes may race.

    Args:
        home: the state directory; made if need be. ``state_directory()`` if not given.

    Returns:
        A server that has loaded its data and answers.

    Raises:
        InvalidStore: no server can live there: the directory is unfit, or this is Windows.
        NotInstalled: a server has to be started, and there is no binary.
        StoreUnavailable: it ended at once, or did not answer within 10 seconds.

    Warns:
        DurabilityWarning: the directory will not outlive this machine. Once per process and directory.
    """
    place = prepare(_resolved(home))
    _warn_if_ephemeral(place.home)
    started = False
    deadline = time.monotonic() + _PATIENCE
    while True:
        with locked(place.home) as lock:
            if lock is not None:
                # Whoever holds the lock knows that no server runs: it would hold it itself.
                if started:
                    raise _ended(place)
                _launch(place, lock)
                started = True
        try:
            return EmbeddedServer(place.home, place.socket, _ask_pid(place), started)
        except redis.RedisError as error:
            if time.monotonic() > deadline:
                raise _silent(place, error) from error
        time.sleep(_POLL)


def server_status(home: Path | None = None) -> EmbeddedServer | None:
    """Look for the server of a state directory, without starting one.

    Args:
        home: the state directory; ``state_directory()`` if not given.

    Returns:
        The server, or ``None`` if none answers there.

    Raises:
        InvalidStore: the directory is unfit, or this is Windows.
    """
    place = find(_resolved(home))
    if place is None:
        return None
    try:
        return EmbeddedServer(place.home, place.socket, _ask_pid(place, loaded=False), started=False)
    except redis.RedisError:
        return None


def stop_server(home: Path | None = None) -> bool:
    """Stop the server of a state directory, and wait until it is gone. Its data stays.

    Args:
        home: the state directory; ``state_directory()`` if not given.

    Returns:
        ``False`` if none was running.

    Raises:
        InvalidStore: the directory is unfit, or this is Windows.
        StoreUnavailable: one is running, but does not answer or does not end within 10 seconds.
    """
    directory = _resolved(home)
    if not directory.is_dir():
        return False
    place = prepare(directory)
    asked: int | None = None
    deadline = time.monotonic() + _PATIENCE
    while True:
        with locked(place.home) as lock:
            if lock is not None:
                return asked is not None
        running = server_status(directory)
        if running is not None and asked is None:
            asked = running.pid
            _shut_down(place)
        elif running is not None and asked != running.pid:
            return True  # another process has already started the next one
        if time.monotonic() > deadline:
            raise _silent(place, None)
        time.sleep(_POLL)


def _resolved(home: Path | None) -> Path:
    if sys.platform == "win32":
        raise InvalidStore(
            "The embedded server runs on Linux and macOS only. Set $AGENTCHECKPOINT_URL to a Redis or Valkey server, "
            "such as redis://localhost:6379/0."
        )
    try:
        return (state_directory() if home is None else home).resolve()
    except (OSError, RuntimeError) as error:
        raise InvalidStore(f"{home} is no usable path for a state directory: {error}") from error


def _warn_if_ephemeral(home: Path) -> None:
    reason = None if home in _warned else ephemeral_reason(home)
    _warned.add(home)
    if reason is not None:
        warnings.warn(
            f"Checkpoints in {home} will not last: {reason}. What was paid would be paid again. Set ${HOME_VARIABLE} "
            "to a directory on a disk or volume that stays, or $AGENTCHECKPOINT_URL to a Redis server.",
            DurabilityWarning,
            stacklevel=3,
        )


def _launch(place: Place, lock: tuple[int, ...]) -> None:
    binary = find_binary()
    if place.log.exists() and place.log.stat().st_size > _LOG_BYTES:
        place.log.replace(place.home / "log.old")
    for left in (place.socket, place.pid):
        left.unlink(missing_ok=True)
    # It forks once to be nobody's child: its starter may wait for any child, or die without leaving a zombie.
    options = {
        "--daemonize": "yes", "--pidfile": str(place.pid), "--logfile": str(place.log), "--dir": str(place.home),
        "--port": "0", "--unixsocket": str(place.socket), "--unixsocketperm": "700",
        "--appendonly": "yes", "--appendfsync": "always", "--save": "", "--maxmemory-policy": "noeviction",
    }  # fmt: skip
    environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    with open(os.open(place.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as log:
        try:
            subprocess.run(
                [str(binary), *(part for option in options.items() for part in option)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, umask=0o077,
                start_new_session=True, pass_fds=lock, timeout=_PATIENCE, check=True,
            )  # fmt: skip
        except (OSError, subprocess.SubprocessError) as error:
            raise _ended(place, f" ({error})") from error


def _connect(place: Place) -> Any:  # redis-py's methods are only half typed
    # No retry: redis-py's own would turn a refused connection into seconds of waiting.
    return redis.Redis(
        unix_socket_path=str(place.socket),
        retry=Retry(NoBackoff(), 0),
        socket_timeout=1.0,
        socket_connect_timeout=1.0,
        protocol=2,
    )


def _ask_pid(place: Place, *, loaded: bool = True) -> int:
    with _connect(place) as client:
        if loaded:
            client.ping()  # refused while it loads; INFO is not
        return int(client.info("server")["process_id"])


def _shut_down(place: Place) -> None:
    # The server answers by closing the connection. One that stays is noticed by its lock.
    with contextlib.suppress(redis.RedisError), _connect(place) as client:
        client.shutdown()


def _ended(place: Place, why: str = "") -> StoreUnavailable:
    return StoreUnavailable(
        f"The embedded server in {place.home} ended as soon as it was started{why}. Nothing was sent. Its log ends:\n"
        f"{_log_tail(place)}\nIf another version of the server wrote the data, run that one."
    )


def _silent(place: Place, error: redis.RedisError | None) -> StoreUnavailable:
    if isinstance(error, BusyLoadingError):
        return StoreUnavailable(
            f"The embedded server in {place.home} is still loading its data after {_PATIENCE:.0f} s. Nothing was "
            "sent. Try again in a moment."
        )
    try:
        pid = place.pid.read_text().strip() or "unknown"
    except OSError:
        pid = "unknown"
    return StoreUnavailable(
        f"A server holds the lock of {place.home} (pid {pid}), but did not answer on {place.socket} or end within "
        f"{_PATIENCE:.0f} s ({error or 'no reply'}). Nothing was sent. If it hangs or its socket was deleted, end it "
        "with 'kill'; if it runs on another machine that shares the directory, set $AGENTCHECKPOINT_URL instead."
    )


def _log_tail(place: Place) -> str:
    try:
        with place.log.open("rb") as log:
            log.seek(max(0, place.log.stat().st_size - _TAIL_BYTES))
            return log.read().decode(errors="replace").strip()
    except OSError as error:
        return f"(the log cannot be read: {error})"
