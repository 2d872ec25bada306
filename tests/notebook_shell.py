"""An IPython shell in this process, with the extension in it, and what its cells display."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

IPython = pytest.importorskip("IPython", reason="the notebook extension is an extra (ipython)")

from IPython.core.interactiveshell import InteractiveShell  # noqa: E402
from IPython.utils.capture import capture_output  # noqa: E402
from traitlets.config import Config  # noqa: E402

import agentcheckpoint as ac  # noqa: E402


class Shell:
    """Runs cells; keeps what the last one showed."""

    def __init__(self) -> None:
        config = Config()
        config.HistoryManager.enabled = False
        config.InteractiveShell.colors = "nocolor" if IPython.version_info[0] >= 9 else "NoColor"
        self.ip: Any = InteractiveShell.instance(config=config)
        self.said = ""
        self.shown: list[dict[str, str]] = []
        self.outputs: list[Any] = []
        """What was displayed, with whether it took another one's place."""

    def __call__(self, cell: str) -> BaseException | None:
        """Runs a cell; returns what it raised."""
        with capture_output() as captured:
            result = self.ip.run_cell(cell, store_history=True)
        self.said = captured.stdout
        self.outputs = list(captured.outputs)
        self.shown = [dict(output.data) for output in captured.outputs]
        return result.error_in_exec or result.error_before_exec

    def __getitem__(self, name: str) -> Any:
        return self.ip.user_ns[name]

    @property
    def text(self) -> str:
        """All that was displayed, as text."""
        return "\n".join(bundle.get("text/plain", "") for bundle in self.shown)

    @property
    def html(self) -> str:
        """All that was displayed, as HTML."""
        return "\n".join(bundle.get("text/html", "") for bundle in self.shown)


@contextmanager
def shell() -> Iterator[Shell]:
    """A shell of its own, in which the extension is loaded."""
    running = Shell()
    try:
        assert running("%load_ext agentcheckpoint") is None
        assert running("import agentcheckpoint as ac") is None
        yield running
    finally:
        ac.unload_ipython_extension(running.ip)
        InteractiveShell.clear_instance()
