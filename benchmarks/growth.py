"""``python -m benchmarks.growth [FIGURE...]``: how cost grows, measured and drawn into docs/pictures."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import textwrap
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import agentcheckpoint as ac

from .commits import make_async
from .core import Measure, median_time, median_time_async, whole_time
from .figures import Figure, drawn
from .page import PAGE, machine, own_versions, write_part
from .parallel import opened, side_by_side, together
from .prose import long
from .resumes import fill, read, resume
from .servers import server

MODES = {"synced": "always", "no file": "no"}
AT_LEAST = 200
"""Steps that are timed together: one alone on a loop that has just begun is slower than it need be."""
PICTURES = PAGE.parent / "pictures"
Measures: TypeAlias = dict[tuple[str, int], Measure]
"""By the names of the curve and of the point."""


@dataclass(frozen=True)
class Sweep:
    """How much is measured: in how many rounds, and up to which size."""

    rounds: int
    largest: int | None

    def sizes(self, *all_of_them: int) -> list[int]:
        """Those of them that are measured, two at least."""
        small = sum(self.largest is None or size <= self.largest for size in all_of_them)
        return list(all_of_them[: max(2, small)])


def main() -> None:
    """Measures, draws, and tells the page on which machine."""
    options = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__)
    options.add_argument("figures", nargs="*", metavar="FIGURE", help=f"{', '.join(FIGURES)}; all of them if not given")
    options.add_argument("--into", type=Path, help="a directory for the pictures; the page is left as it is")
    options.add_argument("--rounds", type=int, default=5, help="at least 5, to be trusted")
    options.add_argument("--largest", type=int, help="leaves out what is larger, but for the first two of each axis")
    given = options.parse_args()
    sweep, load = Sweep(given.rounds, given.largest), os.getloadavg()[0]
    for name in given.figures or FIGURES:
        figure = FIGURES[name](sweep)
        path = (given.into or PICTURES) / f"growth-{name}.svg"
        path.write_text(f"{drawn(figure)}\n", "utf-8")
        print(path.name, figure.curves, flush=True)
    if given.into is None:
        how = f"{sweep.rounds} rounds, all sizes by turns: medians, the least and the greatest."
        write_part("growth", textwrap.fill(f"{machine(own_versions(), load)} {how}", 120))


def steps(sweep: Sweep) -> Figure:
    """One more step of a run that has so many."""
    measures: Measures = {}
    sizes = sweep.sizes(100, 1_000, 2_000, 5_000, 10_000, 20_000)
    with contextlib.ExitStack() as stack:
        loop = stack.enter_context(asyncio.Runner())
        for mode, fsync in MODES.items():
            url = stack.enter_context(server(fsync))
            for size, run in zip(sizes, stack.enter_context(opened(loop, url, len(sizes))), strict=True):
                for begun in range(0, size, 500):
                    loop.run(together(run, min(500, size - begun)))
                measures[mode, size] = partial(_one_more, loop, run)
        curves = by_turns(measures, sweep.rounds)
    return Figure("A step by the steps before it", "steps recorded before", "µs", curves)


def _one_more(loop: asyncio.Runner, run: Any) -> float:
    return 1e6 * loop.run(median_time_async(lambda: run.step("s", make_async), 20))


def resumes(sweep: Sweep) -> Figure:
    """Coming back to a run of so many steps, and a bare read of the same bytes."""
    measures: Measures = {}
    with server("no") as url:
        for size in sweep.sizes(100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000):
            fill(url, f"r{size}", size)
            measures["resume", size] = partial(_milliseconds, resume(url, f"r{size}", size))
            measures["bare read", size] = partial(_milliseconds, read(url, f"r{size}"))
        curves = by_turns(measures, sweep.rounds)
    return Figure("A resume by its steps", "steps recorded", "ms", curves, decades=True)


def _milliseconds(measure: Measure) -> float:
    return 1e3 * measure()


def payloads(sweep: Sweep) -> Figure:
    """A step whose result has so many bytes."""
    measures: Measures = {}
    with contextlib.ExitStack() as stack:
        for mode, fsync in MODES.items():
            run = stack.enter_context(ac.run("bench", store=stack.enter_context(server(fsync))))
            for size in sweep.sizes(100, 1_000, 10_000, 100_000, 1_000_000):
                measures[mode, size] = partial(_returning, run, size)
        curves = by_turns(measures, sweep.rounds)
    return Figure("A step by the size of its result", "bytes of the result", "µs", curves, decades=True)


def _returning(run: Any, size: int) -> float:
    text = long(size)

    def make() -> str:
        return text

    return 1e6 * median_time(lambda: run.step("s", make), min(40, max(5, 1_000_000 // size)))


def widths(sweep: Sweep) -> Figure:
    """So many steps of one run at once."""
    measures: Measures = {}
    with contextlib.ExitStack() as stack:
        loop = stack.enter_context(asyncio.Runner())
        for mode, fsync in MODES.items():
            (run,) = stack.enter_context(opened(loop, stack.enter_context(server(fsync)), 1))
            for width in sweep.sizes(1, 2, 5, 10, 20, 50, 100, 200, 500):
                measures[mode, width] = partial(_at_once, loop, run, width)
        curves = by_turns(measures, sweep.rounds)
    return Figure("Steps per second by their number at once", "steps at once", "steps per second", curves)


def _at_once(loop: asyncio.Runner, run: Any, width: int) -> float:
    times = max(1, AT_LEAST // width)

    async def by_and_by() -> None:
        for _ in range(times):
            await together(run, width)

    return times * width / whole_time(lambda: loop.run(by_and_by()))


def runs(sweep: Sweep) -> Figure:
    """So many runs at once in one process, each with a step after the other."""
    measures: Measures = {}
    sizes = sweep.sizes(1, 2, 5, 10, 20, 50, 100, 200)
    with contextlib.ExitStack() as stack:
        loop = stack.enter_context(asyncio.Runner())
        for mode, fsync in MODES.items():
            all_of_them = stack.enter_context(opened(loop, stack.enter_context(server(fsync)), sizes[-1]))
            for size in sizes:
                measures[mode, size] = partial(_beside, loop, all_of_them[:size])
        curves = by_turns(measures, sweep.rounds)
    return Figure("Steps per second by the runs at once", "runs at once", "steps per second", curves)


def _beside(loop: asyncio.Runner, some: list[Any]) -> float:
    each = max(10, AT_LEAST // len(some))
    return each * len(some) / whole_time(lambda: loop.run(side_by_side(some, each)))


def by_turns(measures: Measures, rounds: int) -> dict[str, dict[int, list[float]]]:
    """What each measured, after one time that does not count; every other round goes backwards."""
    curves: dict[str, dict[int, list[float]]] = {name: {} for name, _ in measures}
    order = list(measures)
    for n in range(rounds + 1):
        for name, size in order if n % 2 else order[::-1]:
            value = measures[name, size]()
            if n:
                curves[name].setdefault(size, []).append(value)
    return curves


FIGURES = {figure.__name__: figure for figure in (steps, resumes, payloads, widths, runs)}

if __name__ == "__main__":
    main()
