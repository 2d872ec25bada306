"""The list of a namespace's runs: a hint beside the runs, in pages, that each opening writes anew."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import redis
from faults.servers import Server
from memory_runs import ask, fresh, packets
from servers import REAL

import agentcheckpoint as ac
from agentcheckpoint.store import index
from agentcheckpoint.store.effects import Lost
from agentcheckpoint.store.index import listed_runs, listed_since, rebuild
from agentcheckpoint.store.keys import index_key
from agentcheckpoint.store.wire import Wire

KEY = index_key("default")

pytestmark = pytest.mark.filterwarnings("ignore::agentcheckpoint.errors.DurabilityWarning")


def run_once(url: str, *names: str, namespace: str = "default") -> None:
    for name in names:
        with ac.run(name, store=url, namespace=namespace):
            pass


def listed(url: str, namespace: str = "default") -> list[str]:
    return list(listed_runs(ac.connect(url), namespace))


def test_a_run_is_listed_when_it_is_opened_and_moves_on_when_it_is_opened_again() -> None:
    url = fresh()
    with ac.run("a", store=url):
        assert listed(url) == ["a"]
    ask(url, "ZADD", KEY, "1000", "a")
    run_once(url, "b")
    assert listed(url) == ["a", "b"]
    run_once(url, "a")
    (first, second) = ac.connect(url).run(listed_since("default", 0, 9))
    assert (first.run_id, second.run_id) == ("b", "a") and first.at_ms <= second.at_ms


async def test_an_async_run_is_listed_too() -> None:
    url = fresh()
    async with ac.run("a", store=url):
        pass
    assert ask(url, "ZCARD", KEY) == 1


def test_namespaces_have_lists_of_their_own() -> None:
    url = fresh()
    run_once(url, "a")
    run_once(url, "b", namespace="team_b-1")
    assert (listed(url), listed(url, "team_b-1"), listed(url, "none")) == (["a"], ["b"], [])


def test_a_deleted_run_is_listed_no_more_and_a_lost_word_of_it_is_made_good_by_another() -> None:
    url = fresh()
    run_once(url, "a", "b")
    ac.delete("a", store=url)
    assert listed(url) == ["b"]
    ask(url, "ZADD", KEY, "5", "a")
    time.sleep(0.002)  # a delete of the same millisecond would be taken for the first one, sent again
    with pytest.raises(ac.RunNotFound):
        ac.delete("a", store=url)
    assert listed(url) == ["b"]


def test_pages_are_bounded_and_lines_of_the_same_millisecond_are_all_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "PAGE", 3)
    url = fresh()
    names = [f"r{n:02}" for n in range(20)]
    for n, name in enumerate(names):
        ask(url, "ZADD", KEY, str(n // 7), name)
    with packets(monkeypatch) as sent:
        assert listed(url) == names
    assert len(sent) >= len(names) // (3 + 7)


def test_a_run_that_is_opened_while_the_list_is_read_is_neither_missed_nor_given_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(index, "PAGE", 2)
    url = fresh()
    for n in range(8):
        ask(url, "ZADD", KEY, str(n), f"r{n}")
    reading = listed_runs(ac.connect(url), "default")
    seen = [next(reading)]
    for name in ("r0", "r6"):
        ask(url, "ZADD", KEY, "99", name)
    seen += reading
    assert sorted(seen) == [f"r{n}" for n in range(8)]


@pytest.fixture
def losing(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """What becomes of the next lines for the list: whether each is lost, in each of its tries. An empty list loses
    none."""
    losses: list[bool] = []
    exchange = Wire.exchange
    monkeypatch.setattr(index, "PAUSES", (0.0,))

    def exchanged(wire: Wire, commands: Any) -> Any:
        if commands[0][:2] == ("ZADD", KEY) and losses and losses.pop(0):
            wire.close()
            raise Lost("for a test")
        return exchange(wire, commands)

    monkeypatch.setattr(Wire, "exchange", exchanged)
    return losses


def test_a_lost_line_is_written_again_when_the_run_is_left(losing: list[bool]) -> None:
    url = fresh()
    losing[:] = [True]
    with ac.run("a", store=url) as run:
        assert listed(url) == []
        run.step("one", len, "abc")
    assert listed(url) == ["a"]


def test_a_list_that_never_hears_of_a_run_harms_no_run(losing: list[bool]) -> None:
    url = fresh()
    losing[:] = [True, True]
    run_once(url, "a")
    assert listed(url) == [] and ac.get("a", store=url).state == "completed"


def test_a_key_that_is_no_list_harms_no_run_and_is_named_when_it_is_read() -> None:
    url = fresh()
    ask(url, "SET", KEY, "somebody's")
    run_once(url, "a")
    assert ac.get("a", store=url).state == "completed"
    with pytest.raises(ac.StoreRefused, match=r"list of runs.*WRONGTYPE"):
        listed(url)
    ac.delete("a", store=url)


def test_no_step_sends_a_packet_for_the_list(monkeypatch: pytest.MonkeyPatch) -> None:
    url = fresh()
    with ac.run("a", store=url) as run, packets(monkeypatch) as sent:
        run.step("one", len, "abc")
    assert len(sent) == 1


@pytest.mark.parametrize("binary", REAL)
def test_the_list_is_kept_by_a_real_server_and_made_anew_from_the_runs(binary: str, tmp_path: Path) -> None:
    with Server(binary, tmp_path) as server, server.client() as admin:
        url = f"unix://{tmp_path}/socket"
        run_once(url, *(f"r{n}" for n in range(5)))
        run_once(url, "other", namespace="elsewhere")
        ac.delete("r4", store=url)
        before = admin.zrange(KEY, 0, -1, withscores=True)
        assert [name for name, _ in before] == [b"r0", b"r1", b"r2", b"r3"]
        admin.delete(KEY, index_key("elsewhere"))
        corrupt(admin, "r2")
        store = ac.connect(url)
        assert rebuild(store) == 4
        assert sorted(listed(url)) == ["r0", "r1", "r3"] and listed(url, "elsewhere") == ["other"]
        assert all(abs(at - dict(before)[name]) < 5000 for name, at in admin.zrange(KEY, 0, -1, withscores=True))


def corrupt(admin: redis.Redis, run_id: str) -> None:
    """Leaves a log that nobody can read."""
    from agentcheckpoint.core.ids import run_tag
    from agentcheckpoint.store.keys import RunKeys

    keys = RunKeys(run_tag("default", run_id))
    admin.lset(keys.log(admin.get(keys.head).decode()), 0, b"{")
