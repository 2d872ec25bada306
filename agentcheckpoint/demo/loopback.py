"""The demo's provider in a process of its own, with a journal on disk: no kill of a worker touches it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from agentcheckpoint.demo import DemoFailed
from agentcheckpoint.demo.brain import research_brain
from agentcheckpoint.testing.provider import Provider


@contextmanager
def loopback(journal: Path, latency: float) -> Generator[str]:
    """Run a provider while the block runs.

    Args:
        journal: the file for its payments.
        latency: seconds that it takes to answer.

    Yields:
        Its base URL.

    Raises:
        DemoFailed: it did not start.
    """
    command = [sys.executable, "-P", "-m", __name__, str(journal), str(latency)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        if not url:
            raise DemoFailed(f"the demo's provider did not start: it ended with code {process.wait()}")
        yield url


def main() -> None:
    """Serve until the other end of stdin is closed: when the demo is done, or dies."""
    with Provider(research_brain(float(sys.argv[2])), journal=Path(sys.argv[1])) as provider:
        print(provider.url, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
