"""Following a run's log while somebody else writes it: what was added since the last look, and how the run stands."""

from __future__ import annotations

from dataclasses import dataclass

from agentcheckpoint.core.models import LogEntry
from agentcheckpoint.store.effects import Command, Protocol, Refusal
from agentcheckpoint.store.loading import META, corrupt, parse_entry, parse_meta
from agentcheckpoint.store.reading import Address, read_under_head


@dataclass(frozen=True, slots=True)
class Added:
    """What a look has shown.

    Attributes:
        entries: those after the first ones that were known, in their order.
        state: as in ``RunView``.
        is_held: somebody has a lease of the run that runs out.
    """

    entries: tuple[LogEntry, ...]
    state: str
    is_held: bool


def added_since(address: Address, known: int) -> Protocol[Added]:
    """The log from its entry number ``known`` on (the first is 0): a log only grows, whoever takes the run over.

    Raises:
        RunNotFound: there is no such run, or it was deleted.
        CheckpointsLost, CheckpointCorrupt, SchemaTooNew, StoreRefused, StoreUnavailable.
    """
    keys = address.keys

    def questions(head: str) -> tuple[Command, ...]:
        log, meta = ("LRANGE", keys.log(head), known, -1), ("HMGET", keys.meta(head), *META)
        return log, meta, ("PTTL", keys.lease(head)), ("GET", keys.head)

    head, (lines, meta, ttl, _) = yield from read_under_head(address, questions)
    for name, reply in ((keys.log(head), lines), (keys.meta(head), meta), (keys.lease(head), ttl)):
        if isinstance(reply, Refusal):
            raise corrupt(address.run_id, name, f"the server answered {reply}")
    fields = parse_meta(address.run_id, keys.meta(head), meta)
    entries = (parse_entry(address.run_id, keys.log(head), known + n, line) for n, line in enumerate(lines))
    return Added(tuple(entries), fields["state"], ttl > 0)
