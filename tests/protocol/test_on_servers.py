"""One contract over both colours and three servers."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from faults.servers import until

import agentcheckpoint as ac
from agentcheckpoint.core.ids import run_tag
from agentcheckpoint.store.effects import Packet
from agentcheckpoint.store.keys import RunKeys

KEYS = ("log", "results", "meta")


def ask(url: str, *command: Any) -> Any:
    def protocol() -> Any:
        return (yield Packet((command,)))[0]

    return ac.connect(url).run(protocol())


def keys_of(run_id: str) -> RunKeys:
    return RunKeys(run_tag("default", run_id))


def head_of(url: str, run_id: str) -> str:
    return str(ask(url, "GET", keys_of(run_id).head).decode())


def everything(url: str, run_id: str) -> dict[str, Any]:
    """All that is stored under the current head."""
    token = head_of(url, run_id)
    keys = keys_of(run_id)
    return {
        "head": token,
        "log": ask(url, "LRANGE", keys.log(token), 0, -1),
        "results": ask(url, "HGETALL", keys.results(token)),
        "meta": ask(url, "HGETALL", keys.meta(token)),
    }


def test_what_was_committed_is_replayed_blocking(server_url: str, run_id: str) -> None:
    ran: list[int] = []
    for _ in range(2):
        with ac.run(run_id, store=server_url) as run:
            assert [run.step("s", lambda n: ran.append(n) or n, n) for n in range(5)] == [0, 1, 2, 3, 4]
    assert ran == [0, 1, 2, 3, 4]


async def test_what_was_committed_is_replayed_on_a_loop(server_url: str, run_id: str) -> None:
    ran: list[int] = []
    for _ in range(2):
        async with ac.run(run_id, store=server_url) as run:
            assert await asyncio.gather(*(run.step("s", lambda n: ran.append(n) or n, n) for n in range(50))) == [
                *range(50)
            ]
    assert sorted(ran) == [*range(50)]


def test_commits_of_many_threads_are_each_applied_once(server_url: str, run_id: str) -> None:
    with ac.run(run_id, store=server_url) as run:
        threads = [threading.Thread(target=run.step, args=("s", int, n)) for n in range(40)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    view = ac.get(run_id, store=server_url)
    assert len(view.steps) == 40


def test_one_key_called_at_once_runs_once(server_url: str, run_id: str) -> None:
    ran: list[int] = []

    def slow() -> int:
        ran.append(1)
        time.sleep(0.05)
        return 7

    async def slow_too() -> int:
        ran.append(2)
        await asyncio.sleep(0.05)
        return 8

    async def on_a_loop() -> list[int]:
        async with ac.run(run_id, store=server_url) as run:
            return await asyncio.gather(*(run.step(ac.Step("t", key="k"), slow_too) for _ in range(5)))

    with ac.run(run_id, store=server_url) as run, ThreadPoolExecutor(5) as pool:
        assert list(pool.map(lambda _: run.step(ac.Step("s", key="k"), slow), range(5))) == [7] * 5
    with pytest.warns(ac.UnmetStepsWarning):
        assert asyncio.run(on_a_loop()) == [8] * 5
    assert ran == [1, 2]


def test_a_worker_whose_lease_ran_out_writes_nothing_and_gets_the_heirs_result(
    server_url: str, run_id: str
) -> None:
    def slow(who: str) -> str:
        if who == "zombie":
            keys = keys_of(run_id)
            ask(server_url, "DEL", keys.lease(head_of(server_url, run_id)))
            with ac.run(run_id, store=server_url) as heir:
                heir.step(step, slow, "heir")
            before.append(everything(server_url, run_id))
        return who

    before: list[dict[str, Any]] = []
    step = ac.Step("s", ignore=("who",))
    with pytest.raises(ac.LeaseLost), ac.run(run_id, store=server_url) as run:
        assert run.step(step, slow, "zombie") == "heir"
        run.step("next", int, 1)
    assert everything(server_url, run_id) == before[0]


def test_a_fenced_off_workers_paid_call_is_booked_as_waste(server_url: str, run_id: str) -> None:
    def paid() -> dict[str, Any]:
        ask(server_url, "DEL", keys_of(run_id).lease(head_of(server_url, run_id)))
        with ac.run(run_id, store=server_url):
            pass
        return {"usage": {"input_tokens": 1_000_000, "output_tokens": 0}}

    prices = {"m": ac.Price(input="1", output="1")}
    with pytest.raises(ac.LeaseLost) as caught, ac.run(run_id, store=server_url) as run:
        run.llm(ac.Step("s", model="m", prices=prices), paid)
    assert caught.value.value == {"usage": {"input_tokens": 1_000_000, "output_tokens": 0}}
    assert ac.get(run_id, store=server_url).cost.wasted == 1_000_000_000


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("how", ["the key", "its mark"])
def test_a_lost_key_is_named_and_not_bought_again(
    server_url: str, run_id: str, key: str, how: str
) -> None:
    with ac.run(run_id, store=server_url) as run:
        run.step("s", int, 1)
    name = getattr(keys_of(run_id), key)(head_of(server_url, run_id))
    if how == "the key":
        ask(server_url, "DEL", name)
    elif key == "log":
        ask(server_url, "LPOP", name)
    else:
        ask(server_url, "HDEL", name, "@")
    with pytest.raises(ac.CheckpointsLost), ac.run(run_id, store=server_url):
        pass


def test_a_key_that_is_evicted_under_a_worker_is_noticed_at_its_next_commit(
    server_url: str, run_id: str
) -> None:
    with pytest.raises(ac.CheckpointsLost) as caught, ac.run(run_id, store=server_url) as run:
        run.step("s", int, 1)
        ask(server_url, "DEL", keys_of(run_id).results(head_of(server_url, run_id)))
        run.step("t", int, 2)
    assert caught.value.value == 2


def test_a_missing_head_is_a_loss_and_not_a_new_run(server_url: str, run_id: str) -> None:
    with ac.run(run_id, store=server_url) as run:
        run.step("s", int, 1)
    ask(server_url, "DEL", keys_of(run_id).head)
    with pytest.raises(ac.CheckpointsLost, match="head"), ac.run(run_id, store=server_url):
        pass


def test_a_claim_removes_a_time_to_live(server_url: str, run_id: str) -> None:
    with ac.run(run_id, store=server_url) as run:
        run.step("s", int, 1)
    for key in KEYS:
        ask(server_url, "PEXPIRE", getattr(keys_of(run_id), key)(head_of(server_url, run_id)), 100_000)
    with ac.run(run_id, store=server_url) as run:
        run.step("s", int, 1)
    for key in KEYS:
        assert ask(server_url, "PTTL", getattr(keys_of(run_id), key)(head_of(server_url, run_id))) == -1


def test_a_total_that_is_not_the_sum_is_mended_and_said(server_url: str, run_id: str) -> None:
    with ac.run(run_id, store=server_url) as run:
        run.step("s", int, 1)
    ask(server_url, "HINCRBY", keys_of(run_id).meta(head_of(server_url, run_id)), "paid", 999)
    with pytest.warns(ac.AgentCheckpointWarning, match="totals"), ac.run(run_id, store=server_url) as run:
        run.step("s", int, 1)
    assert ask(server_url, "HGET", keys_of(run_id).meta(head_of(server_url, run_id)), "paid") == b"0"
    assert run.cost.spent == 0


def test_a_foreign_value_under_a_key_is_corrupt_and_not_overwritten(server_url: str, run_id: str) -> None:
    with ac.run(run_id, store=server_url) as run:
        run.step("s", int, 1)
    name = keys_of(run_id).meta(head_of(server_url, run_id))
    ask(server_url, "DEL", name)
    ask(server_url, "SET", name, "somebody's")
    with pytest.raises((ac.CheckpointCorrupt, ac.CheckpointsLost)), ac.run(run_id, store=server_url):
        pass


def test_a_deleted_run_leaves_a_tombstone_and_nothing_else(server_url: str, run_id: str) -> None:
    for _ in range(3):
        with ac.run(run_id, store=server_url) as run:
            run.step("s", int, 1)
    ac.delete(run_id, store=server_url)
    left = ask(server_url, "KEYS", f"ac:{{{keys_of(run_id).tag}}}:*")
    assert left == [keys_of(run_id).tomb.encode()]
    with pytest.raises(ac.RunDeleted), ac.run(run_id, store=server_url):
        pass
    with pytest.raises(ac.RunNotFound):
        ac.get(run_id, store=server_url)


def test_all_keys_of_a_run_share_one_slot(server_url: str, run_id: str) -> None:
    from redis.crc import key_slot

    with ac.run(run_id, store=server_url) as run:
        run.llm("s", lambda: {"usage": {"input_tokens": 1}})
        names = ask(server_url, "KEYS", f"ac:{{{keys_of(run_id).tag}}}:*")
    assert len(names) >= 6
    assert len({key_slot(name) for name in names}) == 1


def test_a_lease_is_renewed_while_the_loop_is_blocked(server_url: str, run_id: str) -> None:
    async def blocks() -> None:
        async with ac.run(run_id, store=server_url, lease=0.3) as run:
            lease = keys_of(run_id).lease(head_of(server_url, run_id))
            time.sleep(0.8)
            until(lambda: ask(server_url, "EXISTS", lease) == 1, "it is renewed after it would have run out")
            run._attempt.fence.ttl_ms = 900_000  # the next renewal's: from then on a slow machine must not lose it
            until(lambda: ask(server_url, "PTTL", lease) > 300, "it is renewed again")
            with pytest.raises(ac.RunBusy):
                await asyncio.to_thread(_open, server_url, run_id)

    asyncio.run(blocks())


def _open(url: str, run_id: str) -> None:
    with ac.run(run_id, store=url):
        pass
