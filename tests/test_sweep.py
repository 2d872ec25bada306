"""Finding runs that are due: dead workers', interrupted, timed, submitted ones; once, by several at once, and again."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from memory_runs import ask, fresh, packets

import agentcheckpoint as ac
from agentcheckpoint.core.ids import run_tag
from agentcheckpoint.store import leases
from agentcheckpoint.store.holder import this_process
from agentcheckpoint.store.keys import RunKeys, due_key

DUE = due_key("default")


@ac.agent
def agent(question: str) -> str:
    return question.upper()


def submitted(url: str, *run_ids: str) -> None:
    for run_id in run_ids:
        agent.using(store=url).submit(run_id, "q")


def left_by_the_dead(url: str, run_id: str, lease: float) -> None:
    """A run whose worker said nothing before it ended: its lease runs, and then it has run out."""
    opener = ac.run(run_id, store=url, lease=lease)
    run = opener.__enter__()
    run._attempt.open = False  # nobody renews its lease any more
    with run._attempt.lease_lock:
        pass


def test_what_is_due_is_found_and_what_is_not_is_left() -> None:
    url = fresh()
    submitted(url, "a", "b")
    assert ac.work_on(agent, "a", store=url) == ac.Worked("completed", None, None)
    with pytest.raises(ac.Interrupted), ac.run("interrupted", store=url):
        raise ac.Interrupted
    for run_id, until in (("past", 1), ("future", 2**52)):
        with pytest.raises(ac.Suspended), ac.run(run_id, store=url):
            raise ac.Suspended("", until_ms=until)
    with pytest.raises(ac.Suspended), ac.run("unanswered", store=url):
        raise ac.Suspended
    with pytest.raises(ValueError), ac.run("failed", store=url):
        raise ValueError
    with ac.run("open", store=url):
        found = ac.sweep(store=url)
    assert found.due == {"b": "agent"} and sorted(found.unowned) == ["interrupted", "past"]
    assert not found.cancelled and not found.unreadable


def test_a_dead_workers_run_is_found_when_its_lease_has_run_out(monkeypatch: pytest.MonkeyPatch) -> None:
    url = fresh()
    left_by_the_dead(url, "r", 0.5)
    assert ac.sweep(store=url) == ac.Swept()
    began = time.monotonic()
    while not (found := ac.sweep(store=url)).unowned:
        assert time.monotonic() - began < 10
        time.sleep(0.02)
    assert found.unowned == ["r"]


def test_a_run_whose_worker_is_provably_dead_is_found_before_its_lease_has_run_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = fresh()
    left_by_the_dead(url, "r", 60)
    with ac.run("alive", store=url, lease=60):
        assert ac.sweep(store=url) == ac.Swept()
        this = this_process().model_copy(update={"start": 1, "note": "another"})  # a process that had this pid before
        keys = RunKeys(run_tag("default", "r"))
        ask(url, "SET", keys.lease(ask(url, "GET", keys.head).decode()), this.model_dump_json(), "PX", "60000")
        assert ac.sweep(store=url) == ac.Swept(unowned=["r"])


def test_a_lease_that_was_renewed_is_no_dead_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """The list still says what the opening had noted; the run itself says that it is held."""
    url = fresh()
    with ac.run("r", store=url, lease=0.3):
        time.sleep(0.6)
        assert ac.sweep(store=url) == ac.Swept(later=1)
        assert ac.sweep(store=url) == ac.Swept(), "it is looked at again when the lease may have run out"


def test_a_run_is_handed_over_once_by_several_sweeps_at_once_and_again_later() -> None:
    url, handed, lock = fresh(), list[str](), threading.Lock()
    submitted(url, *(f"r{n}" for n in range(20)))

    def hand_over(run_id: str, name: str) -> None:
        assert name == "agent"
        with lock:
            handed.append(run_id)

    sweeps = [threading.Thread(target=ac.sweep, kwargs={"store": url, "hand_over": hand_over}) for _ in range(4)]
    for one in sweeps:
        one.start()
    for one in sweeps:
        one.join()
    assert sorted(handed) == sorted({*handed}) and len(handed) == 20
    assert not ac.sweep(store=url, hand_over=hand_over).due
    ac.sweep(store=url, hand_over=hand_over, again=0.01)
    submitted(url, "late")
    ac.sweep(store=url, hand_over=hand_over, again=0.01)
    time.sleep(0.05)
    ac.sweep(store=url, hand_over=hand_over)
    assert handed.count("late") == 2, "nobody had begun it"


def test_a_hand_over_that_fails_is_made_good_for_later() -> None:
    url = fresh()
    submitted(url, "r")

    def broken(*_: str) -> None:
        raise ConnectionError("no broker")

    with pytest.raises(ConnectionError):
        ac.sweep(store=url, hand_over=broken, again=0.05)
    time.sleep(0.1)
    assert ac.sweep(store=url).due == {"r": "agent"}


def test_a_newer_note_is_not_overwritten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody notes the run while a sweep looks at it: what he has noted stays."""
    from agentcheckpoint.jobs import looking

    url = fresh()
    with pytest.raises(ac.Suspended), ac.run("r", store=url):
        raise ac.Suspended("", until_ms=2**52)
    ask(url, "ZADD", DUE, "1", "r")
    looks = looking.standing_of

    def while_it_is_answered(*args: Any) -> Any:
        seen = yield from looks(*args)
        ask(url, "ZADD", DUE, "2", "r")
        return seen

    monkeypatch.setattr(looking, "standing_of", while_it_is_answered)
    assert ac.sweep(store=url).later == 1
    assert ask(url, "ZSCORE", DUE, "r") == b"2"


