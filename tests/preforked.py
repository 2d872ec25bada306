"""Processes that are made from one that has a store or a run: each says what it could do.

    python tests/preforked.py URL SHAPE

``SHAPE`` is ``inside a step``, ``prefork``, ``fork`` or ``spawn`` (of multiprocessing). One line of JSON is printed.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import warnings
from collections.abc import Callable
from typing import Any

import agentcheckpoint as ac
from agentcheckpoint import current
from agentcheckpoint.store.effects import Packet, Protocol

STEPS = 15


def connection(url: str) -> int:
    """The number that the server gives to the connection in use here."""

    def protocol() -> Protocol[int]:
        (number,) = yield Packet((("CLIENT", "ID"),))
        return int(number)

    return ac.connect(url).run(protocol())


def name_of_error(call: Callable[[], Any]) -> str:
    try:
        return repr(call())
    except ac.AgentCheckpointError as exc:
        return type(exc).__name__


def job(url: str, name: str) -> dict[str, Any]:
    """A run of this process's own."""
    with ac.run(name, store=url) as run:
        total = sum(run.step(ac.Step("count", key=str(n)), int, n) for n in range(STEPS))
    return {"pid": os.getpid(), "total": total, "connection": connection(url)}


def enter(url: str, name: str) -> str:
    with ac.run(name, store=url):
        return "opened"


def in_child(live: Callable[[], Any]) -> Callable[[], Any]:
    """Forks; returns what waits for the child's answer."""
    hears, tells = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(hears)
        os.write(tells, json.dumps(live()).encode())
        os._exit(0)
    os.close(tells)

    def answer() -> Any:
        with os.fdopen(hears) as pipe:
            said = pipe.read()
        os.waitpid(child, 0)
        return json.loads(said)

    return answer


def inside_a_step(url: str) -> Any:
    with ac.run("parent", store=url) as run:

        def child_life() -> Any:
            return {
                "its parent's step": name_of_error(lambda: run.step("stolen", int)),
                "its parent's run": name_of_error(lambda: enter(url, "parent")),
                "in a run": current.position() is not None,
                **job(url, "child"),
            }

        def forking() -> Any:
            answer = in_child(child_life)
            mine = run.step("beside the child", int)
            return [mine, answer()]

        child = run.step("forking", forking)[1]
        run.step("after", int)
        return {"child": child, "connection": connection(url), "pid": os.getpid()}


def prefork(url: str) -> Any:
    """A template opens the store; its children serve jobs while it works itself. One job comes to all of them."""
    before = connection(url)
    children = [
        in_child(lambda n=n: [job(url, f"job-{n}"), name_of_error(lambda: job(url, "shared"))])  # type: ignore[misc]
        for n in range(4)
    ]
    mine = job(url, "template")
    answers = [answer() for answer in children]
    return {"jobs": [mine, *(own for own, _ in answers)], "shared": [said for _, said in answers], "before": before}


def pooled(url: str, method: str) -> Any:
    """Jobs in a pool of multiprocessing that is made inside a run."""
    with ac.run("pool", store=url) as run:
        run.step("before", int)
        with multiprocessing.get_context(method).Pool(2) as pool:
            jobs = pool.starmap(job, [(url, f"{method}-{n}") for n in range(4)])
        run.step("after", int)
    return {"jobs": jobs, "pid": os.getpid()}


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    where, shape = sys.argv[1:]
    shapes = {"inside a step": inside_a_step, "prefork": prefork}
    print(json.dumps(shapes[shape](where) if shape in shapes else pooled(where, shape)), flush=True)
