"""Several lanes at work at once, each in a process of its own that tells what it finds, a line of JSON each time."""

from __future__ import annotations

import json
import os
import selectors
import signal
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeAlias

from agentcheckpoint.store.embedded import ensure_server, stop_server

from .lane import Lane
from .lives import fork_life
from .template import warm_up

LANES = 2 * (os.cpu_count() or 1)
"""More than there are cores: a lane often waits for a late answer."""

Work: TypeAlias = Callable[[Lane, int], Iterator[dict[str, Any]]]
"""What the lane of that number does, and finds."""


@contextmanager
def lane_in(room: Path) -> Iterator[Lane]:
    """A lane with a server of its own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        server = ensure_server(room / "home")
    try:
        lane = Lane(room, str(server.socket))
        try:
            yield lane
        finally:
            lane.close()
    finally:
        stop_server(room / "home")


def at_once(lanes: int, work: Work) -> Iterator[dict[str, Any]]:
    """What all lanes find, as it comes. To stop listening stops them.

    Raises:
        RuntimeError: a lane failed; with its traceback.
    """
    warm_up()
    with ExitStack() as rooms, selectors.DefaultSelector() as select:
        children: list[int] = []
        try:
            for number in range(lanes):
                room = Path(rooms.enter_context(tempfile.TemporaryDirectory(prefix="ac-")))
                reads, writes = os.pipe()
                rooms.callback(os.close, reads)
                children.append(fork_life(lambda: _tell(room, number, work, writes), room / "lane-errors"))  # noqa: B023
                os.close(writes)
                select.register(reads, selectors.EVENT_READ, (room, bytearray()))
            while select.get_map():
                for key, _ in select.select():
                    yield from _heard(select, key.fd, *key.data)
        finally:
            for child in children:
                os.kill(child, signal.SIGTERM)  # a zombie does not mind
                os.waitpid(child, 0)


def _tell(room: Path, number: int, work: Work, out: int) -> int:
    signal.signal(signal.SIGTERM, _leave)
    with lane_in(room) as lane:
        for found in work(lane, number):
            os.write(out, json.dumps(found).encode() + b"\n")
    return 0


def _leave(*_: object) -> None:
    raise SystemExit(0)  # its server and its provider are stopped on the way out


def _heard(select: selectors.BaseSelector, fd: int, room: Path, waiting: bytearray) -> Iterator[dict[str, Any]]:
    data = os.read(fd, 1 << 16)
    if not data:
        select.unregister(fd)
        if (errors := room / "lane-errors").exists():
            raise RuntimeError(errors.read_text())
    waiting += data
    while (end := waiting.find(b"\n")) >= 0:
        yield json.loads(waiting[:end])
        del waiting[: end + 1]
