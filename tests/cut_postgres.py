"""Stands in front of a PostgreSQL, and cuts the connection around its next COMMIT."""

from __future__ import annotations

import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

SOCKET = ".s.PGSQL.5432"


class Cutter:
    """The relay.

    Attributes:
        conninfo: of a connection that goes through it.
        cut: where the next COMMIT is cut off: before the server has it, or before its answer goes on.
        has_cut: how many connections were.
    """

    def __init__(self, server: Path, home: Path) -> None:
        self.conninfo = f"host={home} user=postgres dbname=postgres"
        self.cut: Literal["", "before", "after"] = ""
        self.has_cut = 0
        self._server = server
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(home / SOCKET))
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(str(self._server))
                threading.Thread(target=self._answers, args=(client, server), daemon=True).start()
                threading.Thread(target=self._asks, args=(client, server), daemon=True).start()

    def _asks(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := client.recv(65536):
                if self.cut == "before" and b"COMMIT" in data:
                    self._end(client, server)
                    return
                server.sendall(data)
            self._end(client, server, planned=False)

    def _answers(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := server.recv(65536):
                if self.cut == "after" and b"COMMIT" in data:  # the tag of the answer: it is done
                    self._end(client, server)
                    return
                client.sendall(data)

    def _end(self, client: socket.socket, server: socket.socket, planned: bool = True) -> None:
        if planned:
            self.cut = ""
            self.has_cut += 1
        for one in (client, server):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


@contextmanager
def cutter(conninfo: str) -> Iterator[Cutter]:
    """One in front of the server that a conninfo of ``postgres()`` names."""
    server = Path(conninfo.split()[0].removeprefix("host="))
    with tempfile.TemporaryDirectory(prefix="cut") as home:
        relay = Cutter(server / SOCKET, Path(home))
        try:
            yield relay
        finally:
            relay.close()
