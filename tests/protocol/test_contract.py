"""The protocol's generators over three servers and both drivers: what is there afterwards, key by key."""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from redis.crc import key_slot

from agentcheckpoint.attempt import new_id, new_token
from agentcheckpoint.core.ids import run_tag
from agentcheckpoint.core.models import Birth, Done, Inputs, LedgerEntry, Opened, Payload
from agentcheckpoint.errors import CheckpointsLost, LeaseLost, RunDeleted
from agentcheckpoint.store.async_wire import AsyncWire
from agentcheckpoint.store.claim import Busy, Opening, Taken, open_run
from agentcheckpoint.store.commit import Change, Committed, Superseded, commit
from agentcheckpoint.store.connect import connect
from agentcheckpoint.store.effects import Packet, Protocol
from agentcheckpoint.store.fence import Fence
from agentcheckpoint.store.holder import Holder
from agentcheckpoint.store.keys import RunKeys
from agentcheckpoint.store.reading import read_results, snapshot
from agentcheckpoint.store.store import Store
from agentcheckpoint.store.upkeep import book_waste, delete_run, renew
from agentcheckpoint.store.wire import Wire

STRANGER = Holder(host="h", boot="elsewhere", pidns="n", pid=1, start=1).model_dump_json().encode()
"""Nobody here can tell whether he is alive."""
DATA = ("log", "results", "meta")


class Colour:
    """One of the two drivers of one store."""

    def __init__(self, store: Store, on_a_loop: bool) -> None:
        self.store = store
        self.on_a_loop = on_a_loop

    def run(self, protocol: Protocol[Any]) -> Any:
        return asyncio.run(self.store.run_async(protocol)) if self.on_a_loop else self.store.run(protocol)

    def together(self, protocols: list[Protocol[Any]]) -> list[Any]:
        """Side by side: as tasks of one loop, or in threads."""
        if not self.on_a_loop:
            with ThreadPoolExecutor(16) as pool:
                return list(pool.map(self.store.run, protocols))

        async def gathered() -> list[Any]:
            return await asyncio.gather(*map(self.store.run_async, protocols))

        return asyncio.run(gathered())

    def ask(self, *command: Any) -> Any:
        def asking() -> Protocol[Any]:
            return (yield Packet((command,)))[0]

        return self.store.run(asking())

    def everything(self, keys: RunKeys) -> dict[str, Any]:
        """Every key of the run with all that it holds, whatever token it bears; leases without their time to live."""
        read = {b"string": ("GET",), b"hash": ("HGETALL",), b"list": ("LRANGE", 0, -1)}
        found = {}
        for name in self.ask("KEYS", f"ac:{{{keys.tag}}}:*"):
            command, *rest = read[self.ask("TYPE", name)]
            found[name.decode()] = self.ask(command, name, *rest)
        return found


@pytest.fixture(params=[False, True], ids=["threads", "loop"])
def colour(request: pytest.FixtureRequest, server_url: str) -> Colour:
    return Colour(connect(server_url), request.param)


@pytest.fixture
def worker(run_id: str) -> Callable[..., Fence]:
    def made(ttl: float = 900.0) -> Fence:
        fence = Fence(RunKeys(run_tag("default", run_id)), "default", run_id)
        fence.holder, fence.ttl_ms = STRANGER, int(ttl * 1000)
        return fence

    return made


def opening(fence: Fence) -> Protocol[Any]:
    birth = Birth(id=new_id(), at=1, namespace="default", run=fence.run_id)
    return open_run(
        fence,
        new_token,
        Opening(birth, lambda holder: False, lambda n: Opened(id=new_id(), at=1, attempt=n, worker="w")),
    )


def committing(fence: Fence, slot: str, result: bytes = b"r", cost: int = 0) -> Protocol[Any]:
    done = Done(id=new_id(), at=2, slot=slot, inputs=Inputs(digest="d"), payload=Payload(size=len(result)))
    change = Change(done, result, {"paid": cost} if cost else {})
    return commit(fence, change, new_token, step=slot, value=result, same=lambda theirs: theirs.slot == slot)


