"""Agents that wait, each in a process of its own; killed at a point, if one is named.

    python tests/waiting_agent.py URL

reads a life a line from its standard input, as JSON: run id, provider's URL, kind and point. The agent makes one paid
model call, and then waits as ``kind`` says: ``sleep SECONDS HOLD`` or ``ask HOLD``. At ``point``, the kind of a log
entry, it dies by SIGKILL right after that was committed. It prints ``holds`` and its process id when its wait is
begun, and at its end ``suspended``, ``interrupted`` or its result; its parent then prints ``ended`` and its status.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import warnings
from typing import Any

from openai import OpenAI

import agentcheckpoint as ac
from agentcheckpoint import runs  # noqa: F401 (here, so that the children need not)
from agentcheckpoint.attempt import after_commit
from agentcheckpoint.core.models import Waiting

PRICES = {"demo-large": ac.Price(input="2.5", output="10", cached="0.25")}


def watch(point: str) -> None:
    """Says when the wait is begun, and dies at the point."""

    def told(_: object, change: Any) -> None:
        if change.entry.k == point:
            os.kill(os.getpid(), signal.SIGKILL)
        if isinstance(change.entry, Waiting):
            print("holds", os.getpid(), flush=True)

    after_commit.append(told)


def work(url: str, run_id: str, provider: str, kind: str) -> Any:
    bare = OpenAI(base_url=provider, api_key="k")
    with ac.wrap(bare, prices=PRICES) as client, ac.run(run_id, store=url) as run:
        answer: Any = client.chat.completions.create(model="demo-large", messages=[{"role": "user", "content": "hi"}])
        what, *numbers = kind.split()
        if what == "sleep":
            run.sleep(float(numbers[0]), hold=float(numbers[1]))
            return answer.id
        return [answer.id, run.wait_for("sure", bool, prompt="Sure?", hold=float(numbers[0]))]


def live(url: str, run_id: str, provider: str, kind: str, point: str) -> None:
    watch(point)
    try:
        print("done", work(url, run_id, provider, kind), flush=True)
    except ac.Suspended as exc:
        print("suspended", exc.until_ms, flush=True)
    except ac.Interrupted:
        print("interrupted", flush=True)


def main(url: str) -> None:
    warnings.simplefilter("ignore")
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            try:
                live(url, *json.loads(line))
            finally:
                os._exit(1 if sys.exc_info()[0] is not None else 0)
        print("ended", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
