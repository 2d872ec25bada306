"""A line that is cut, swallows replies, or is late; servers that die; callers that are interrupted."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from proxy import Fate, Proxy
from servers import RedisServer

import agentcheckpoint as ac
from agentcheckpoint.store import patience

SHORT = (0.01, 0.02, 0.05, 0.1, 0.2)


@pytest.fixture
def proxy(tmp_path: Path, redis_server: RedisServer) -> Iterator[Proxy]:
    made = Proxy(tmp_path, redis_server.socket)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "PAUSES", SHORT)


def store_of(proxy: Proxy, fate: Fate = "delay") -> ac.Store:
    """A store over a user's client with redis-py's own retries, which must not be used.

    Only where a reply is to come too late is it hurried: a slow machine must not make a fault of its own.
    """
    store = ac.connect(redis.Redis(unix_socket_path=proxy.path))
    if fate == "delay":
        store._dial.timeout = 0.3
    return store


def paid() -> dict[str, Any]:
    return {"usage": {"input_tokens": 1_000_000, "output_tokens": 0}}


PAID = ac.Step("s", model="m", prices={"m": ac.Price(input="1", output="1")})


def test_a_plain_pipeline_with_the_clients_own_retries_counts_a_cost_twice(proxy: Proxy) -> None:
    """The negative control: this is what the library must not do."""
    client = redis.Redis(unix_socket_path=proxy.path)
    client.delete("cost")
    proxy.arm(n1="cut after")
    pipeline = client.pipeline(transaction=True)
    pipeline.incrby("cost", 100)
    pipeline.execute()
    assert int(client.get("cost") or 0) == 200


@pytest.mark.parametrize("fate", ["cut before", "cut after", "delay"])
@pytest.mark.parametrize("nth", [1, 2], ids=["intent", "commit"])
def test_a_commit_on_a_bad_line_is_applied_once(proxy: Proxy, run_id: str, fate: Fate, nth: int) -> None:
    store = store_of(proxy, fate)
    calls: list[int] = []

    def call() -> dict[str, Any]:
        calls.append(1)
        return paid()

    with ac.run(run_id, store=store) as run:
        proxy.arm(**{f"n{nth}": fate})
        assert run.llm(PAID, call) == paid()
        assert not proxy.plan, "the fault has happened"
        run.step("next", int, 1)
    view = ac.get(run_id, store=store)
    assert calls == [1]
    assert view.cost.paid == 1_000_000_000 and view.cost.attempts == 1
    assert [row.slot for row in view.steps] == ["s", "next"]


@pytest.mark.parametrize("fate", ["cut before", "cut after", "delay"])
async def test_parallel_commits_on_a_bad_line_are_each_applied_once(
    proxy: Proxy, run_id: str, fate: Fate
) -> None:
    store = store_of(proxy, fate)
    async with ac.run(run_id, store=store) as run:
        proxy.arm(n1=fate)
        assert await asyncio.gather(*(run.step("s", int, n) for n in range(20))) == [*range(20)]
        assert not proxy.plan
    assert len(ac.get(run_id, store=store).steps) == 20


@pytest.mark.parametrize("fate", ["cut before", "cut after"])
def test_a_claim_on_a_bad_line_is_one_attempt(proxy: Proxy, run_id: str, fate: Fate) -> None:
    store = store_of(proxy, fate)
    proxy.arm(n1=fate)
    with ac.run(run_id, store=store) as run:
        assert run.attempt == 1
        run.step("s", int, 1)
    assert [entry.k for entry in ac.get(run_id, store=store).entries] == ["birth", "opened", "done", "closed"]


@pytest.mark.parametrize("durable", [True])
def test_a_server_that_is_killed_and_comes_back_has_all_that_was_acknowledged(
    redis_server: RedisServer, run_id: str, durable: bool
) -> None:
    store = ac.connect(redis_server.url)
    with ac.run(run_id, store=store) as run:
        for n in range(6):
            run.step("s", int, n)
            if n % 2:
                redis_server.kill()
                redis_server.start()
    assert len(ac.get(run_id, store=store).steps) == 6


def test_a_server_that_is_gone_for_good_leaves_the_paid_result_in_the_error(
    redis_server: RedisServer, run_id: str
) -> None:
    store = ac.connect(redis_server.url)

    def last() -> str:
        redis_server.kill()
        return "paid for"

    try:
        with pytest.raises((ac.StoreUnavailable, ac.CommitUnknown)) as caught, ac.run(run_id, store=store) as run:
            run.step("s", last)
        assert caught.value.value == "paid for"
    finally:
        redis_server.start()
    with ac.run(run_id, store=store) as run:
        assert run.step("s", lambda: "again") == "again"


async def test_three_cancellations_leave_nothing_half_known(proxy: Proxy, run_id: str) -> None:
    store = store_of(proxy)
    async with ac.run(run_id, store=store) as run:
        await run.step("first", int, 1)
        proxy.arm(n1="delay")
        task = asyncio.ensure_future(run.step("s", int, 2))
        while not proxy.struck.is_set():
            await asyncio.sleep(0.01)
        for _ in range(3):
            task.cancel()
            await asyncio.sleep(0.02)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert run._attempt.fence.settlement() is None
        assert await run.step("s", int, 2) == 2  # settled: replayed from its record, not run twice
    assert [row.slot for row in ac.get(run_id, store=store).steps] == ["first", "s"]


def test_ctrl_c_during_a_commit_is_heard_after_it(proxy: Proxy, run_id: str) -> None:
    store = store_of(proxy)

    def press() -> None:
        assert proxy.struck.wait(60)
        os.kill(os.getpid(), signal.SIGINT)

    interrupt = threading.Thread(target=press)
    with pytest.raises(KeyboardInterrupt), ac.run(run_id, store=store) as run:
        run.step("first", int, 1)
        proxy.arm(n1="delay")
        interrupt.start()
        run.step("s", int, 2)
        interrupt.join()  # on a slow machine it may come as late as here
    view = ac.get(run_id, store=store)
    assert [row.slot for row in view.steps if row.outcome == "done"] == ["first", "s"]
    assert view.state == "interrupted"


def test_a_forked_child_may_not_commit_and_its_parent_goes_on(
    redis_server: RedisServer, run_id: str
) -> None:
    with ac.run(run_id, store=redis_server.url) as run:
        run.step("a", int, 1)
        child = os.fork()
        if child == 0:
            try:
                run.step("b", int, 2)
            except ac.RunMisuse:
                os._exit(7)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        run.step("c", int, 3)
    assert [row.slot for row in ac.get(run_id, store=redis_server.url).steps] == ["a", "c"]


def test_a_server_that_wants_a_password_is_refused_before_anything_is_paid(tmp_path: Path) -> None:
    server = RedisServer(tmp_path)
    try:
        client = redis.Redis(unix_socket_path=server.socket)
        client.config_set("requirepass", "secret")
        with pytest.raises(ac.StoreRefused, match="password"):
            ac.connect(server.url)
        store = ac.connect(f"unix://:secret@{server.socket}")
        assert "secret" not in store.name
        with ac.run("r", store=store) as run:
            run.step("s", int, 1)
        client = redis.Redis(unix_socket_path=server.socket, password="secret")
        client.config_set("maxmemory-policy", "allkeys-lru")
        client.config_set("maxmemory", "100mb")
        with pytest.raises(ac.StoreRefused, match="allkeys"):
            ac.connect(redis.Redis(unix_socket_path=server.socket, password="secret"))
        with pytest.warns(ac.DurabilityWarning):
            ac.connect(redis.Redis(unix_socket_path=server.socket, password="secret"), allow_eviction=True)
    finally:
        server.kill()


def test_out_of_memory_loses_nothing_that_was_paid(tmp_path: Path) -> None:
    server = RedisServer(tmp_path)
    client = redis.Redis(unix_socket_path=server.socket)
    try:

        def filled() -> str:
            client.config_set("maxmemory", 1)
            return "paid for"

        with pytest.raises(ac.StoreRefused, match="memory") as caught, ac.run("r", store=server.url) as run:
            run.step("s", filled)
        assert caught.value.value == "paid for"
        client.config_set("maxmemory", 0)
        client.replicaof("127.0.0.1", 1)
        with pytest.raises(ac.StoreRefused, match="READONLY"), ac.run("r2", store=server.url):
            pass
    finally:
        server.kill()
