"""``ac.prune``: finished runs go when they are old enough, live ones never do, whatever happens meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from faults.servers import Server
from hypothesis import given, settings
from hypothesis import strategies as st
from killed_packets import killed, moments
from memory_runs import fresh, packets
from old_runs import DAY, ask, at_the_deletion, buy, keys_of, old_run, paid, put_back, stored
from servers import REAL

import agentcheckpoint as ac
from agentcheckpoint import retention
from agentcheckpoint.core.models import SCHEMA
from agentcheckpoint.store.effects import Lost
from agentcheckpoint.store.index import listed_runs
from agentcheckpoint.store.keys import index_key, kept_index_key
from agentcheckpoint.store.wire import Wire

pytestmark = pytest.mark.filterwarnings("ignore::agentcheckpoint.errors.DurabilityWarning")

STATES = ("running", "retryable", "waiting", "interrupted", "completed", "failed", "cancelled")
LIVE = STATES[:4]
NOW = timedelta(0)


def is_there(url: str, run_id: str) -> bool:
    try:
        ac.get(run_id, store=url)
    except ac.RunNotFound:
        return False
    return True


def listed(url: str) -> list[str]:
    return list(listed_runs(ac.connect(url), "default"))


# -- what goes, and what stays ----------------------------------------------------------------------------------------


def test_finished_runs_go_after_thirty_days_and_what_was_freed_is_told_by_state() -> None:
    url = fresh()
    old_run(url, "old")
    old_run(url, "older", 400)
    old_run(url, "lost", state="failed")
    old_run(url, "young", 29)
    sizes = {name: ac.get(name, store=url).size.total for name in ("old", "older", "lost")}
    done = ac.prune(store=url)
    assert {state: (freed.runs, freed.bytes) for state, freed in done.states.items()} == {
        "completed": (2, sizes["old"] + sizes["older"]),
        "failed": (1, sizes["lost"]),
    }
    assert (done.runs, done.bytes, done.skipped) == (3, sum(sizes.values()), ())
    assert listed(url) == ["young"] and is_there(url, "young")
    assert [list(stored(url, name)) for name in sizes] == [["tomb"]] * 3
    assert str(done).splitlines()[0].startswith("deleted 3 runs, ") and "  failed: 1 run" in str(done)
    assert ac.prune(store=url).runs == 0


def test_a_deleted_runs_id_stays_taken() -> None:
    url = fresh()
    old_run(url, "r")
    ac.prune(store=url)
    with pytest.raises(ac.RunDeleted), ac.run("r", store=url):
        pass


def test_each_state_has_an_age_of_its_own_and_none_is_for_ever() -> None:
    url = fresh()
    for state in ("completed", "failed", "cancelled"):
        old_run(url, state, 8, state)
    assert ac.prune(completed=None, failed=None, cancelled=None, store=url).runs == 0
    done = ac.prune(completed=timedelta(days=7), failed=None, store=url)
    assert list(done.states) == ["completed"] and sorted(listed(url)) == ["cancelled", "failed"]


@pytest.mark.parametrize("wrong", [timedelta(-1), 30, "30d", True])
def test_what_is_no_age_is_refused_before_anything_is_read(wrong: Any) -> None:
    with pytest.raises(ac.RunMisuse, match="failed="):
        ac.prune(failed=wrong, store=fresh())


@settings(max_examples=40, deadline=None)
@given(
    runs=st.lists(st.tuples(st.sampled_from(STATES), st.integers(0, 5)), min_size=1, max_size=6),
    ages=st.fixed_dictionaries(
        {state: st.none() | st.integers(0, 5) for state in ("completed", "failed", "cancelled")}
    ),
    options=st.fixed_dictionaries({"keep_ledger": st.booleans(), "dry_run": st.booleans()}),
    wrong_lines=st.booleans(),
)
def test_what_is_deleted_is_finished_and_old_enough_and_nothing_else_is(
    runs: list[tuple[str, int]], ages: dict[str, int | None], options: dict[str, bool], wrong_lines: bool
) -> None:
    url = fresh()
    for n, (state, days) in enumerate(runs):
        old_run(url, f"r{n}", days + 0.5, state)
        if wrong_lines:  # the list is a hint
            ask(url, "ZADD", index_key("default"), 0, f"r{n}")
    done = ac.prune(
        store=url,
        **{state: None if age is None else timedelta(days=age) for state, age in ages.items()},
        **options,  # type: ignore[arg-type]
    )
    due = {f"r{n}" for n, (state, days) in enumerate(runs) if (age := ages.get(state)) is not None and days >= age}
    gone = {f"r{n}" for n in range(len(runs)) if not is_there(url, f"r{n}")}
    assert gone == (set() if options["dry_run"] else due)
    assert done.runs == len(due) and not done.skipped


def test_no_key_of_a_run_ever_has_a_time_to_live_but_its_lease() -> None:
    url = fresh()
    old_run(url, "r", 1)
    with ac.run("r", store=url) as run:
        run.llm(paid("think"), buy)
        names = stored(url, "r")
        assert [name for name in names if ask(url, "PTTL", f"ac:{{{keys_of('r').tag}}}:{name}") != -1] == [
            name for name in names if name.endswith(":lease")
        ]


def test_a_dry_run_deletes_nothing_and_says_what_would_go() -> None:
    url = fresh()
    old_run(url, "r")
    before = stored(url, "r")
    would = ac.prune(dry_run=True, keep_ledger=True, store=url)
    assert stored(url, "r") == before and listed(url) == ["r"]
    assert str(would).startswith("would delete 1 run, ") and "keep their ledgers" in str(would)
    assert ac.prune(keep_ledger=True, store=url).states == would.states


def test_a_limit_takes_those_first_that_were_opened_longest_ago() -> None:
    url = fresh()
    for n in range(5):
        old_run(url, f"r{n}", 40 + n)
    assert ac.prune(limit=2, store=url).runs == 2
    assert listed(url) == ["r2", "r1", "r0"]
    with pytest.raises(ac.RunMisuse, match="limit"):
        ac.prune(limit=-1, store=url)


def test_namespaces_are_pruned_apart() -> None:
    url = fresh()
    with ac.run("r", store=url, namespace="other"):
        pass
    assert ac.prune(completed=NOW, store=url).runs == 0
    assert ac.prune(completed=NOW, store=url, namespace="other").runs == 1


# -- what cannot be read ----------------------------------------------------------------------------------------------


def newer(url: str) -> None:
    keys = keys_of("r")
    ask(url, "HSET", keys.meta(ask(url, "GET", keys.head).decode()), "schema", SCHEMA + 1)


def damaged(url: str) -> None:
    keys = keys_of("r")
    ask(url, "LSET", keys.log(ask(url, "GET", keys.head).decode()), 1, "{")


def evicted(url: str) -> None:
    keys = keys_of("r")
    ask(url, "DEL", keys.results(ask(url, "GET", keys.head).decode()))


def foreign(url: str) -> None:
    keys = keys_of("r")
    ask(url, "DEL", keys.head)
    ask(url, "RPUSH", keys.head, "x")


def headless(url: str) -> None:
    ask(url, "DEL", keys_of("r").head)


def never_expiring(url: str) -> None:
    keys = keys_of("r")
    ask(url, "SET", keys.lease(ask(url, "GET", keys.head).decode()), "x")


@pytest.mark.parametrize("harm", [newer, damaged, evicted, foreign, headless, never_expiring])
def test_a_run_that_cannot_be_read_is_skipped_and_told_and_the_others_go(harm: Callable[[str], None]) -> None:
    url = fresh()
    old_run(url, "r")
    harm(url)
    before = stored(url, "r")
    old_run(url, "good")
    done = ac.prune(store=url)
    assert done.runs == 1 and not is_there(url, "good")
    ((run_id, why),) = [(one.run, one.why) for one in done.skipped]
    assert run_id == "r" and "run 'r'" in why and f"skipped 'r': {why}" in str(done)
    assert stored(url, "r") == before and listed(url) == ["r"]


def test_a_line_that_is_no_run_stays_unless_it_was_deleted() -> None:
    url = fresh()
    ask(url, "ZADD", index_key("default"), 1, "not there", 1, "bad\x01name")
    old_run(url, "r")
    ac.delete("r", store=url)
    ask(url, "ZADD", index_key("default"), 1, "r")
    done = ac.prune(store=url)
    assert [one.run for one in done.skipped] == ["bad\x01name"] and sorted(listed(url)) == ["bad\x01name", "not there"]


# -- at the same moment -----------------------------------------------------------------------------------------------


def test_a_completed_run_that_somebody_replays_is_in_use() -> None:
    url = fresh()
    old_run(url, "r")
    with ac.run("r", store=url) as run:
        put_back(url, "r", "completed", 31)
        done = ac.prune(store=url)
        assert [(one.run, one.why) for one in done.skipped] == [("r", retention.IN_USE)]
        run.llm(paid("think"), buy)


def opened(url: str) -> None:
    ac.run("r", store=url).__enter__()


def replayed(url: str) -> None:
    with ac.run("r", store=url) as run:
        run.llm(paid("think"), buy)


def continued(url: str) -> None:
    with pytest.raises(KeyError), ac.run("r", store=url) as run:
        run.llm(paid("more"), buy)
        raise KeyError


MOMENTS = pytest.mark.parametrize("happens", [opened, replayed, continued])


@MOMENTS
@pytest.mark.parametrize("binary", [None, *REAL])
def test_a_run_that_is_opened_between_the_look_and_the_deletion_stays(
    happens: Callable[[str], None], binary: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if binary is None:
        assert pruned_while(fresh(), happens, monkeypatch) == (0, True)
    else:
        with Server(binary, tmp_path) as server:
            assert pruned_while(server.url, happens, monkeypatch) == (0, True)


@MOMENTS
def test_without_the_watch_it_would_go(happens: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    assert pruned_while(fresh(), happens, monkeypatch, watching=False) == (1, False)


def pruned_while(
    url: str, happens: Callable[[str], None], patch: pytest.MonkeyPatch, watching: bool = True
) -> tuple[int, bool]:
    """How many runs a prune deleted though this happened right before, and whether the run is there."""
    old_run(url, "r")
    at_the_deletion(patch, lambda: happens(url), watching=watching)
    return ac.prune(store=url).runs, is_there(url, "r")


def test_a_late_commit_of_a_worker_whose_lease_ran_out_keeps_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    url = fresh()
    old_run(url, "r")
    paused = ac.run("r", store=url).__enter__()
    put_back(url, "r", "completed", 31)
    keys = keys_of("r")
    ask(url, "DEL", keys.lease(ask(url, "GET", keys.head).decode()))
    at_the_deletion(monkeypatch, lambda: paused.llm(paid("late"), buy))
    assert ac.prune(store=url).runs == 0
    assert ac.get("r", store=url).state == "running" and ac.get("r", store=url).cost.paid == 2 * 10**9


def test_a_late_commit_after_the_prune_lands_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    url = fresh()
    old_run(url, "r")
    paused = ac.run("r", store=url).__enter__()
    put_back(url, "r", "completed", 31)
    keys = keys_of("r")
    ask(url, "DEL", keys.lease(ask(url, "GET", keys.head).decode()))
    assert ac.prune(store=url, keep_ledger=True).runs == 1
    before = stored(url, "r")
    with pytest.raises(ac.RunDeleted):
        paused.step("late", buy)
    assert stored(url, "r") == before and sorted(before) == ["kept", "tomb"]


@pytest.mark.parametrize("binary", REAL)
def test_two_prunes_at_once_delete_each_run_once(binary: str, tmp_path: Path) -> None:
    with Server(binary, tmp_path) as server:
        for n in range(30):
            old_run(server.url, f"r{n}")
        found: list[ac.Pruned] = []
        both = [threading.Thread(target=lambda: found.append(ac.prune(store=server.url))) for _ in range(2)]
        for one in both:
            one.start()
        for one in both:
            one.join(60)
        assert sum(done.runs for done in found) == 30 and not [one for done in found for one in done.skipped]
        assert listed(server.url) == []


def test_a_deletion_whose_reply_was_lost_is_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    url = fresh()
    old_run(url, "r")
    exchange, lost = Wire.exchange, [True]

    def losing(wire: Wire, commands: Any) -> Any:
        replies = exchange(wire, commands)
        if commands[0] == ("MULTI",) and str(commands[1][1]).endswith(":tomb") and lost:
            lost.pop()
            wire.close()
            raise Lost("for a test")
        return replies

    monkeypatch.setattr(Wire, "exchange", losing)
    assert ac.prune(store=url, keep_ledger=True).runs == 1 and lost == []
    assert ac.costs(store=url).total.paid == 10**9


# -- killed -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("binary", REAL)
def test_a_prune_that_is_killed_at_any_packet_leaves_whole_runs_and_can_be_made_again(
    binary: str, tmp_path: Path
) -> None:
    runs, deaths = ["a", "b"], 0
    with Server(binary, tmp_path) as server:
        ac.connect(server.url)
        for at in moments():
            names = [f"{name}{at}" for name in runs]
            for name in names:
                old_run(server.url, name)
            old = ac.costs(store=server.url).total
            died = killed(at, lambda: ac.prune(store=server.url, keep_ledger=True))
            deaths += died
            for name in names:
                if not is_there(server.url, name):
                    assert sorted(stored(server.url, name)) == ["kept", "tomb"]
            assert spent(ac.costs(store=server.url)) == spent_of(old)
            ac.prune(store=server.url, keep_ledger=True)
            assert [sorted(stored(server.url, name)) for name in names] == [["kept", "tomb"]] * len(runs)
            assert listed(server.url) == [] and spent(ac.costs(store=server.url)) == spent_of(old)
            if not died:
                break
        assert set(listed_runs(ac.connect(server.url), "default", key_of=kept_index_key)) >= set(names)
    assert deaths >= 6 * len(runs)


def spent(table: ac.CostTable) -> tuple[int, int, int | None]:
    return spent_of(table.total)


def spent_of(row: Any) -> tuple[int, int, int | None]:
    return row.runs, row.attempts, row.paid


# -- how much is asked ------------------------------------------------------------------------------------------------


def test_runs_that_are_not_due_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    url = fresh()
    for n in range(7):
        old_run(url, f"live{n}", 31, LIVE[n % 4])
        old_run(url, f"young{n}", 1)
    monkeypatch.setattr(retention, "PAGE", 3)
    with packets(monkeypatch) as sent:
        assert ac.prune(store=url).runs == 0
    assert len(sent) == 2 + 2 * 3, "the time, the list, and two packets for each page of those opened long ago"


def test_an_age_is_counted_from_the_end_of_the_last_attempt() -> None:
    url = fresh()
    old_run(url, "r", 31)
    replayed(url)
    ask(url, "ZINCRBY", index_key("default"), -31 * DAY, "r")
    assert ac.prune(store=url).runs == 0 and is_there(url, "r")
