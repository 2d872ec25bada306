"""The id of an answer that is coming, committed as soon as it is known: a resume fetches the answer by it."""

from __future__ import annotations

import re
from contextlib import suppress

from agentcheckpoint.attempt import new_id
from agentcheckpoint.core.models import LedgerEntry, Located
from agentcheckpoint.errors import CommitUnknown, StoreRefused, StoreUnavailable
from agentcheckpoint.flow import Course, Perform
from agentcheckpoint.openai.modelcall import ModelCall
from agentcheckpoint.store.commit import Change

_ID = re.compile(r"[\w.:-]{1,256}")
"""What can stand in a path as it is."""
AWAY = (StoreUnavailable, StoreRefused, CommitUnknown)
"""What keeps a commit from being known; one that is only good to have is left out."""


def is_locatable(call: ModelCall, entry: LedgerEntry) -> bool:
    """Whether the answer that is coming could be fetched again by its id, once that is known."""
    return entry.response_id is None and call.is_stored and call.terms.recover is not False


def locate(call: ModelCall, entry: LedgerEntry, response_id: str, request_id: str | None) -> Course[LedgerEntry]:
    """Commits the answer's id. Returns the ledger entry with it.

    Where the store is away or refuses, the work goes on without: the answer is paid for, and worth more than its id.

    Raises:
        LeaseLost, RunDeleted: the run is another's now, and its answer of no use here.
    """
    located = entry.model_copy(update={"response_id": response_id, "request_id": request_id})
    if not _ID.fullmatch(response_id):
        return located
    attempt = call.attempt
    call.handle = Located(
        id=new_id(),
        at=attempt.now_ms(),
        slot=call.site.slot,
        digest=call.site.call.inputs.digest,
        entries=(located,),
    )
    call.unsettled = [located]
    attempt.journal.handles.hold(located.id)
    with suppress(*AWAY):
        yield Perform(attempt.commit(Change(call.handle), call.site.call))
    return located