def expire(colour: Colour, fence: Fence) -> None:
    """Time passes: the lease runs out."""
    deadline = time.monotonic() + 60
    while colour.ask("EXISTS", fence.keys.lease(fence.token)):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_what_was_committed_is_loaded_with_its_result_and_its_cost(colour: Colour, worker: Any) -> None:
    first = worker(0.03)
    assert isinstance(colour.run(opening(first)), Taken)
    big = os.urandom(300_000)
    assert colour.run(committing(first, "a", b"", 1)) == Committed()
    assert colour.run(committing(first, "b", big, 2)) == Committed()
    expire(colour, first)
    heir = worker()
    loaded = colour.run(opening(heir)).loaded
    assert [entry.k for entry in loaded.entries] == ["birth", "opened", "done", "done", "opened"]
    assert loaded.meta["paid"] == "3" and loaded.meta["attempt"] == "2" and abs(loaded.now_ms / 1000 - time.time()) < 60
    ids = [entry.id for entry in loaded.entries if isinstance(entry, Done)]
    assert colour.run(read_results(heir, heir.token, ids)) == dict(zip(ids, (b"", big), strict=True))
    assert colour.run(snapshot(heir)).ids == loaded.ids


def test_a_lease_keeps_others_out_until_it_runs_out_and_renewals_prolong_it(colour: Colour, worker: Any) -> None:
    owner = worker(600)
    colour.run(opening(owner))
    outcome = colour.run(opening(worker()))
    assert isinstance(outcome, Busy) and 0 < outcome.ttl <= 600 and outcome.holder is not None
    owner.ttl_ms = 1_200_000
    colour.run(renew(owner))
    assert colour.ask("PTTL", owner.keys.lease(owner.token)) > 600_000
    owner.ttl_ms = 30
    colour.run(committing(owner, "a"))
    expire(colour, owner)
    assert isinstance(colour.run(opening(worker())), Taken)


def test_a_replaced_workers_commit_leaves_no_trace_at_all(colour: Colour, worker: Any) -> None:
    zombie = worker(0.02)
    colour.run(opening(zombie))
    colour.run(committing(zombie, "a"))
    expire(colour, zombie)
    heir = worker()
    colour.run(opening(heir))
    before = colour.everything(heir.keys)
    for _ in range(2):  # the second one knows already
        with pytest.raises(LeaseLost) as caught:
            colour.run(committing(zombie, "b", b"paid"))
        assert caught.value.value == b"paid"
    assert colour.everything(heir.keys) == before
    assert colour.run(committing(heir, "b")) == Committed()


def test_a_replaced_worker_gets_the_heirs_result_of_the_same_step(colour: Colour, worker: Any) -> None:
    zombie, heir = worker(0.02), worker()
    colour.run(opening(zombie))
    expire(colour, zombie)
    colour.run(opening(heir))
    colour.run(committing(heir, "a", b"the heir's"))
    before = colour.everything(heir.keys)
    outcome = colour.run(committing(zombie, "a", b"the zombie's"))
    assert isinstance(outcome, Superseded) and outcome.result == b"the heir's"
    assert colour.everything(heir.keys) == before


def test_fifty_commits_side_by_side_are_each_applied_once(colour: Colour, worker: Any) -> None:
    fence = worker()
    colour.run(opening(fence))
    outcomes = colour.together([committing(fence, f"s[{n}]", b"%d" % n, 10) for n in range(50)])
    assert outcomes == [Committed()] * 50
    loaded = colour.run(snapshot(fence))
    assert sorted(entry.slot for entry in loaded.entries if isinstance(entry, Done)) == sorted(
        f"s[{n}]" for n in range(50)
    )
    assert loaded.meta["paid"] == "500" and loaded.results == 51


