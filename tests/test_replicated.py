"""``durability="replicated"`` on real servers: a write waits for its replica, and what becomes of it without."""

from __future__ import annotations

import os
import signal
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from faults.clusters import Listening, free_ports
from faults.servers import until
from moving import PRICE
from servers import REAL

import agentcheckpoint as ac
from agentcheckpoint.store.wire import Wire


class Both:
    """A primary and its replica."""

    def __init__(self, primary: Listening, replica: Listening) -> None:
        self.primary, self.replica = primary, replica
        replica.ask("REPLICAOF", "127.0.0.1", primary.port)
        until(lambda: replica.info("replication", "master_link_status") == "up", "the replica is linked")
        until(lambda: "state=online" in primary.info("replication", "slave0"), "the primary knows it")

    @contextmanager
    def replica_stopped(self) -> Iterator[None]:
        os.kill(self.replica.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.replica.pid, signal.SIGCONT)


@pytest.fixture(params=REAL)
def both(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Both]:
    ports = free_ports(2)
    with ExitStack() as stack:
        primary, replica = (
            stack.enter_context(Listening(request.param, tmp_path / str(port), port, {})) for port in ports
        )
        yield Both(primary, replica)


def buy(calls: list[int]) -> dict[str, Any]:
    calls.append(1)
    return {**PRICE, "n": len(calls)}


STEP = ac.Step("buy", provider="openai", ignore=("calls",))


def test_a_write_waits_for_the_replica_in_its_own_packet(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    packets: list[list[str]] = []
    exchange = Wire.exchange

    def noted(wire: Wire, commands: Any) -> Any:
        packets.append([str(command[0]) for command in commands])
        return exchange(wire, commands)

    monkeypatch.setattr(Wire, "exchange", noted)
    store = ac.connect(both.primary.url, durability="replicated")
    with ac.run("r", store=store) as run:
        packets.clear()
        run.llm(STEP, buy, [])
        assert [(words[0], *words[-2:]) for words in packets] == [("MULTI", "EXEC", "WAIT")] * 2
        run.step("plain", lambda: 1)
        assert len(packets) == 3
    offsets = [one.info("replication", "master_repl_offset") for one in (both.primary, both.replica)]
    assert store.replicas == 1 and offsets[0] == offsets[1]


def test_what_no_replica_has_is_recorded_said_once_and_not_paid_again(both: Both) -> None:
    store = ac.connect(both.primary.url, durability="replicated")
    calls: list[int] = []
    with both.replica_stopped(), warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        with ac.run("r", store=store) as run:
            assert run.llm(STEP, buy, calls)["n"] == 1
            assert run.step("plain", lambda: 1) == 1
    assert [str(one.message).partition(":")[0] for one in said if issubclass(one.category, ac.DurabilityWarning)] == [
        "replicas that have acknowledged a write within 1 s"
    ]
    with ac.run("r", store=store) as run:
        assert run.llm(STEP, buy, calls)["n"] == 1
        assert run.step("plain", lambda: 2) == 1
    assert calls == [1]


def test_a_warning_that_is_made_an_error_ends_the_attempt_before_the_next_payment(both: Both) -> None:
    store = ac.connect(both.primary.url, durability="replicated")
    calls: list[int] = []
    with pytest.raises(ac.DurabilityWarning), ac.run("r", store=store) as run, both.replica_stopped():
        run.llm(STEP, buy, calls)
    assert calls == []  # its intent was not acknowledged
    with pytest.raises(ac.DurabilityWarning), ac.run("r", store=store) as run:
        run.llm(STEP, buy, calls)
        with both.replica_stopped():
            run.step("plain", lambda: 1)
    with ac.run("r", store=store) as run:
        assert run.llm(STEP, buy, calls)["n"] == 1
        assert run.step("plain", lambda: 2) == 1  # what it was raised after is recorded
    assert calls == [1]


def test_without_it_nobody_says_that_the_replica_has_nothing(both: Both) -> None:
    """The negative control: the same, and the replica is not waited for."""
    with both.replica_stopped(), ac.run("r", store=both.primary.url) as run:
        run.llm(STEP, buy, [])


def test_too_few_replicas_are_named_when_it_is_connected(both: Both) -> None:
    with pytest.warns(ac.DurabilityWarning, match=r"wait for 2 replica\(s\), and 1 are connected"):
        store = ac.connect(both.primary.url, durability="replicated", replicas=2)
    assert ac.connect(store) is store
    with pytest.raises(ac.InvalidStore, match="waits for 2"):
        ac.connect(store, durability="replicated", replicas=3)


@pytest.mark.parametrize("terms", [{"durability": "replicas"}, {"durability": "replicated", "replicas": 0}])
def test_terms_that_mean_nothing_are_refused(terms: dict[str, Any]) -> None:
    with pytest.raises(ac.InvalidStore, match="replicated"):
        ac.connect("memory://", **terms)