def test_a_run_whose_end_was_asked_for_is_ended_when_its_worker_has_died(monkeypatch: pytest.MonkeyPatch) -> None:
    url = fresh()
    left_by_the_dead(url, "r", 0.3)
    monkeypatch.setattr(leases, "provably_dead", lambda _: False)
    assert ac.cancel("r", store=url) is False
    time.sleep(0.5)
    assert ac.sweep(store=url).cancelled == ["r"]
    assert ac.get("r", store=url).state == "cancelled"
    assert ac.sweep(store=url) == ac.Swept()


def test_lost_hints_are_found_again_and_only_these() -> None:
    url = fresh()
    submitted(url, "lost", "done")
    ac.work_on(agent, "done", store=url)
    with pytest.raises(ac.Suspended), ac.run("unanswered", store=url):
        raise ac.Suspended
    with pytest.raises(ValueError), ac.run("failed", store=url):
        raise ValueError
    ask(url, "DEL", DUE)
    assert ac.sweep(store=url) == ac.Swept()
    assert ac.sweep(store=url, all=True) == ac.Swept(due={"lost": "agent"}, relisted=1)


def test_what_is_no_run_or_cannot_be_read_stops_nobody() -> None:
    url = fresh()
    submitted(url, "good", "damaged", "deleted")
    ac.delete("deleted", store=url)
    keys = RunKeys(run_tag("default", "damaged"))
    ask(url, "HSET", keys.meta(ask(url, "GET", keys.head).decode()), "state", "odd")
    ask(url, "ZADD", DUE, "1", "\x00", "1", "missing", "1", "deleted")
    found = ac.sweep(store=url)
    assert found.due == {"good": "agent"}
    assert isinstance(found.unreadable["damaged"], ac.CheckpointCorrupt)
    assert sorted(ask(url, "ZRANGE", DUE, "0", "-1")) == [b"damaged", b"good"]


def test_a_sweep_takes_a_bounded_number_of_packets(monkeypatch: pytest.MonkeyPatch) -> None:
    url = fresh()
    submitted(url, *(f"r{n}" for n in range(30)))
    with packets(monkeypatch) as sent:
        found = ac.sweep(store=url, limit=10, hand_over=lambda *_: None)
    assert len(found.due) == 10 and found.more
    assert len(sent) == 1 + 10 * 4, "the list; of each run its head, how it stands, and a note with its watch"