def test_a_commit_is_one_packet(colour: Colour, worker: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    packets: list[str] = []
    exchange, send = Wire.exchange, AsyncWire.send

    def counted(wire: Wire, commands: Any) -> Any:
        packets.append("sync")
        return exchange(wire, commands)

    def counted_async(wire: AsyncWire, parcels: Any) -> None:
        packets.append("async")
        send(wire, parcels)

    fence = worker()
    colour.run(opening(fence))
    monkeypatch.setattr(Wire, "exchange", counted)
    monkeypatch.setattr(AsyncWire, "send", counted_async)
    for n in range(3):
        colour.run(committing(fence, f"s[{n}]", b"x", 1))
    assert packets == ["async" if colour.on_a_loop else "sync"] * 3


@pytest.mark.parametrize("key", DATA)
def test_a_key_that_vanishes_is_a_loss_for_heirs_and_readers(colour: Colour, worker: Any, key: str) -> None:
    fence = worker(0.02)
    colour.run(opening(fence))
    colour.run(committing(fence, "a"))
    expire(colour, fence)
    colour.ask("DEL", getattr(fence.keys, key)(fence.token))
    with pytest.raises(CheckpointsLost):
        colour.run(snapshot(fence))
    for _ in range(2):  # the first keeps no lease of what it could not open
        with pytest.raises(CheckpointsLost):
            colour.run(opening(worker()))


def test_a_store_that_was_emptied_under_a_worker_is_a_loss_and_not_a_deletion(colour: Colour, worker: Any) -> None:
    fence = worker()
    colour.run(opening(fence))
    colour.run(committing(fence, "a"))
    colour.ask("DEL", *colour.everything(fence.keys))
    with pytest.raises(CheckpointsLost, match="vanished") as caught:
        colour.run(committing(fence, "b", b"paid"))
    assert caught.value.value == b"paid"


def test_an_heir_renames_all_and_keeps_no_time_to_live(colour: Colour, worker: Any) -> None:
    first, heir = worker(0.02), worker()
    colour.run(opening(first))
    for key in DATA:
        colour.ask("PEXPIRE", getattr(first.keys, key)(first.token), 500_000)
    expire(colour, first)
    colour.run(opening(heir))
    names = colour.everything(heir.keys)
    assert not [name for name in names if first.token in name]
    assert [colour.ask("PTTL", getattr(heir.keys, key)(heir.token)) for key in DATA] == [-1, -1, -1]


def test_a_deleted_run_leaves_its_tombstone_alone_even_if_a_worker_commits_late(colour: Colour, worker: Any) -> None:
    zombie, owner = worker(0.02), worker()
    colour.run(opening(zombie))
    expire(colour, zombie)
    colour.run(opening(owner))
    colour.run(book_waste(zombie, [LedgerEntry(id="w", bill="wasted", slot="s", cost=1)]))
    assert len({key_slot(name.encode()) for name in colour.everything(owner.keys)}) == 1
    assert isinstance(colour.run(delete_run(owner, "5", lambda holder: False)), Busy)
    assert colour.run(delete_run(owner, "5", lambda holder: True)) is None
    assert colour.everything(owner.keys) == {owner.keys.tomb: b"5"}
    for fence in (owner, zombie):
        with pytest.raises(RunDeleted):
            colour.run(committing(fence, "late"))
    assert colour.everything(owner.keys) == {owner.keys.tomb: b"5"}
    with pytest.raises(RunDeleted):
        colour.run(opening(worker()))


def test_waste_is_booked_once_however_often_it_is_sent(colour: Colour, worker: Any) -> None:
    fence = worker()
    colour.run(opening(fence))
    entries = [LedgerEntry(id=secrets.token_hex(4), bill="wasted", slot="s", cost=n) for n in (1, 2)]
    for _ in range(2):
        colour.run(book_waste(fence, entries))
    assert sorted(colour.run(snapshot(fence)).waste, key=lambda entry: entry.cost or 0) == entries


@pytest.mark.parametrize("change", ["the head", "the lease"])
def test_a_claim_that_was_forestalled_writes_nothing_and_looks_again(colour: Colour, worker: Any, change: str) -> None:
    """Between its look and its EXEC somebody else claims, or the owner, who was not dead, renews."""
    first, other, late = worker(0.02), worker(), worker()
    colour.run(opening(first))
    expire(colour, first)
    looked: list[int] = []

    def forestalled() -> Protocol[Any]:
        protocol = opening(late)
        effect: Any = next(protocol)
        while True:
            if isinstance(effect, Packet) and effect.commands[0][0] == "MULTI":
                looked.append(1)
                if len(looked) == 1 and change == "the head":
                    Colour(colour.store, False).run(opening(other))
                elif len(looked) == 1:
                    first.ttl_ms = 900_000
                    Colour(colour.store, False).run(renew(first))
            try:
                effect = protocol.send((yield effect))
            except StopIteration as stop:
                return stop.value

    outcome = colour.run(forestalled())
    assert isinstance(outcome, Busy) and looked == [1]
    assert not [name for name in colour.everything(late.keys) if late.issued[0] in name]
