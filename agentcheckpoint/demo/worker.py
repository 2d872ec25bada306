"""One life of the demo's agent, in a process that is killed at any moment. It tells on stdout what it does, as JSON."""

from __future__ import annotations

import json
import os
import sys
import warnings
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from decimal import Decimal
from io import TextIOBase
from pathlib import Path
from typing import Any

from agentcheckpoint.testing.payments import PRICES

MODEL = "demo-large"


@dataclass(frozen=True, slots=True)
class Job:
    """What a worker is to do.

    Attributes:
        run_id: the run to begin or to go on with.
        store: a URL; ``None`` for the default.
        base_url: the loopback provider's; ``None``: the real one, as the environment has it.
        folder: with the documents.
        question: about them.
        kill_after: kill yourself after so many commits; ``None``: do not.
        model: which to ask of the real provider; ``None``: as the environment has it.
    """

    run_id: str
    store: str | None
    base_url: str | None
    folder: str
    question: str
    kill_after: int | None = None
    model: str | None = None

    def command(self) -> list[str]:
        """The command that runs it."""
        return [sys.executable, "-P", "-m", __name__, json.dumps(asdict(self))]

    def environment(self) -> dict[str, str]:
        """The environment that it needs: no proxy stands before a loopback address."""
        if self.base_url is None:
            return {**os.environ, "AGENTCHECKPOINT": "on"} | ({"OPENAI_MODEL": self.model} if self.model else {})
        own = {"OPENAI_MODEL": MODEL, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1", "AGENTCHECKPOINT": "on"}
        return {**os.environ, **own}


class _Voice(TextIOBase):
    """Stands in for stdout while the agent works: what it prints is told as an event."""

    def write(self, text: str, /) -> int:
        _tell("text", text=text)
        return len(text)


def _tell(event: str, **facts: Any) -> None:
    sys.__stdout__.write(json.dumps({"event": event, **facts}) + "\n")  # type: ignore[union-attr]
    sys.__stdout__.flush()  # type: ignore[union-attr]


def work(job: Job) -> None:
    """Do the job. Events: ``open``, a ``commit`` for each that was applied, ``text``, and ``end``."""
    import agentcheckpoint as ac
    from agentcheckpoint import attempt
    from agentcheckpoint.demo.agent import research, tools_for
    from agentcheckpoint.store.commit import Change
    from agentcheckpoint.testing.crashing import kill_after_commits

    def tell_commit(live: attempt.Attempt, change: Change) -> None:
        kind, slot = getattr(change.entry, "k", ""), getattr(change.entry, "slot", "")
        cost = live.cost()
        _tell("commit", kind=kind, slot=slot, replayed=cost.replayed, saved=cost.saved, spent=cost.spent)

    attempt.after_commit.append(tell_commit)
    if job.kill_after is not None:
        kill_after_commits(job.kill_after)
    warnings.simplefilter("ignore", ac.DurabilityWarning)  # the demo itself has said it
    client = _client(job.base_url)
    with ac.run(job.run_id, store=job.store) as run:
        _tell("open")
        with redirect_stdout(_Voice()):
            answer = research(run, client, tools_for(Path(job.folder)), job.question)
    _tell("end", answer=answer, replayed=run.cost.replayed, saved=run.cost.saved, spent=run.cost.spent)


def _client(base_url: str | None) -> Any:
    """The real provider's client is as anybody would write it."""
    from openai import OpenAI

    from agentcheckpoint.openai.client import wrap

    if base_url is None:
        return wrap(OpenAI())
    return wrap(OpenAI(base_url=base_url, api_key="demo"), prices={MODEL: _price()})


def _price() -> Any:
    """The provider's price of the model, which it has in nano-dollars per token, in dollars per million."""
    from agentcheckpoint.core.pricing import Price

    own = PRICES[MODEL]
    dollars = [Decimal(nano) / 1000 for nano in (own.input, own.output, own.cached)]
    return Price(input=dollars[0], output=dollars[1], cached=dollars[2])


if __name__ == "__main__":
    work(Job(**json.loads(sys.argv[1])))
