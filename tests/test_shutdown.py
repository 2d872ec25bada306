"""Programs that end in odd ways with a run open: each ends by itself, and keeps what was committed."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass

import pytest
from servers import embedded_url

import agentcheckpoint as ac

pytestmark = [
    pytest.mark.filterwarnings("ignore::agentcheckpoint.errors.DurabilityWarning"),
    pytest.mark.filterwarnings("ignore::agentcheckpoint.errors.UnmetStepsWarning"),
]
__all__ = ["embedded_url"]

BEGIN = """
import asyncio, atexit, logging, os, sys, threading, time, warnings
from concurrent.futures import ThreadPoolExecutor
warnings.simplefilter("ignore")
import agentcheckpoint as ac
URL, RUN = sys.argv[1:]
"""


@dataclass(frozen=True)
class Ending:
    """A program that ends so.

    Attributes:
        code: after ``BEGIN``.
        state: the run's, once it has ended.
        steps: which are recorded.
        status: the program's exit status.
        says: what stands on its standard error; ``None``: nothing.
    """

    code: str
    state: str
    steps: tuple[str, ...] = ("one",)
    status: int = 0
    says: str | None = None


ENDINGS = {
    "an exit stack that is never closed": Ending(
        "run = ac.run(RUN, store=URL).__enter__(); run.step('one', int)", "running"
    ),
    "a generator that is never closed": Ending(
        """
def work():
    with ac.run(RUN, store=URL) as run:
        yield run.step('one', int)
left = work()
next(left)
sys.left = left  # so that nothing closes it before the interpreter does
""",
        "interrupted running",
    ),
    "sys.exit in a step": Ending(
        """
with ac.run(RUN, store=URL) as run:
    run.step('one', int)
    run.step('two', sys.exit, 3)
""",
        "interrupted",
        status=3,
    ),
    "os._exit in a step": Ending(
        """
with ac.run(RUN, store=URL) as run:
    run.step('one', int)
    run.step('two', os._exit, 4)
""",
        "running",
        status=4,
    ),
    "a step that is called by atexit": Ending(
        """
run = ac.run(RUN, store=URL).__enter__()
run.step('one', int)
def last():
    run.step('last', int)
    ac.run(RUN + '-late', store=URL).__enter__().step('late', int)
atexit.register(last)
""",
        "running",
        ("one", "last"),
    ),
    "a daemon thread in a step": Ending(
        """
with ac.run(RUN, store=URL) as run:
    run.step('one', int)
    inside = threading.Event()
    threading.Thread(target=run.step, args=('slow', lambda: (inside.set(), time.sleep(600))), daemon=True).start()
    inside.wait()
""",
        "completed",
    ),
    "a daemon thread that goes on stepping": Ending(
        """
run = ac.run(RUN, store=URL).__enter__()
run.step('one', int)
first = threading.Event()
def on():
    n = 0
    while True:
        run.step(ac.Step('more', key=str(n)), int); n += 1
        first.set()
threading.Thread(target=on, daemon=True).start()
first.wait()
time.sleep(0.1)
""",
        "running",
        ("one", "more[0]"),
    ),
    "a pool of threads that is still at work": Ending(
        """
run = ac.run(RUN, store=URL).__enter__()
pool = ThreadPoolExecutor(4)
for n in range(8):
    pool.submit(run.step, ac.Step('pooled', key=str(n)), lambda n: (time.sleep(0.02), n)[1], n)
""",
        "running",
        tuple(f"pooled[{n}]" for n in range(8)),
    ),
    "an error, and a log that raises": Ending(
        """
class Broken(logging.Handler):
    def emit(self, record):
        raise OSError(28, 'No space left on device')
logging.basicConfig(handlers=[Broken()], level=1)
logging.raiseExceptions = True
with ac.run(RUN, store=URL) as run:
    run.step('one', int)
    raise ValueError('the first error')
""",
        "retryable",
        status=1,
        says="ValueError: the first error",
    ),
    "an error, and a standard error that is full": Ending(
        """
with ac.run(RUN, store=URL) as run:
    run.step('one', int)
    sys.stderr = open('/dev/full', 'w')
    warnings.simplefilter('always')
    raise ValueError('the first error')
""",
        "retryable",
        status=120,  # Python's own, for a standard error that it could not flush
    ),
    "an async run whose loop is never closed": Ending(
        """
async def main():
    run = await ac.run(RUN, store=URL).__aenter__()
    await run.step('one', int)
loop = asyncio.new_event_loop()
loop.run_until_complete(main())
""",
        "running",
    ),
    "an async step that is cancelled by the loop's end": Ending(
        """
async def work():
    async with ac.run(RUN, store=URL) as run:
        await run.step('one', int)
        inside.set()
        await run.step('slow', asyncio.sleep, 600)
async def main():
    global inside
    inside = asyncio.Event()
    sys.task = asyncio.ensure_future(work())
    await inside.wait()
    await asyncio.sleep(0.01)
asyncio.run(main())
""",
        "interrupted",
    ),
}


@pytest.mark.parametrize("name", ENDINGS)
def test_a_program_that_ends_so_ends_by_itself_and_keeps_what_was_committed(embedded_url: str, name: str) -> None:
    ending, run_id = ENDINGS[name], name.replace(" ", "-").replace(",", "")
    command = [sys.executable, "-c", BEGIN + ending.code, embedded_url, run_id]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=250)
    assert ended.returncode == ending.status, ended.stderr
    if ending.says is not None:
        assert ended.stderr.strip().splitlines()[-1] == ending.says
    view = ac.get(run_id, store=embedded_url)
    assert view.state in ending.state.split()
    recorded = [row.slot for row in view.steps if row.outcome == "done"]
    assert set(ending.steps) <= set(recorded)
    assert "slow" not in recorded
    with ac.run(run_id, store=embedded_url) as run:  # at once: whoever had it is dead
        assert run.attempt == 2
        assert all(run.step(_step(slot), _never) is not None for slot in ending.steps if "[" not in slot)


def _step(slot: str) -> ac.Step:
    return ac.Step(slot, on_mismatch="reuse")


def _never() -> int:
    raise AssertionError("it is recorded")
