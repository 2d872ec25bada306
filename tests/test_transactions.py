"""Users' own Redis commands in the EXEC of a step's checkpoint."""

from __future__ import annotations

import functools
from typing import Any

import pytest
from memory_runs import ask, fresh, logged
from protocol.servers import embedded_url as embedded_url
from protocol.servers import redis_server as redis_server
from protocol.servers import run_id as run_id
from protocol.servers import server_url as server_url

import agentcheckpoint as ac
from agentcheckpoint.core.models import Done
from agentcheckpoint.store.effects import Lost
from agentcheckpoint.store.wire import Wire
from agentcheckpoint.transaction import AsyncTransaction, Transaction


def withdraw(tx: Transaction, key: str, amount: int) -> int:
    left = int(tx.read("GET", key) or 100) - amount
    tx.queue("SET", key, left)
    tx.queue("RPUSH", f"{key}:moves", amount)
    return left


def test_the_commands_and_the_checkpoint_are_applied_once(server_url: str, run_id: str) -> None:
    for _ in range(2):
        with ac.run(run_id, store=server_url) as run:
            assert run.transaction("withdraw", withdraw, run_id, 10) == 90
    assert ask(server_url, "GET", run_id) == b"90"
    assert ask(server_url, "LLEN", f"{run_id}:moves") == 1
    with pytest.raises(ac.StepMismatch), ac.run(run_id, store=server_url) as run:
        run.transaction("withdraw", withdraw, run_id, 20)


async def test_on_a_loop_it_is_the_same(server_url: str, run_id: str) -> None:
    async def withdraw(tx: AsyncTransaction, amount: int) -> int:
        left = int(await tx.read("GET", run_id) or 100) - amount
        tx.queue("SET", run_id, left)
        return left

    for _ in range(2):
        async with ac.run(run_id, store=server_url) as run:
            assert await run.transaction("withdraw", withdraw, 10) == 90
    assert ask(server_url, "GET", run_id) == b"90"


@pytest.mark.parametrize("bound", [{"args": (5,)}, {"keywords": {"amount": 5}}])
def test_what_a_partial_has_bound_is_handed_on(run_id: str, bound: dict[str, Any]) -> None:
    def take(amount: int, tx: Transaction, key: str) -> int:
        return withdraw(tx, key, amount)

    def give(tx: Transaction, key: str, amount: int = 1) -> int:
        return withdraw(tx, key, amount)

    fn = functools.partial(take, *bound["args"]) if "args" in bound else functools.partial(give, **bound["keywords"])
    for _ in range(2):
        with ac.run(run_id, store=f"memory://{run_id}") as run:
            assert run.transaction("withdraw", fn, "balance") == 95


def test_it_is_called_again_if_what_it_read_has_changed(server_url: str, run_id: str) -> None:
    calls: list[int] = []

    def contended(tx: Transaction) -> int:
        left = withdraw(tx, run_id, 10)
        if not calls:
            ask(server_url, "SET", run_id, "50")
        calls.append(left)
        return left

    with ac.run(run_id, store=server_url) as run:
        assert run.transaction("withdraw", contended) == 40
    assert calls == [90, 40]
    assert ask(server_url, "GET", run_id) == b"40"
    assert ask(server_url, "LLEN", f"{run_id}:moves") == 1
    assert len(logged(server_url, run_id, Done)) == 1


def test_it_is_not_called_for_ever() -> None:
    url = fresh()

    def hopeless(tx: Transaction) -> int:
        ask(url, "INCR", "n")
        tx.read("GET", "n")
        ask(url, "INCR", "n")
        tx.queue("SET", "done", "1")
        return 1

    with ac.run("r", store=url) as run, pytest.raises(ac.StoreUnavailable, match="16 times"):
        run.transaction("t", hopeless)
    assert ask(url, "GET", "done") is None


