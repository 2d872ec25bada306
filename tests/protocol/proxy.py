"""A proxy on loopback that knows where an EXEC is, and can cut the line before it, or swallow or delay its reply."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path
from typing import Literal

Fate = Literal["cut before", "cut after", "delay"]
_EXEC = b"$4\r\nEXEC\r\n"


class Proxy:
    """Listens on a Unix socket in front of a server's.

    Attributes:
        plan: what to do with the n-th EXEC from now on; others pass.
        executed: how many EXECs reached the server.
        struck: set as soon as a planned EXEC was met; ``arm`` clears it.
    """

    def __init__(self, directory: Path, server: str) -> None:
        self.path = str(directory / "proxy")
        self.plan: dict[int, Fate] = {}
        self.executed = 0
        self.struck = threading.Event()
        self._seen = 0
        self._server = server
        self._lock = threading.Lock()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    def arm(self, **fates: Fate) -> None:
        """``arm(n1="cut after")``: the first EXEC from now on loses its reply."""
        with self._lock:
            self._seen = 0
            self.struck.clear()
            self.plan = {int(name[1:]): fate for name, fate in fates.items()}

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            server.connect(self._server)
            fate: list[Fate] = []
            threading.Thread(target=self._upstream, args=(client, server, fate), daemon=True).start()
            threading.Thread(target=self._downstream, args=(client, server, fate), daemon=True).start()

    def _upstream(self, client: socket.socket, server: socket.socket, fate: list[Fate]) -> None:
        while data := _read(client):
            if data.endswith(_EXEC):
                with self._lock:
                    self._seen += 1
                    planned = self.plan.pop(self._seen, None)
                    if planned != "cut before":
                        self.executed += 1
                if planned == "cut before":
                    self.struck.set()
                    break
                if planned is not None:
                    fate.append(planned)
            server.sendall(data)
            if fate:
                self.struck.set()
        _shut(client, server)

    def _downstream(self, client: socket.socket, server: socket.socket, fate: list[Fate]) -> None:
        while data := _read(server):
            if fate:
                if fate.pop() == "cut after":
                    break
                time.sleep(0.6)
            try:
                client.sendall(data)
            except OSError:
                break
        _shut(client, server)


def _read(source: socket.socket) -> bytes:
    try:
        return source.recv(1 << 20)
    except OSError:
        return b""


def _shut(*sockets: socket.socket) -> None:
    for one in sockets:
        try:
            one.shutdown(socket.SHUT_RDWR)
        except OSError:
            continue
