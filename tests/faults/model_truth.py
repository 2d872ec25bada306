"""What must hold after each packet and each outcome. Who owns the run, what is recorded and what it cost is counted
here a second time, and not with the code that is judged.
"""

from __future__ import annotations

from collections.abc import Iterable

from agentcheckpoint.core.ledger import fold_entries, logged_money
from agentcheckpoint.core.models import Birth, Done, Rejected
from agentcheckpoint.current import released_here
from agentcheckpoint.errors import LeaseLost, StoreUnavailable
from agentcheckpoint.store.commit import Change, Committed, Superseded
from agentcheckpoint.store.fence import Fence
from agentcheckpoint.store.holder import Holder
from agentcheckpoint.store.keys import RunKeys, epoch_of
from agentcheckpoint.store.wire import Wire

from .model_world import World, left_of, mortal, read_world


class Truth:
    """What was seen of one run, and what its workers were told. Its methods raise ``AssertionError``.

    Attributes:
        world: the run as it stood after the last packet.
        owner: whose claim was applied last.
        fences: all that ever worked on the run.
        authors: whose commit the entry of that id is.
        costs: what each attempt to buy an answer cost, nano-dollars.
        acknowledged: the entries that a worker was told to be stored.
        denied: the entries that a worker was told not to be stored, now and ever.
        booked: the attempts that were seen to be booked as waste.
        vanished: the entries that were stored, and are gone because the run was put back.
        buried: the run as it stood when it was deleted.
        unrejected: the records whose refusal has vanished so: who knew of it did the step again, and will be told.
        rollbacks: how often the run was put back.
    """

    def __init__(self, keys: RunKeys, wire: Wire) -> None:
        self.keys = keys
        self.wire = wire
        self.world = World()
        self.owner: Fence | None = None
        self.fences: list[Fence] = []
        self.authors: dict[str, Fence] = {}
        self.costs: dict[str, int] = {}
        self.acknowledged: set[str] = set()
        self.denied: set[str] = set()
        self.booked: set[str] = set()
        self.vanished: set[str] = set()
        self.buried = World()
        self.unrejected: set[str] = set()
        self.rollbacks = 0

    @property
    def deleted(self) -> bool:
        return self.world.tombstone

    @property
    def stored(self) -> set[str]:
        """The entries that are in the log, or were until it was deleted."""
        return set(self.buried.ids or self.world.ids)

    def begins(self, change: Change, author: Fence) -> None:
        """A commit is about to be made."""
        self.authors[change.entry.id] = author
        for bought in getattr(change.entry, "entries", ()):
            self.costs[bought.id] = bought.cost

    # -- after each packet ----------------------------------------------------------------------------------------

    def a_packet_arrived(self, sender: Fence | None) -> tuple[str, ...]:
        """Looks at the run, and judges what has changed; returns the entries that are new."""
        before, after = self.world, read_world(self.wire, self.keys, self.world)
        self.world = after
        self._books_waste_once(before, after)
        if after.tombstone:
            self._stays_deleted(before, after)
            return ()
        if after.head != before.head:
            self._was_claimed(before, after, sender)
        if self.owner is None:
            return ()
        assert after.log[: len(before.log)] == before.log, "what was there is there, in its order"
        assert after.lease in (None, self.owner.holder), "the lease is another's than the current token"
        fresh = tuple(after.ids[len(before.log) :])
        for entry_id in fresh:
            assert self.authors.get(entry_id, self.owner) is self.owner, "a stale worker has written to the run"
        self._is_whole(after)
        self._counts_every_cent(after)
        return fresh

    def _was_claimed(self, before: World, after: World, sender: Fence | None) -> None:
        assert after.head is not None, "the head is gone"
        assert sender is not None and after.head in sender.issued, "the head is a token that its claim did not issue"
        assert epoch_of(after.head) == epoch_of(before.head or "") + 1
        assert after.tokens == (*before.tokens, after.head), "the tokens are listed in the order of their claims"
        assert not mortal(self.wire, self.keys, after.head), "a claim has left a time to live on the run's data"
        if before.head not in sender.issued:
            self._lets_the_living_work(before)
        self.owner = sender

    def _lets_the_living_work(self, before: World) -> None:
        if before.lease is not None:
            assert released_here(Holder.model_validate_json(before.lease)), "somebody who lives held the lease"

    def _stays_deleted(self, before: World, after: World) -> None:
        assert after.head is None and not after.tokens, "a deleted run has come back"
        if before.tombstone:
            return
        self._lets_the_living_work(before)
        assert not after.waste
        known = before.tokens if self.rollbacks else {token for fence in self.fences for token in fence.issued}
        left = left_of(self.wire, self.keys, known)
        assert not left, f"left by the deletion: {left}"
        self.buried = before

    def _is_whole(self, world: World) -> None:
        ids, entries = world.ids, world.entries
        assert isinstance(entries[0], Birth)
        assert len(set(ids)) == len(ids), "an entry stands there twice"
        assert self.acknowledged <= set(ids), "acknowledged, and not there"
        assert self.denied.isdisjoint(ids), "said not to be stored, and it is"
        live: dict[str, str] = {}
        for entry in entries:
            if isinstance(entry, Rejected):
                record = live.pop(entry.slot, None)
                assert record == entry.target or entry.target in self.vanished, "rejected, and not the slot's record"
            elif isinstance(entry, Done):
                record = live.get(entry.slot)
                assert record is None or record in self.unrejected, "a recorded step was committed again"
                live[entry.slot] = entry.id
                assert world.results[entry.id] == entry.id, "a record without its result"

    def _counts_every_cent(self, world: World) -> None:
        if not world.rejected <= set(world.ids):
            return  # what was rejected is gone, and its worker will be told
        sums = {"paid": 0, "wasted": 0}
        for entry in world.entries:
            if isinstance(entry, Done):
                bill = "wasted" if entry.id in world.rejected else "paid"
                sums[bill] += sum(self.costs[bought.id] for bought in entry.entries)
        stored = {name: int(world.meta.get(name, "0")) for name in sums}
        assert stored == sums, f"the totals are {stored}, the sums {sums}"
        folded = fold_entries(logged_money(world.entries), world.wasted.values())
        spent = sum(entry.cost or 0 for entry in folded.values() if entry.bill in sums)
        assert spent == sum(self.costs[attempt] for attempt in folded), "each attempt's money is counted once"

    def _books_waste_once(self, before: World, after: World) -> None:
        gone = after.tombstone and not before.tombstone
        assert gone or before.waste.items() <= after.waste.items(), "what was booked as waste has changed"
        booked = [entry.id for entry in after.wasted.values()]
        assert len(set(booked)) == len(booked), "an attempt is booked as waste twice"
        for entry in after.wasted.values():
            assert (entry.bill, entry.cost) == ("wasted", self.costs[entry.id])
            self.booked.add(entry.id)

    # -- after each outcome ---------------------------------------------------------------------------------------

    def a_worker_was_told(self, change: Change, outcome: object) -> None:
        """A commit has ended."""
        entry = change.entry
        if isinstance(outcome, Committed):
            assert entry.id in self.stored | self.vanished, "acknowledged, and not there"
            self.acknowledged |= {entry.id} - self.vanished
        elif isinstance(outcome, LeaseLost | Superseded | StoreUnavailable):
            assert entry.id not in self.stored, "said not to be stored, and it is"
            self.denied.add(entry.id)
        if isinstance(outcome, LeaseLost) and not self.rollbacks:
            assert self.owner is not self.authors[entry.id], "nobody else has claimed the run"
        if isinstance(outcome, Superseded):
            assert outcome.entry.slot == getattr(entry, "slot", None) and outcome.entry.id != entry.id
            assert outcome.entry.id in self.stored | self.vanished
            assert outcome.result == outcome.entry.id.encode()

    def waste_is_booked(self, attempts: Iterable[str]) -> None:
        """A worker was told that it lost the run, and went on to book what it had paid."""
        assert set(attempts) <= self.booked, "paid for nothing, and not booked"

    # -- when the server goes back --------------------------------------------------------------------------------

    def it_was_put_back(self, owner: Fence | None) -> None:
        """An earlier state of the run stands there again: what follows is judged by it alone."""
        self.rollbacks += 1
        before = self.buried if self.deleted else self.world  # who has not met the deletion knows what was there
        self.world, self.owner, self.buried = read_world(self.wire, self.keys, self.world), owner, World()
        now = set(self.world.ids)
        self.unrejected |= before.rejected - self.world.rejected
        self.vanished = (self.vanished | set(before.ids)) - now
        self.acknowledged &= now
        self.denied.clear()
        self.booked = {entry.id for entry in self.world.wasted.values()}
