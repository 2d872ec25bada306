"""The life of a run: its states, what an end means, and what whoever looks for work is to do with a run. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, cast

from agentcheckpoint.core.models import About, LogEntry, Restarted, Rewound, RunState
from agentcheckpoint.core.standing import rewound
from agentcheckpoint.core.waits import Waits
from agentcheckpoint.errors import Suspended

ENDED: tuple[RunState, ...] = ("completed", "failed", "cancelled")
"""The states in which nothing goes on by itself."""

LOOK_MS = 2000
"""Milliseconds after which somebody looks again at a run that is being worked on. One who is on the same machine as its
worker can tell that it has died, long before its lease runs out."""

OnExisting: TypeAlias = Literal["allow", "must", "never", "fresh"]
"""What an opening makes of a run that exists: goes on with it, demands it, refuses it, or begins it afresh."""

Move: TypeAlias = Literal["go", "later", "drop"]


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The exception; or those in it, if it is a group: a task group wraps what its tasks raise."""
    if isinstance(error, BaseExceptionGroup):
        for inner in cast("BaseExceptionGroup[BaseException]", error).exceptions:
            yield from leaves(inner)
    else:
        yield error


def state_after(error: BaseException | None, *, cancelled: bool = False) -> RunState:
    """The state that a run is in when its ``with`` was left so.

    Args:
        error: what it was left by.
        cancelled: somebody has asked for its end. A run that came to its own end all the same is completed.
    """
    if error is None:
        return "completed"
    if cancelled:
        return "cancelled"
    ends = list(leaves(error))
    if not all(isinstance(end, Suspended | Exception) for end in ends):
        return "interrupted"
    return "waiting" if all(isinstance(end, Suspended) for end in ends) else "retryable"


def due_after(error: BaseException | None, state: RunState, now_ms: int, waits: Waits) -> int | None:
    """When a run that ended so goes on by itself, milliseconds; ``None``: not by itself.

    The first of parallel waits that suspends the run need not be the first that is over.
    """
    if state == "interrupted":
        return now_ms
    if state != "waiting" or error is None:
        return None
    times = [end.until_ms for end in leaves(error) if isinstance(end, Suspended) and end.until_ms is not None]
    beside = waits.next_ms(now_ms)
    return min([*times, *([] if beside is None else [beside])], default=None)


def rest_of(state: str, due_ms: int | None, now_ms: int) -> float:
    """Seconds until the next attempt of a run is due by its policy, whichever process has decided that.

    Args:
        state: as it is stored.
        due_ms: when it goes on by itself, milliseconds since the epoch.
        now_ms: the store's clock.
    """
    return max(0, due_ms - now_ms) / 1000 if state == "retryable" and due_ms is not None else 0.0


def since_restart(entries: Iterable[LogEntry]) -> list[LogEntry]:
    """What counts for a replay: the log since the run was last begun afresh, without what it was rewound over."""
    counted: list[LogEntry] = []
    for entry in entries:
        if isinstance(entry, Restarted):
            counted.clear()
        elif isinstance(entry, Rewound):
            counted = rewound(counted, entry.target)
        counted.append(entry)
    return counted


def about(entries: Sequence[LogEntry]) -> About | None:
    """What the run is about, as it was last begun."""
    return next((entry for entry in reversed(entries) if isinstance(entry, About)), None)


@dataclass(frozen=True, slots=True)
class Standing:
    """How a run stands, as seen by who looks for work.

    Attributes:
        state: as stored: a run whose worker died says that it is running.
        due_ms: when it is to go on by itself.
        held_ms: for how long somebody who may be alive holds its lease; ``None``: nobody.
        cancelled: somebody has asked for its end.
        agent: whose run it is; ``None``: it was opened by ``ac.run``.
    """

    state: RunState
    due_ms: int | None
    held_ms: int | None
    cancelled: bool
    agent: str | None


def what_to_do(standing: Standing, now_ms: int) -> tuple[Move, int]:
    """Whether to work on a listed run now, later (and when), or never: then it needs no place in the list.

    That is so unless it is answered, which does not show in how it stands.
    """
    if standing.held_ms is not None:
        return "later", now_ms + min(max(standing.held_ms, 1), LOOK_MS)
    if standing.state in ENDED:
        return "drop", 0
    if standing.cancelled or standing.state in ("running", "interrupted"):
        return "go", now_ms
    if standing.due_ms is None:  # it waits for an answer, or is retried by whoever opened it
        return "drop", now_ms
    return ("go", now_ms) if standing.due_ms <= now_ms else ("later", standing.due_ms)