def _taken_over(url: str, run_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An heir takes the run while this worker is between its reads and its EXEC."""

    def slow(tx: Transaction) -> int:
        tx.read("GET", run_id)
        tx.queue("SET", run_id, "stale")
        with monkeypatch.context() as patch:
            patch.setattr("agentcheckpoint.taking.released_here", lambda _: True)
            with ac.run(run_id, store=url) as heir:
                heir.step("other", int, 1)
        return 1

    with pytest.raises(ac.LeaseLost), ac.run(run_id, store=url) as run:
        run.transaction("t", slow)


def test_the_commands_of_a_stale_worker_are_refused_whole(
    server_url: str, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _taken_over(server_url, run_id, monkeypatch)
    assert ask(server_url, "GET", run_id) is None


def test_without_a_watch_on_the_head_they_land(server_url: str, run_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control of the test above."""
    exchange = Wire.exchange

    def unwatched(wire: Wire, commands: Any) -> Any:
        if commands[0][0] == "WATCH" and commands[-1][0] == "INFO":
            return exchange(wire, (("ECHO", "not watched"), *commands[1:]))
        return exchange(wire, commands)

    monkeypatch.setattr(Wire, "exchange", unwatched)
    _taken_over(server_url, run_id, monkeypatch)
    assert ask(server_url, "GET", run_id) == b"stale"


@pytest.mark.parametrize("applied", [True, False])
def test_a_lost_reply_is_settled_and_nothing_is_applied_twice(
    server_url: str, run_id: str, monkeypatch: pytest.MonkeyPatch, applied: bool
) -> None:
    exchange, lost = Wire.exchange, list[bool]()

    def cut(wire: Wire, commands: Any) -> Any:
        if any(command[0] == "RPUSH" and command[1] == f"{run_id}:moves" for command in commands) and not lost:
            lost.append(True)
            if applied:
                exchange(wire, commands)
            wire.close()
            raise Lost("cut on purpose")
        return exchange(wire, commands)

    monkeypatch.setattr(Wire, "exchange", cut)
    with ac.run(run_id, store=server_url) as run:
        assert run.transaction("withdraw", withdraw, run_id, 10) == 90
    assert lost and ask(server_url, "LLEN", f"{run_id}:moves") == 1
    assert ask(server_url, "GET", run_id) == b"90"


def test_a_read_over_a_broken_connection_ends_the_transaction(
    server_url: str, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would connect again, and what was watched before would be watched no more."""

    def swallows(tx: Transaction) -> int:
        tx.read("GET", run_id)
        tx.line.wires[0].close()
        with pytest.raises(ac.StoreUnavailable):
            tx.read("GET", run_id)
        tx.queue("SET", run_id, "landed")
        return 1

    with ac.run(run_id, store=server_url) as run, pytest.raises(ac.StoreUnavailable):
        run.transaction("t", swallows)
    assert ask(server_url, "GET", run_id) is None


def test_after_a_read_over_a_broken_connection_it_is_called_again(server_url: str, run_id: str) -> None:
    calls: list[int] = []

    def once_cut(tx: Transaction, key: str) -> int:
        calls.append(1)
        if len(calls) == 1:
            tx.read("GET", key)
            tx.line.wires[0].close()
        return withdraw(tx, key, 10)

    with ac.run(run_id, store=server_url) as run:
        assert run.transaction("withdraw", once_cut, run_id) == 90
    assert len(calls) == 2 and ask(server_url, "LLEN", f"{run_id}:moves") == 1


def test_a_part_that_the_server_refuses_is_told_and_the_step_is_in_doubt(server_url: str, run_id: str) -> None:
    def wrong(tx: Transaction) -> int:
        tx.queue("SET", run_id, "text")
        tx.queue("LPUSH", run_id, "1")
        return 1

    with (
        pytest.raises(ac.CheckpointCorrupt, match=r"refused 1 of the 2.*LPUSH") as caught,
        ac.run(run_id, store=server_url) as run,
    ):
        run.transaction("t", wrong)
    assert caught.value.step == "t"
    assert ask(server_url, "GET", run_id) == b"text"
    with pytest.raises(ac.StepInDoubt), ac.run(run_id, store=server_url) as run:
        run.transaction("t", wrong)


def test_a_command_that_is_refused_when_it_is_queued_applies_nothing(server_url: str, run_id: str) -> None:
    def wrong(tx: Transaction) -> int:
        tx.queue("SET", run_id, "1")
        tx.queue("NOSUCH", run_id)
        return 1

    with ac.run(run_id, store=server_url) as run, pytest.raises(ac.StoreRefused, match="Nothing was applied"):
        run.transaction("t", wrong)
    assert ask(server_url, "GET", run_id) is None


def test_what_fails_in_it_leaves_nothing() -> None:
    """P9."""
    url = fresh()

    def fails(tx: Transaction) -> int:
        tx.queue("SET", "k", "1")
        raise ValueError("no")

    with ac.run("r", store=url) as run:
        with pytest.raises(ValueError, match="no"):
            run.transaction("t", fails)
        with pytest.raises(ac.RunMisuse, match="inside step 'u'"):
            run.transaction("u", lambda tx: run.step("inner", int, 1))
        for wrong, why in ((lambda tx: tx.read("SET", "k", 1), "none it knows"), (_exec, "EXEC"), (_own, "own")):
            with pytest.raises(ac.RunMisuse, match=why):
                run.transaction("v", wrong)
    assert ask(url, "GET", "k") is None
    assert logged(url, "r", Done) == []


def _exec(tx: Transaction) -> None:
    tx.queue("EXEC", "k")


def _own(tx: Transaction) -> None:
    tx.queue("SET", "ac:{x}:head", "1")


def test_on_a_cluster_a_key_of_another_slot_is_refused_before_anything_is_queued(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url, exchange = fresh(), Wire.exchange

    def clustered(wire: Wire, commands: Any) -> Any:
        replies = exchange(wire, commands)
        return [*replies[:-1], b"cluster_enabled:1"] if commands[-1] == ("INFO", "cluster") else replies

    monkeypatch.setattr(Wire, "exchange", clustered)

    def beside(tx: Transaction) -> str:
        tx.queue("SET", key := tx.key("balance"), 1)
        return key

    with ac.run("r", store=url) as run:
        with pytest.raises(ac.RunMisuse, match="another slot"):
            run.transaction("t", withdraw, "balance", 1)
        key = run.transaction("u", beside)
    assert ask(url, "GET", key) == b"1"
