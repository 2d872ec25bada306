"""Whether the diaries of a race agree with what is stored at its end. Pure: notes and logs in, sentences out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from .history_diary import Kind, Note

NOT_STORED = frozenset({"LeaseLost", "StoreUnavailable", "StoreRefused"})
"""Errors of a commit that say: it is not stored, and never will be."""
NEVER = frozenset({"CheckpointsLost", "CheckpointCorrupt", "RunDeleted", "RunMisuse", "StepMismatch"})
"""Errors that nobody may meet on a server that loses nothing."""


@dataclass(frozen=True, slots=True)
class Final:
    """A run at the end of the race.

    Attributes:
        ids: of its log entries, in the log's order.
        tokens: as they are listed.
        slots: the step of each record, by the record's id.
        results: what each record returned, by its id.
    """

    ids: Sequence[str]
    tokens: Sequence[str]
    slots: Mapping[str, str] = field(default_factory=dict[str, str])
    results: Mapping[str, str] = field(default_factory=dict[str, str])


class History:
    """The notes about one run, and the run."""

    def __init__(self, notes: Iterable[Note], final: Final) -> None:
        self.notes = sorted(notes, key=lambda note: note.at)
        self.final = final
        self.place = {entry: n for n, entry in enumerate(final.ids)}
        self.begun = {note.entry: note for note in self.of("commit begun")}
        self.acknowledged = {note.entry: note for note in self.of("commit acknowledged")}

    def of(self, *kinds: Kind) -> list[Note]:
        return [note for note in self.notes if note.kind in kinds]


def check(notes: Iterable[Note], final: Final) -> list[str]:
    """What is wrong with the history of one run; an empty list if nothing is."""
    history = History(notes, final)
    return [f"{rule.__name__}: {what}" for rule in RULES for what in rule(history)]


def each_acknowledged_commit_is_in_the_log_once(history: History) -> Iterator[str]:
    counts = Counter(history.final.ids)
    yield from (f"{entry} is there {n} times" for entry, n in counts.items() if n > 1)
    yield from (f"{entry} is not there" for entry in history.acknowledged if entry not in counts)


def what_was_said_not_to_be_stored_is_not(history: History) -> Iterator[str]:
    for note in history.of("commit failed", "commit superseded"):
        if note.entry in history.place and (note.kind == "commit superseded" or note.error in NOT_STORED):
            yield f"{note.entry} ended with {note.error or note.kind}, and is there"


def each_record_is_somebodys(history: History) -> Iterator[str]:
    yield from (f"nobody has begun {entry}" for entry in history.final.slots if entry not in history.begun)


def each_step_has_one_record(history: History) -> Iterator[str]:
    counts = Counter(history.final.slots.values())
    yield from (f"{slot} has {n}" for slot, n in counts.items() if n > 1)


def the_log_is_in_the_order_of_time(history: History) -> Iterator[str]:
    """A commit that was acknowledged before another began stands before it."""
    ended = sorted(history.acknowledged.values(), key=lambda note: note.at)
    begun = sorted(history.begun.values(), key=lambda note: note.at)
    last, passed = "", 0
    for note in begun:
        while passed < len(ended) and ended[passed].at < note.at:
            entry = ended[passed].entry
            if history.place.get(entry, -1) > history.place.get(last, -1):
                last = entry
            passed += 1
        if note.entry in history.place and last and history.place[note.entry] < history.place.get(last, -1):
            yield f"{note.entry} began after {last} was acknowledged, and stands before it"


def tokens_are_listed_in_the_order_of_claims(history: History) -> Iterator[str]:
    listed = {token: n for n, token in enumerate(history.final.tokens)}
    epochs = [int(token.partition(".")[0]) for token in history.final.tokens]
    if epochs != list(range(1, len(epochs) + 1)):
        yield f"the epochs are {epochs}"
    begun = {(note.who, note.claim): note.at for note in history.of("claim begun")}
    claims = history.of("claim acknowledged")
    yield from (f"{note.token} is not listed" for note in claims if note.token not in listed)
    for n, later in enumerate(claims):
        for earlier in claims[:n]:
            apart = earlier.at < begun[later.who, later.claim]
            if apart and listed.get(later.token, -1) < listed.get(earlier.token, -1):
                yield f"{later.token} was claimed after {earlier.token}, and is listed before it"


def no_commit_counts_that_began_after_its_worker_was_replaced(history: History) -> Iterator[str]:
    listed = {token: n for n, token in enumerate(history.final.tokens)}
    claims = [note for note in history.of("claim acknowledged") if note.token in listed]
    for entry, note in history.begun.items():
        if entry not in history.acknowledged and entry not in history.place:
            continue
        for claim in claims:
            replaced = listed[claim.token] > listed.get(note.token, len(listed)) and claim.at < note.at
            if replaced and (claim.who, claim.claim) != (note.who, note.claim):
                yield f"{entry} began under {note.token} after {claim.token} was claimed"
                break


def each_value_seen_is_the_recorded_one(history: History) -> Iterator[str]:
    recorded = {slot: history.final.results.get(entry) for entry, slot in history.final.slots.items()}
    for note in history.of("seen"):
        if recorded.get(note.slot) != note.value:
            yield f"{note.who} saw {note.value} for {note.slot}, and {recorded.get(note.slot)} is recorded"


def what_is_shown_is_the_beginning_of_the_log(history: History) -> Iterator[str]:
    looks: dict[int, int] = {}
    for note in history.of("look begun", "looked"):
        if note.kind == "look begun":
            looks[note.who] = note.at
            continue
        if tuple(history.final.ids[: len(note.ids)]) != note.ids:
            yield f"{note.who} saw another log"
        shown = set(note.ids)
        for entry, ended in history.acknowledged.items():
            if ended.at < looks[note.who] and entry not in shown:
                yield f"{note.who} was not shown {entry}, acknowledged before"


def nobody_is_told_of_a_loss(history: History) -> Iterator[str]:
    yield from (f"{note.who}: {note.kind}: {note.error}" for note in history.notes if note.error in NEVER)


RULES: tuple[Callable[[History], Iterator[str]], ...] = (
    each_acknowledged_commit_is_in_the_log_once,
    what_was_said_not_to_be_stored_is_not,
    each_record_is_somebodys,
    each_step_has_one_record,
    the_log_is_in_the_order_of_time,
    tokens_are_listed_in_the_order_of_claims,
    no_commit_counts_that_began_after_its_worker_was_replaced,
    each_value_seen_is_the_recorded_one,
    what_is_shown_is_the_beginning_of_the_log,
    nobody_is_told_of_a_loss,
)
