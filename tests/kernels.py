"""A Jupyter kernel in a process of its own: cells are sent to it, it is interrupted, and killed."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

jupyter_client = pytest.importorskip("jupyter_client", reason="a kernel is an extra of the tests (ipykernel)")
pytest.importorskip("ipykernel")

PATIENCE = 140


class Kernel:
    """A kernel of its own.

    Args:
        diary: a file in which cells note what they do.
        setup: a cell that is run first, again after each restart.
    """

    def __init__(self, diary: Path, setup: str) -> None:
        diary.touch()
        self.diary = diary
        self._setup = setup
        self._process = jupyter_client.KernelManager(kernel_name="python3", transport="ipc", ip=str(diary.parent / "k"))
        self._process.start_kernel()
        self._connect()

    def _connect(self) -> None:
        self._client = self._process.blocking_client()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=PATIENCE)
        assert self.run(self._setup) == ("ok", "")

    def begin(self, code: str) -> str:
        """Sends a cell; returns the number of its message."""
        return str(self._client.execute(code))

    def end(self, message: str) -> tuple[str, str]:
        """How the cell ended: ``ok`` or the name of its error, and what it printed."""
        deadline, said = time.monotonic() + PATIENCE, ""
        while True:
            told: Any = self._client.get_iopub_msg(timeout=deadline - time.monotonic())
            if told["parent_header"].get("msg_id") == message and told["msg_type"] == "stream":
                said += told["content"]["text"]
            if told["parent_header"].get("msg_id") == message and told["content"].get("execution_state") == "idle":
                break
        reply: Any = self._client.get_shell_msg(timeout=deadline - time.monotonic())
        while reply["parent_header"].get("msg_id") != message:
            reply = self._client.get_shell_msg(timeout=deadline - time.monotonic())
        content = reply["content"]
        return ("ok" if content["status"] == "ok" else str(content.get("ename"))), said

    def run(self, code: str) -> tuple[str, str]:
        return self.end(self.begin(code))

    def wait_for(self, line: str) -> None:
        """Until a cell has noted this."""
        deadline = time.monotonic() + PATIENCE
        while line not in self.noted():
            assert time.monotonic() < deadline, f"the cell does not come to {line!r}"
            time.sleep(0.02)

    def noted(self) -> list[str]:
        return self.diary.read_text().splitlines()

    def interrupt(self) -> None:
        self._process.interrupt_kernel()

    def restart(self) -> None:
        """Kills it by SIGKILL alone (Jupyter's own way interrupts it first), and starts another."""
        self._client.stop_channels()
        os.kill(self._process.provisioner.pid, signal.SIGKILL)
        self._process.restart_kernel(now=True)
        self._connect()

    def close(self) -> None:
        self._client.stop_channels()
        self._process.shutdown_kernel(now=True)
