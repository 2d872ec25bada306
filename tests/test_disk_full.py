"""A disk that is full under the embedded server: the error says so and carries what was paid, and nothing is lost."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from counted import Counted
from memory_runs import fresh

import agentcheckpoint as ac
from agentcheckpoint.store import patience
from agentcheckpoint.store.embedded import EmbeddedServer, ensure_server, stop_server

pytestmark = [
    pytest.mark.filterwarnings("ignore::agentcheckpoint.errors.DurabilityWarning"),
    pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="only Linux limits another process's files"),
]
THINK = ac.Step("think", prices={"m": ac.Price(input="1", output="1")})


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[EmbeddedServer]:
    monkeypatch.setattr(patience, "PAUSES", (0.01, 0.02, 0.05))
    yield ensure_server(tmp_path / "home")
    stop_server(tmp_path / "home")


def fill_up(server: EmbeddedServer, left: int = 0) -> None:
    """The server's files can grow by no more than this: what a full disk does to it, without one."""
    log = max(path.stat().st_size for path in (server.home / "appendonlydir").iterdir())
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (log + left, log + left))


def paid(tool: Counted) -> dict[str, Any]:
    tool()
    return {"text": "x" * 2000, "model": "m", "usage": {"input_tokens": 1000, "output_tokens": 0}}


@pytest.mark.parametrize("left", [0, 1000], ids=["before the intent", "before the result"])
def test_a_disk_that_fills_up_loses_nothing_that_was_committed_and_carries_what_was_paid(
    server: EmbeddedServer, left: int
) -> None:
    tool = Counted()
    with pytest.raises(ac.StoreError) as ended, ac.run("r", store=server.url) as run:
        assert run.step("one", int) == 0
        fill_up(server, left)
        try:
            run.llm(THINK, paid, tool)
        except ac.StoreError as exc:
            assert isinstance(exc, ac.CommitUnknown | ac.StoreUnavailable)
            assert (exc.value is None) == (tool.calls == 0)
            assert exc.value is None or exc.value["text"].startswith("xxx")
            raise
    assert "run 'r'" in str(ended.value)
    before = tool.calls
    assert before == (left > 0)

    again = ensure_server(server.home)
    assert again.started, "with fsync always it does not go on without its disk"
    with ac.run("r", store=again.url) as run:
        assert run.step("one", _never) == 0
        assert run.llm(THINK, paid, tool)["model"] == "m"
    view = ac.get("r", store=again.url)
    assert tool.calls == before + 1
    assert [entry.bill for entry in view.ledger] == ["unresolved"] * before + ["paid"]


def _never() -> int:
    raise AssertionError("it is recorded")


def test_a_home_that_cannot_be_written_is_refused_before_anything_is_paid(tmp_path: Path) -> None:
    """A server whose very first file finds no room: the message has the server's own words."""
    code = f"""
import resource, signal, sys
from pathlib import Path
import agentcheckpoint as ac
from agentcheckpoint.store.embedded import ensure_server
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1, 1))
try:
    ensure_server(Path({str(tmp_path / "home")!r}))
except (ac.StoreUnavailable, ac.InvalidStore) as exc:
    sys.stdout.write(type(exc).__name__ + ": " + str(exc)[:300])
"""
    said = subprocess.check_output([sys.executable, "-W", "ignore", "-c", code], text=True, timeout=250)
    assert said.startswith(("StoreUnavailable: ", "InvalidStore: ")) and "home" in said


def test_a_trace_that_cannot_be_written_does_not_hide_the_first_error() -> None:
    """The diary of a step's own code is full: its error is the step's, recorded and raised as it is."""
    url, full = fresh(), OSError(28, "No space left on device")

    def log_and_fail() -> None:
        with open("/dev/full", "w") as diary:
            diary.write("x")

    with ac.run("r", store=url) as run:
        with pytest.raises(OSError) as caught:
            run.step("s", log_and_fail)
        assert caught.value.errno == full.errno
        assert run.step("next", int) == 0
    rows = {row.slot: row.outcome for row in ac.get("r", store=url).steps}
    assert rows == {"s": "failed", "next": "done"}
