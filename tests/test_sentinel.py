"""Sentinel: the primary is found, and found again after a failover, also to a replica that lags."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio.sentinel
import redis.sentinel
from faults.failover import Who, play
from faults.sentinels import NAME, Watched
from faults.servers import binaries
from moving import Worker

import agentcheckpoint as ac
from agentcheckpoint.store.effects import NotSent

pytestmark = pytest.mark.filterwarnings("ignore::agentcheckpoint.DurabilityWarning")


BINARIES = binaries()


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    with Watched(next(iter(BINARIES.values())), tmp_path_factory.mktemp("watched")) as made:
        yield made


@pytest.mark.parametrize(("name", "on_a_loop"), list(zip(sorted(BINARIES), (False, True), strict=False)))
def test_a_primary_is_killed_while_a_run_works_and_it_goes_on_at_the_next(
    name: str, on_a_loop: bool, tmp_path: Path
) -> None:
    with Watched(BINARIES[name], tmp_path) as watched:
        store = ac.connect(watched.url, durability="replicated")
        with Worker(store, "failed-over", on_a_loop=on_a_loop) as worker:
            worker.goes_on(3)
            watched.fail_over()
            worker.goes_on(3)
        assert list(worker.wrong()) == []
        assert watched.replica.info("replication", "role") == "master"


@pytest.mark.parametrize("who", ["an heir", "alone, settled there"])
def test_a_failover_to_a_replica_that_lags_loses_what_it_must_and_says_so(who: Who, tmp_path: Path) -> None:
    made: Any = Watched
    assert play(next(iter(BINARIES.values())), tmp_path, random.Random(who), who, made) == []


def test_clients_of_sentinel_in_both_colours_and_what_cannot_be_used(watched: Watched) -> None:
    addresses = [("127.0.0.1", one.port) for one in watched.sentinels]
    options: dict[str, Any] = {"decode_responses": True, "protocol": 3}
    plain = redis.sentinel.Sentinel(addresses)
    looped = redis.asyncio.sentinel.Sentinel(addresses)
    for client in (plain.master_for(NAME, **options), looped.master_for(NAME, **options)):
        store = ac.connect(client)
        with ac.run("by-client", store=store) as run:
            assert run.step("n", lambda: 1) == 1

        async def on_a_loop(store: ac.Store = store) -> None:
            async with ac.run("by-client", store=store) as run:
                assert await run.step("n", lambda: 2) == 1

        asyncio.run(on_a_loop())
    with pytest.raises(ac.InvalidStore, match="master_for"):
        ac.connect(plain.slave_for(NAME))
    with pytest.raises(ac.InvalidStore, match="master_for"):
        ac.connect(plain)  # type: ignore[arg-type]


def test_a_name_that_no_sentinel_knows_and_one_that_is_away_are_said(watched: Watched) -> None:
    with pytest.raises(ac.StoreUnavailable, match="knows none of that name"):
        ac.connect(watched.url.replace(NAME, "another"))
    watched.sentinels[0].kill()  # the others are asked
    assert ac.connect(watched.url).health is not None
    port = watched.sentinels[0].port
    with pytest.raises(ac.StoreUnavailable, match="no Sentinel names the primary"):
        ac.connect(f"redis+sentinel://127.0.0.1:{port}/{NAME}")


def test_no_connection_to_a_replica_is_used_whoever_names_it(tmp_path: Path) -> None:
    """An old Sentinel may name what was the primary: what is read there would be out of date."""
    with Watched(next(iter(BINARIES.values())), tmp_path) as watched:
        dial = ac.connect(watched.url)._dial
        primary, replica = (("127.0.0.1", one.port) for one in (watched.primary, watched.replica))
        dial.open(node=primary).close()
        with pytest.raises(NotSent, match="no primary"):
            dial.open(node=replica)

        async def on_a_loop() -> None:
            (await dial.open_async(node=primary)).close()
            with pytest.raises(NotSent, match="no primary"):
                await dial.open_async(node=replica)

        asyncio.run(on_a_loop())
