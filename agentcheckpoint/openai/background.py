"""A look at a response whose cost is not known yet: what it says of its end is taken to the books."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import cast

import httpx2

from agentcheckpoint import current
from agentcheckpoint.attempt import Attempt, new_id
from agentcheckpoint.core.journal import Call
from agentcheckpoint.core.ledger import as_waste
from agentcheckpoint.core.models import Inputs, LedgerEntry, Settled
from agentcheckpoint.flow import Course, Flow, Invoke, Perform, Raised
from agentcheckpoint.openai.calls import refuse
from agentcheckpoint.openai.line import Line
from agentcheckpoint.openai.locating import AWAY
from agentcheckpoint.openai.modelcall import Terms
from agentcheckpoint.openai.sending import priced_by, read_body
from agentcheckpoint.openai.sse import Passing
from agentcheckpoint.openai.streams import passing_on
from agentcheckpoint.openai.usage import Answered, read_stream
from agentcheckpoint.store.commit import Change

_LOOKS = {"get": re.compile(r"/responses/([^/]+)"), "post": re.compile(r"/responses/([^/]+)/cancel")}
"""The requests whose answers are a response, by their method; the response's id."""


@dataclass(frozen=True, slots=True)
class Look:
    """A request for a response that this run has paid for, perhaps. It is no step: it passes, and is listened to."""

    attempt: Attempt
    entry: str
    """The id of the response's ledger entry."""
    terms: Terms

    def flow(self, request: httpx2.Request, stream: bool, line: Line) -> Flow[httpx2.Response]:
        """Sends the request, and settles the response's entry if the answer says how it ended."""
        outcome = yield Invoke(partial(line.send, request, stream))
        if isinstance(outcome, Raised):
            return outcome
        response = cast(httpx2.Response, outcome.value)
        store = self.attempt.store
        if not response.is_success or store is None:
            return response
        if "json" not in str(response.headers.get("content-type", "")).lower():
            return passing_on(response, line.watch(response, self._at_end, store))
        outcome = yield Invoke(partial(line.read, response))
        if isinstance(outcome, Raised):
            return outcome
        yield from self._settle(read_body("responses", outcome.value))
        return response

    def _at_end(self, passing: Passing) -> Course[None]:
        yield from self._settle(read_stream("responses", passing.events))

    def _settle(self, said: Answered) -> Course[None]:
        """Books what the response cost, once."""
        handles = self.attempt.journal.handles
        if said.unfinished or not handles.hold(self.entry):  # a stream of it is under way, or another look
            return
        try:
            entry = self.attempt.money[self.entry]
            if entry.bill == "unresolved" and said.response_id == entry.response_id:
                with suppress(*AWAY):
                    yield from self._book(priced_by(entry, said, self.terms), said)
        finally:
            handles.release(self.entry)

    def _book(self, settled: LedgerEntry, said: Answered) -> Course[None]:
        """A response that failed is no result: its step is open again. One that was cancelled is what was wanted."""
        attempt = self.attempt
        entries: tuple[LedgerEntry, ...] = (settled,)
        if said.failed is not None or not self._is_of_use():
            entries = tuple(as_waste(entries))
        known = attempt.answers.get(str(settled.response_id))
        if known is not None and said.failed is not None and not said.failed.startswith("status cancelled"):
            yield from refuse(attempt, *known, f"the provider says: {said.failed}", entries)
        elif settled.bill != "unresolved":
            change = Settled(id=new_id(), at=attempt.now_ms(), slot=settled.slot, entries=entries)
            yield Perform(attempt.commit(Change(change), Call(settled.slot, Inputs(digest=""))))

    def _is_of_use(self) -> bool:
        """Whether a record has this answer, or a call may still fetch it; else it was refused before it came."""
        journal = self.attempt.journal
        recorded = (entry.id for done in tuple(journal.records.values()) for entry in done.entries)
        return self.entry in recorded or journal.handles.has(self.entry)


def look(method: str, path: str, terms: Terms) -> Look | None:
    """The look that this request is; ``None``: it is none, or all is known of that response.

    Args:
        method, path: of the request, as the SDK has them.
        terms: whose prices apply.
    """
    here = current.position()
    pattern = _LOOKS.get(method.lower())
    found = pattern.fullmatch(path) if pattern is not None else None
    if here is None or here.attempt.store is None or found is None:
        return None
    for entry in tuple(here.attempt.money.values()):
        if entry.response_id == found[1] and entry.bill == "unresolved":
            return Look(here.attempt, entry.id, terms)
    return None
