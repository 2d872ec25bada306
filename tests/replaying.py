"""One attempt of a run over a journal alone: calls are made by hand, and what is paid for is written down."""

from __future__ import annotations

from collections.abc import Iterable

from agentcheckpoint.core.journal import Call, Journal, Scope
from agentcheckpoint.core.models import Done, Failed, Failure, Inputs, LogEntry, Payload


def inputs(text: str) -> Inputs:
    return Inputs(digest=text)


def done(slot: str, text: str = "", *, overlap: bool = False, version: str = "") -> Done:
    return Done(
        id=f"{slot}={text}{version}", at=0, slot=slot, inputs=inputs(text), payload=Payload(size=1), overlap=overlap
    )


class Attempt:
    """One attempt of a run over a journal, and the log that it leaves to the next."""

    def __init__(self, log: Iterable[LogEntry] = ()) -> None:
        self.log: list[LogEntry] = list(log)
        self.journal = Journal(self.log)
        self.root = Scope()
        self.paid: list[str] = []

    def call(self, name: str, text: str = "", *, key: str | None = None, scope: Scope | None = None) -> Call:
        return self.journal.call(scope or self.root, name, key, inputs(text))

    def begin(self, call: Call) -> str:
        """What is to be done about it: ``replay``, ``mismatch`` or ``execute``."""
        assert self.journal.start(call) is None
        if call.found is not None:
            return "replay"
        return "mismatch" if call.mismatch is not None else "execute"

    def finish(self, call: Call) -> str:
        """Replays the call, or executes and records it; a mismatch ends it."""
        what = self.begin(call)
        if what == "replay":
            self.journal.replayed(call)
        elif what == "execute":
            self.record(call)
        else:
            self.journal.end(call)
        return f"{what} {call.slot}"

    def record(self, call: Call) -> Done:
        self.paid.append(call.slot)
        entry = done(call.slot, call.inputs.digest, overlap=call.overlap)
        self.log.append(entry)
        self.journal.record(call, entry)
        return entry

    def fail(self, call: Call) -> None:
        assert self.begin(call) == "execute"
        self.log.append(Failed(id=f"failed {call.slot}", at=0, slot=call.slot, error=Failure(type="E", message="")))
        self.journal.end(call)

    def step(self, name: str, text: str = "", *, key: str | None = None, scope: Scope | None = None) -> str:
        return self.finish(self.call(name, text, key=key, scope=scope))

    def again(self) -> Attempt:
        return Attempt(self.log)

    def unmet(self) -> list[str]:
        return [entry.slot for entry in self.journal.unmet()]
