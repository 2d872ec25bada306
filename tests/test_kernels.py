"""A real kernel, as a notebook has it: cells in a running loop, interrupted, re-run, and a kernel that is killed."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from kernels import Kernel
from memory_runs import leased
from servers import embedded_url

import agentcheckpoint as ac

pytestmark = pytest.mark.filterwarnings("ignore::agentcheckpoint.errors.DurabilityWarning")
__all__ = ["embedded_url"]

SETUP = """
import asyncio, json, os, time, warnings
warnings.simplefilter("ignore")
import agentcheckpoint as ac
URL, DIARY, LEASE = {url!r}, {diary!r}, 900  # no kernel takes that long to start, on the slowest machine

def note(what):
    with open(DIARY, "a") as diary:
        diary.write(what + "\\n")
        diary.flush()
        os.fsync(diary.fileno())
    return what

def first_time(what):
    told = what in open(DIARY).read().split("\\n")
    note(what)
    return not told

def slow(name):
    if first_time("inside " + name):
        time.sleep(600)
    return name

async def slow_async(name):
    if first_time("inside " + name):
        await asyncio.sleep(600)
    return name
"""
CELL = """
with ac.run("{run}", store=URL, lease=LEASE) as run:
    print(json.dumps([run.step("paid", note, "paid {run}"), run.step("slow", slow, "{run}"), run.attempt]))
"""
ASYNC_CELL = """
async with ac.run("{run}", store=URL, lease=LEASE) as run:
    print(json.dumps([await run.step("paid", note, "paid {run}"), await run.step("slow", slow_async, "{run}"),
                      run.attempt]))
"""


@pytest.fixture(scope="module")
def kernel(embedded_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    diary = tmp_path_factory.mktemp("kernel") / "diary"
    running = Kernel(diary, SETUP.format(url=embedded_url, diary=str(diary)))
    yield running
    running.close()


@pytest.mark.parametrize("cell", [CELL, ASYNC_CELL], ids=["sync", "async"])
def test_a_cell_whose_kernel_was_killed_resumes_at_once_when_it_is_run_again(
    kernel: Kernel, embedded_url: str, cell: str, request: pytest.FixtureRequest
) -> None:
    run_id = f"killed-{request.node.callspec.id}"
    kernel.begin(cell.format(run=run_id))
    kernel.wait_for(f"inside {run_id}")
    kernel.restart()
    assert leased(embedded_url, run_id), "the lease is that of the killed kernel, and has not run out"
    status, said = kernel.run(cell.format(run=run_id))
    assert status == "ok"
    assert json.loads(said) == [f"paid {run_id}", run_id, 2]
    assert kernel.noted().count(f"paid {run_id}") == 1
    assert ac.get(run_id, store=embedded_url).state == "completed"
    assert not leased(embedded_url, run_id)


def test_a_cell_that_is_interrupted_gives_its_lease_back_and_can_be_run_again(
    kernel: Kernel, embedded_url: str
) -> None:
    """A blocking one: what waits in ``await`` no interrupt reaches in ipykernel 7.4, with or without this library."""
    message = kernel.begin(CELL.format(run="stopped"))
    kernel.wait_for("inside stopped")
    kernel.interrupt()
    assert kernel.end(message)[0] == "KeyboardInterrupt"
    view = ac.get("stopped", store=embedded_url)
    assert view.state == "interrupted"
    assert [row.outcome for row in view.steps] == ["done"], "an interrupt is no failure of a step"
    assert not leased(embedded_url, "stopped")
    status, said = kernel.run(CELL.format(run="stopped"))
    assert (status, json.loads(said)) == ("ok", ["paid stopped", "stopped", 2])
    assert kernel.noted().count("paid stopped") == 1


def test_blocking_and_async_runs_work_in_the_running_loop_of_a_kernel(kernel: Kernel, embedded_url: str) -> None:
    code = """
asyncio.get_running_loop()
with ac.run("blocking", store=URL) as run:
    a = run.step("s", int, "1")
async with ac.run("unblocking", store=URL) as run:
    b = await asyncio.gather(*(run.step("s", int, str(n)) for n in range(3)))
    with ac.run("inner", store=URL) as inner:
        c = inner.step("s", int, "4")
print(json.dumps([a, b, c]))
"""
    for _ in range(2):
        assert kernel.run(code) == ("ok", "[1, [0, 1, 2], 4]\n")
    for run_id, steps in (("blocking", 1), ("unblocking", 3), ("inner", 1)):
        view = ac.get(run_id, store=embedded_url)
        assert (view.state, view.attempt, len(view.steps)) == ("completed", 2, steps)


def test_a_run_that_is_left_open_by_one_cell_goes_on_in_the_next(kernel: Kernel, embedded_url: str) -> None:
    assert kernel.run("opener = ac.run('cells', store=URL); run = opener.__enter__(); run.step('one', int)")[0] == "ok"
    status, said = kernel.run("print(run.step('two', int)); opener.__exit__(None, None, None)")
    assert (status, said) == ("ok", "0\n")
    assert [row.slot for row in ac.get("cells", store=embedded_url).steps] == ["one", "two"]


def test_a_cell_of_agentrun_awaits_in_the_kernels_loop_is_killed_and_goes_on(kernel: Kernel, embedded_url: str) -> None:
    cell = """%%agentrun magic
paid, name = await asyncio.gather(run.step("paid", note, "paid magic"), run.step("slow", slow_async, "magic"))
print(paid, name, asyncio.get_running_loop().is_running())
"""
    load = "import os\nos.environ['AGENTCHECKPOINT_URL'] = URL\n%load_ext agentcheckpoint"
    assert kernel.run(load)[0] == "ok"
    kernel.begin(cell)
    kernel.wait_for("inside magic")
    kernel.wait_for("paid magic")
    kernel.restart()
    assert kernel.run(load)[0] == "ok"
    for attempt in (2, 3):
        assert kernel.run(cell) == ("ok", "paid magic magic True\n")
        assert ac.get("magic", store=embedded_url).attempt == attempt
    assert kernel.run("print(name, run.id)") == ("ok", "magic magic\n"), "its variables are there in the next cell"
    assert kernel.run("%%agentrun broken\nawait asyncio.sleep(0)\n1 / 0")[0] == "ZeroDivisionError", "it stops Run all"
    assert ac.get("broken", store=embedded_url).state == "retryable"
