"""Kills a worker by SIGKILL at each point of a step's life, starts another, and settles with the provider's journal.

    python tests/failure_points.py DIRECTORY

prints one JSON object per point: what the first life was killed at, and what both lives together did and paid.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import genai_prices.data  # noqa: F401 (here, so that the children need not)
import openai.resources.responses  # noqa: F401
from stage import client_for

import agentcheckpoint as ac
from agentcheckpoint.store import wire
from agentcheckpoint.store.embedded import ensure_server, stop_server
from agentcheckpoint.testing.accounts import settle
from agentcheckpoint.testing.payments import Price, read_payments
from agentcheckpoint.testing.provider import Provider

_RPUSHED = re.compile(r'"k":"(\w+)".*?"slot":"([^"]+)"')

# (what dies there, in words; where: a packet, a request, or an event of the stream; before or after it)
POINTS: tuple[tuple[str, str, str, str], ...] = (
    ("step", "before its function is called", "tool", "before"),
    ("step", "after its function returned, before the commit is sent", "done read", "before"),
    ("step", "after the commit was applied, before its reply is read", "done read", "after"),
    ("model call", "before its intent is sent", "intent ask", "before"),
    ("model call", "after its intent was applied, before the request leaves", "request 1", "before"),
    ("model call", "after the provider was paid, before the answer is read", "request 1", "after"),
    ("model call", "after the answer was read, before the commit is sent", "done ask", "before"),
    ("model call", "after the commit was applied, before the caller has the answer", "done ask", "after"),
    ("stream", "after the provider was paid, before its first event is read", "request 2", "after"),
    ("stream", "in the middle of its events", "event", "after"),
    ("stream", "after its last event came, before the commit is sent", "done stream", "before"),
    ("stream", "after the commit was applied, before the caller has the last event", "done stream", "after"),
    ("call with `recover=True`", "after the provider was paid, before the answer is read", "request 1", "after"),
    ("call with `recover=True`", "while the answer is being made", "located ask", "after"),
    ("call with `recover=True`", "after the answer was read, before the commit is sent", "done ask", "before"),
    ("background call", "after the provider was paid, before the answer is read", "request 1", "after"),
    ("background call", "after its id was committed, before the answer is fetched", "done ask", "after"),
    ("background call", "after the answer was fetched, before its cost is committed", "settled ask", "before"),
    ("run", "after its last step, before its end is stored", "end", "before"),
)

PRICE = Price(input=250, cached=25, output=2000)
"""What gpt-5-mini is listed at."""


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def live(run_id: str, url: str, provider: str, tally: Path, what: str, point: tuple[str, str] | None) -> None:
    """One life of the worker: a plain step, a model call (as ``what`` says), a streamed one."""
    requests = 0

    def reach(place: str, when: str) -> None:
        if (place, when) == point:
            die()

    def before(_: Any) -> None:
        nonlocal requests
        requests += 1
        reach(f"request {requests}", "before")

    def read() -> str:
        reach("tool", "before")
        with tally.open("a") as lines:
            lines.write("read\n")
        return "a document"

    watch_packets(reach)
    bare = client_for(provider, before, lambda _: reach(f"request {requests}", "after"))
    client = ac.wrap(bare, recover=True if "recover" in what else None)
    background = what.startswith("background")
    with ac.run(run_id, store=url) as run:
        document = run.step("read", read)
        with ac.name("ask"):
            said = client.responses.create(model="gpt-5-mini", input=f"Sum up {document}", background=background)
        while said.status in ("queued", "in_progress"):
            said = client.responses.retrieve(said.id)
        with ac.name("stream"):
            for _ in client.responses.create(model="gpt-5-mini", input=f"Translate {said.output_text}", stream=True):
                reach("event", "after")
        reach("end", "before")


def watch_packets(reach: Callable[[str, str], None]) -> None:
    exchange = wire.Wire.exchange

    def watched(self: wire.Wire, commands: Any) -> Any:
        lines = [str(command[2]) for command in commands if command[0] == "RPUSH"]
        places = [f"{found[1]} {found[2]}" for line in lines if (found := _RPUSHED.search(line))]
        for place in places:
            reach(place, "before")
        replies = exchange(self, commands)
        for place in places:
            reach(place, "after")
        return replies

    wire.Wire.exchange = watched  # type: ignore[method-assign]


def fork(work: Callable[[], None]) -> int:
    """Runs it in a child that has inherited all imports; returns the child's pid."""
    child = os.fork()
    if child:
        return child
    try:
        work()
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        os._exit(1)
    os._exit(0)


def ended(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def serve(journal: Path, address: Path) -> None:
    with Provider(journal=journal, prices={"gpt-5-mini": PRICE}) as provider:
        address.with_suffix(".new").write_text(provider.url)
        address.with_suffix(".new").rename(address)
        while True:
            time.sleep(3600)


def two_lives(url: str, room: Path, number: int) -> dict[str, object]:
    """One that is killed at the point, and one that goes on."""
    what, at, place, when = POINTS[number]
    journal, address, tally = (room / f"{name}-{number}" for name in ("journal", "address", "tally"))
    tally.touch()
    provider = fork(lambda: serve(journal, address))
    try:
        while not address.exists():
            time.sleep(0.005)
        run_id, paid_to = f"run-{number}", address.read_text()
        first = ended(fork(lambda: live(run_id, url, paid_to, tally, what, (place, when))))
        paid_before = len(read_payments(journal))
        second = ended(fork(lambda: live(run_id, url, paid_to, tally, what, None)))
    finally:
        os.kill(provider, signal.SIGKILL)
        ended(provider)
    view = ac.get(run_id, store=url)
    accounts = settle(read_payments(journal), view.ledger)
    return {
        "what": what,
        "at": at,
        "died": first == -signal.SIGKILL,
        "resumed": second == 0,
        "function_calls": len(tally.read_text().splitlines()),
        "paid_before": paid_before,
        "provider_calls": accounts.provider_calls,
        "paid_twice": accounts.paid_twice,
        "repaid_in_window": accounts.repaid_in_window,
        "problems": accounts.problems,
        "replayed": view.cost.replayed,
        "unresolved": view.cost.unresolved,
    }


def play(directory: Path) -> list[dict[str, object]]:
    """What came of each point, two at a time. Each in a child, so that nothing has threads when it forks."""

    def write(number: int) -> None:
        (directory / f"found-{number}").write_text(json.dumps(two_lives(server.url, directory, number)))

    server = ensure_server(directory / "home")
    try:
        for numbers in batched(range(len(POINTS)), 2):
            children = [fork(lambda number=number: write(number)) for number in numbers]  # type: ignore[misc]
            if any([ended(child) for child in children]):
                sys.exit(f"one of the points {numbers} failed")
    finally:
        stop_server(directory / "home")
    return [json.loads((directory / f"found-{number}").read_text()) for number in range(len(POINTS))]


def batched(numbers: range, size: int) -> list[range]:
    return [numbers[start : start + size] for start in range(0, len(numbers), size)]


if __name__ == "__main__":
    for found in play(Path(sys.argv[1])):
        print(json.dumps(found))
