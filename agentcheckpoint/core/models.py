"""The frozen records of a run's log, and the money in them. What is stored is exactly these, as JSON.

A run's log is append-only: what happened is never rewritten, so an older version of this library destroys nothing
that a newer one wrote. Unknown fields are ignored on reading; an entry with a ``v`` above ``SCHEMA`` is refused.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field, TypeAdapter

from agentcheckpoint.core.bought import MOST as MOST
from agentcheckpoint.core.bought import Bill as Bill
from agentcheckpoint.core.bought import LedgerEntry as LedgerEntry
from agentcheckpoint.core.bought import Natural as Natural
from agentcheckpoint.core.bought import Record as Record
from agentcheckpoint.core.bought import Sum as Sum
from agentcheckpoint.core.bought import Usage as Usage
from agentcheckpoint.core.parts import Argument as Argument
from agentcheckpoint.core.parts import Failure as Failure
from agentcheckpoint.core.parts import Inputs as Inputs
from agentcheckpoint.core.parts import Payload as Payload
from agentcheckpoint.core.parts import stored

SCHEMA = 1

StepKind: TypeAlias = Literal["step", "tool", "llm"]
RunState: TypeAlias = Literal["running", "retryable", "waiting", "interrupted", "completed", "failed", "cancelled"]
Decision: TypeAlias = Literal["rerun", "skip", "happened", "did not happen"]
"""What was made of a call that was in doubt: called again, not called again, or what its ``verify=`` found."""


@stored
class Logged:
    """What all entries of the log have."""

    v: Annotated[int, Field(ge=1)] = SCHEMA
    id: str
    at: Natural


@stored
class About(Logged):
    """What a run is about, as it was started."""

    agent: str | None = None
    inputs: Inputs | None = None
    input: Payload | None = None
    """The agent's arguments, kept apart under this entry's id; ``None``: they cannot be stored, or there are none."""
    metadata: dict[str, str] | None = None
    conversation: str | None = None


class Origin(Record):
    """Where a run was forked from."""

    run: str
    after: str
    """The slot of the last step that was taken over."""


@stored
class Birth(About):
    """The first entry of a log: which run this is, in full. Only who creates the run writes it."""

    k: Literal["birth"] = "birth"
    namespace: str
    run: str
    origin: Origin | None = None
    """``None``: it is no fork."""


@stored
class Restarted(About):
    """The run begins afresh: what was recorded before is not replayed. What it cost stays in the account."""

    k: Literal["restarted"] = "restarted"


@stored
class Opened(Logged):
    """A worker began an attempt of the run."""

    k: Literal["opened"] = "opened"
    attempt: Annotated[int, Field(ge=1, le=MOST)]
    worker: str
    agent: str | None = None
    inputs: Inputs | None = None
    tags: tuple[str, ...] | None = None


@stored
class Waiting(Logged):
    """A step waits: for a time, or for an answer. The answer is kept beside the run, under this entry's id."""

    k: Literal["waiting"] = "waiting"
    slot: str
    digest: str
    """The fingerprint of what is waited for."""
    until: Natural | None = None
    """When it ends at the latest, milliseconds since the epoch on the store's clock; ``None``: no time is set."""
    answer: bool = False
    """Whether somebody can answer it."""
    prompt: str | None = None
    form: str | None = None
    """The JSON schema that an answer must fit, as JSON."""
    refused: str | None = None
    """Why the answer before was not taken."""


@stored
class Intent(Logged):
    """A call that is paid for, or must not happen twice, is about to be made; and what became of those before it."""

    k: Literal["intent"] = "intent"
    slot: str
    inputs: Inputs | None = None
    """What it is made with, if it must not happen twice."""
    overlap: bool | None = None
    """A sibling of the same name was open at the same time."""
    decided: Decision | None = None
    """The call before it was in doubt, and this was decided."""
    entries: tuple[LedgerEntry, ...] = ()


@stored
class Withdrawn(Logged):
    """The call that was intended was not made after all: an interrupt came first."""

    k: Literal["withdrawn"] = "withdrawn"
    slot: str
    entries: tuple[LedgerEntry, ...] = ()


