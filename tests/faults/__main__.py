"""``python -m tests.faults``: play faults against the library, and show that each broken variant of it is caught."""

from __future__ import annotations

import json
import time
import warnings
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.live import Live

from .engines import ENGINES, Engine
from .tally import Tally

REDRAW = 0.5
"""Seconds between two lines of progress."""
NEVER = "never came to it"
"""Scenarios whose fault was never met, where chance decides whether it is. They prove nothing, and do not count."""


def _play(engine: Engine, full: bool, seed: int, err: Console) -> Tally:
    """One engine's search, with its progress."""
    began = last = time.monotonic()
    with Live(console=err, auto_refresh=False, transient=True) as live:  # a thread would be in the way of forks

        def tell(tally: Tally) -> None:
            nonlocal last
            if time.monotonic() - last > REDRAW:
                last = time.monotonic()
                live.update(_line(engine.name, tally, last - began), refresh=True)

        tally = engine.search(full, seed, tell)
    tally.notes[NEVER] = tally.scenarios - tally.fired
    tally.scenarios = tally.fired
    err.print(_line(engine.name, tally, time.monotonic() - began))
    return tally


def _line(name: str, tally: Tally, seconds: float) -> str:
    fired = "all fired" if tally.fired == tally.scenarios else f"{tally.fired} fired"
    return (
        f"{name}: {tally.scenarios:,} scenarios, {fired}, {tally.deaths:,} deaths, "
        f"{len(tally.violations)} violations, {seconds:.0f} s"
    )


def _controls(engine: Engine, err: Console) -> dict[str, str | None]:
    """By what each broken variant of the engine is caught."""
    found: dict[str, str | None] = {}
    if engine.variants:
        for variant, seed in engine.caught(engine.variants):
            found[variant.name] = seed
            err.print(f"{engine.name}, {variant.name} ({variant.rule}): {seed or 'NOT CAUGHT'}", highlight=False)
    return found


def main(
    full: Annotated[
        bool, typer.Option("--full/--quick", help="Over 20,000 scenarios, or some that take minutes.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Which scenarios are drawn.")] = 0,
    only: Annotated[list[str] | None, typer.Option(help="Only these engines.")] = None,
    controls: Annotated[bool, typer.Option(help="Break the library on purpose, too.")] = True,
    replay: Annotated[
        str | None, typer.Option(help="Play one scenario again, by its seed; of the grid, or --only.")
    ] = None,
    output: Annotated[str, typer.Option("-o", help="text or json.")] = "text",
) -> None:
    """Kill workers and servers, cut lines, stop clocks, and settle the accounts with what was really paid."""
    warnings.simplefilter("ignore")
    err, began = Console(stderr=True, soft_wrap=True), time.monotonic()
    chosen = [engine for engine in ENGINES if only is None or engine.name in only]
    if not chosen:
        raise typer.BadParameter(f"--only is one of {', '.join(engine.name for engine in ENGINES)}")
    tallies: dict[str, Tally]
    caught: dict[str, dict[str, str | None]]
    if replay is not None:
        tallies, caught = {chosen[0].name: _replayed(chosen[0], replay)}, {}
    else:
        tallies, caught = {}, {}
        for engine in chosen:  # the grid's come first: its workers are forked from a process without threads
            tallies[engine.name] = _play(engine, full, seed, err)
            caught[engine.name] = _controls(engine, err) if controls else {}
    result = _result(tallies, caught, time.monotonic() - began)
    if output == "json":
        print(json.dumps(result))
    else:
        for violation in result["violated"]:
            print(violation)
        print(", ".join(f"{name} {value}" for name, value in result.items() if isinstance(value, int)))
    missed = result["controls"] - result["controls_caught"]
    raise typer.Exit(1 if result["violations"] or missed or result["fired"] < result["scenarios"] else 0)


def _replayed(engine: Engine, seed: str) -> Tally:
    try:
        return engine.replay(seed)
    except ValueError as exc:
        raise typer.BadParameter(str(exc)) from None


def _result(tallies: dict[str, Tally], caught: dict[str, dict[str, str | None]], seconds: float) -> dict[str, Any]:
    total = Tally()
    for tally in tallies.values():
        total.add(tally)
    seeds = [seed for found in caught.values() for seed in found.values()]
    return {
        "scenarios": total.scenarios,
        "fired": total.fired,
        "never_met": total.notes.get(NEVER, 0),
        "deaths": total.deaths,
        "violations": len(total.violations),
        "controls": len(seeds),
        "controls_caught": sum(seed is not None for seed in seeds),
        "seconds": round(seconds),
        "violated": [str(violation) for violation in total.violations],
        "skipped": total.skipped,
        "engines": {
            name: {**asdict(tally), "violations": len(tally.violations), "controls": caught.get(name, {})}
            for name, tally in tallies.items()
        },
    }


if __name__ == "__main__":
    typer.run(main)