@stored
class Located(Logged):
    """The provider has named the answer that it is making: its ledger entry has the id to fetch it by."""

    k: Literal["located"] = "located"
    slot: str
    digest: str
    """The fingerprint of what was asked."""
    entries: tuple[LedgerEntry, ...] = Field(min_length=1)


@stored
class Settled(Logged):
    """What became of attempts that were unresolved, learned later."""

    k: Literal["settled"] = "settled"
    slot: str
    entries: tuple[LedgerEntry, ...] = ()


@stored
class Done(Logged):
    """A step's checkpoint. Its result is kept apart, under the same id."""

    k: Literal["done"] = "done"
    slot: str
    kind: StepKind = "step"
    inputs: Inputs
    payload: Payload
    function: str | None = None
    version: str | None = None
    """Of the step, by its author."""
    overlap: bool = False
    """A sibling of the same name was open at the same time."""
    decided: Decision | None = None
    """The call was in doubt, and this was decided."""
    ms: Natural = 0
    entries: tuple[LedgerEntry, ...] = ()
    elsewhere: tuple[LedgerEntry, ...] | None = None
    """What bought it in the run that it was taken over from: no money of this run. ``None``: it was not."""
    overridden: bool | None = None
    """Nobody called the step: its result was given to a fork."""


@stored
class Failed(Logged):
    """A step's attempt that raised: an attempt with its cost, never a result."""

    k: Literal["failed"] = "failed"
    slot: str
    kind: StepKind = "step"
    error: Failure
    in_doubt: bool | None = None
    """It must not happen twice, and nobody knows whether it has happened."""
    ms: Natural = 0
    next_at: Natural | None = None
    """When the step's policy tries it again, milliseconds since the epoch on the store's clock; ``None``: it does not,
    or there is none."""
    entries: tuple[LedgerEntry, ...] = ()


@stored
class Rejected(Logged):
    """A recorded answer was refused: its slot is open again, its money wasted."""

    k: Literal["rejected"] = "rejected"
    slot: str
    target: str
    """The id of the ``Done`` that is refused."""
    why: str
    entries: tuple[LedgerEntry, ...] = ()


@stored
class Revived(Logged):
    """Somebody let a run that had ended, or waits for its next try, go on now."""

    k: Literal["revived"] = "revived"


@stored
class Rewound(Logged):
    """The run went back to where it was after a step: the steps recorded since then are not replayed. Their cost stays
    in the account.
    """

    k: Literal["rewound"] = "rewound"
    slot: str
    target: str
    """The id of the ``Done`` that it went back to."""


@stored
class Closed(Logged):
    """An attempt of the run ended, or the run was cancelled while nobody worked on it."""

    k: Literal["closed"] = "closed"
    state: RunState
    error: Failure | None = None
    output: Payload | None = None
    """The run's output, kept apart under this entry's id."""
    due: Natural | None = None
    """When the run is to go on by itself, milliseconds since the epoch on the store's clock."""
    saved: Sum = 0
    """Nano-dollars that this attempt did not pay, since it replayed."""
    replayed: Natural = 0
    saved_unpriced: Natural = 0
    entries: tuple[LedgerEntry, ...] = ()


LogEntry: TypeAlias = Annotated[
    Birth
    | Restarted
    | Opened
    | Waiting
    | Intent
    | Withdrawn
    | Located
    | Settled
    | Done
    | Failed
    | Rejected
    | Revived
    | Rewound
    | Closed,
    Field(discriminator="k"),
]


LOG_ENTRY: TypeAdapter[LogEntry] = TypeAdapter(LogEntry)
_TO_JSON = LOG_ENTRY.serializer.to_json


def line_of(entry: LogEntry) -> str:
    """The entry as it is stored: JSON, without the fields that are as they are where nothing is said."""
    rest = _TO_JSON(entry, exclude_defaults=True).decode()
    return f'{{"v":{entry.v},"k":"{entry.k}",{rest[1:]}'


def payload_of(entry: LogEntry) -> Payload | None:
    """Describes the bytes that are kept apart under this entry's id, if there are any."""
    if isinstance(entry, Done):
        return entry.payload
    if isinstance(entry, Closed):
        return entry.output
    return entry.input if isinstance(entry, About) else None
