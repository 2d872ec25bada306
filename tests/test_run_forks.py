"""``ac.fork``, ``ac.rewind`` and ``ac.preview``: what is kept, what is paid again, and what is said beforehand."""

from __future__ import annotations

import asyncio
import itertools
import runpy
from collections import Counter
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from faults.fields import fields_of
from faults.servers import Server, binaries
from faults.stored import contents, put
from killed_packets import around, killed, moments
from memory_runs import ask, fresh, leased, logged
from pages import ROOT
from pydantic import BaseModel

import agentcheckpoint as ac
from agentcheckpoint.core.ids import run_tag
from agentcheckpoint.core.lifecycle import since_restart
from agentcheckpoint.core.models import Done, Inputs, Intent, Payload, Rewound
from agentcheckpoint.core.standing import find, rewound, standing, there_after
from agentcheckpoint.store import copying, whole
from agentcheckpoint.store.effects import Lost
from agentcheckpoint.store.keys import RunKeys
from agentcheckpoint.store.wire import Wire

pytestmark = [
    pytest.mark.filterwarnings("ignore::agentcheckpoint.errors.DurabilityWarning"),
    pytest.mark.filterwarnings("ignore::agentcheckpoint.errors.UnmetStepsWarning"),
]


class Plan(BaseModel):
    goal: str


calls: Counter[str] = Counter()


@pytest.fixture(autouse=True)
def uncalled() -> None:
    calls.clear()


def work(url: str, run_id: str = "run-1", **options: Any) -> tuple[Plan, list[str], str]:
    """A plan, two paid searches, and an answer that has a step inside of it and is paid for."""

    def plan(question: str) -> Plan:
        calls["plan"] += 1
        return Plan(goal=question)

    def search(place: str) -> str:
        calls["search"] += 1
        return f"found in {place}"

    def answer(found: list[str]) -> str:
        calls["answer"] += 1
        return run.step("polish", polish, ", ".join(found))

    def polish(text: str) -> str:
        calls["polish"] += 1
        return f"{text}, take {calls['polish']}"

    with ac.run(run_id, store=url, **options) as run:
        made = run.step("plan", plan, "why?")
        found = [run.step(ac.Step("search", key=k, cost="0.01"), search, k) for k in ("a", "b")]
        said = run.step("report", answer, found)
        run.step(ac.Step("send", cost="0.02"), lambda text: text, said)
        run.finish(said)
    return made, found, said


def stored(url: str, run_id: str) -> list[bytes]:
    return sorted(ask(url, "KEYS", f"ac:{{{run_tag('default', run_id)}}}:*"))


def spent(url: str, run_id: str) -> int:
    return ac.get(run_id, store=url).cost.spent


# -- forks ------------------------------------------------------------------------------------------------------------


def test_a_fork_pays_only_for_what_comes_after_and_says_what_it_saved() -> None:
    url = fresh()
    work(url)
    before = [ask(url, "DUMP", key.decode()) for key in stored(url, "run-1")]
    done = ac.fork("run-1", after="search[b]", as_="run-2", store=url)
    assert str(done).splitlines()[0] == (
        "fork of run-1 after search[b], as run-2: reuses 3 steps ($0.02), likely buys again 1 ($0.02), "
        "runs another 2 again"
    )
    assert (spent(url, "run-2"), ac.get("run-2", store=url).attempt) == (0, 0)
    made, _, said = work(url, "run-2")
    assert (made, said) == (Plan(goal="why?"), "found in a, found in b, take 2")
    assert calls == {"plan": 1, "search": 2, "answer": 2, "polish": 2}
    view = ac.get("run-2", store=url)
    assert (view.cost.spent, view.cost.saved, view.cost.replayed) == (20_000_000, 20_000_000, 3)
    assert view.origin is not None and (view.origin.run, view.origin.after) == ("run-1", "search[b]")
    assert "forked from run-1 after search[b]" in str(view)
    assert [ask(url, "DUMP", key.decode()) for key in stored(url, "run-1")] == before, "the parent is not touched"
    assert spent(url, "run-1") == 40_000_000


def test_without_the_records_the_fork_would_pay_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    url = fresh()
    work(url)
    monkeypatch.setattr("agentcheckpoint.forks.there_after", lambda records, target: [])
    ac.fork("run-1", after="search[b]", as_="run-2", store=url)
    work(url, "run-2")
    assert spent(url, "run-2") == 40_000_000 and calls["plan"] == 2


def test_an_override_is_replayed_in_type_and_is_seen_as_one() -> None:
    url = fresh()
    work(url)
    done = ac.fork("run-1", after="plan", as_="run-2", override={"plan": Plan(goal="how?")}, store=url)
    assert [step.fate for step in done.steps][:2] == ["overridden", "again"]
    assert work(url, "run-2")[0] == Plan(goal="how?")
    assert calls["plan"] == 1
    view = ac.get("run-2", store=url)
    assert [(row.slot, row.outcome) for row in view.steps][:2] == [("plan", "overridden"), ("search[a]", "done")]
    assert view.cost.saved == 0 and view.cost.spent == 40_000_000


def test_a_fork_of_a_fork_still_knows_what_it_saves() -> None:
    url = fresh()
    work(url)
    ac.fork("run-1", after="search[b]", as_="run-2", store=url)
    ac.fork("run-2", after="search[a]", as_="run-3", store=url)
    work(url, "run-3")
    assert ac.get("run-3", store=url).cost.saved == 10_000_000


def test_a_dry_run_says_the_same_and_makes_nothing() -> None:
    url = fresh()
    work(url)
    would = ac.fork("run-1", after="plan", as_="run-2", dry_run=True, store=url)
    assert would.dry_run and not stored(url, "run-2")
    assert would.steps == ac.fork("run-1", after="plan", as_="run-2", store=url).steps


@pytest.mark.parametrize("dry_run", [False, True])
def test_a_taken_or_deleted_id_is_refused_and_nothing_is_left(dry_run: bool) -> None:
    url = fresh()
    work(url)
    work(url, "run-2")
    with pytest.raises(ac.RunExists):
        ac.fork("run-1", after="plan", as_="run-2", dry_run=dry_run, store=url)
    with pytest.raises(ac.RunExists):
        ac.fork("run-1", after="plan", as_="run-1", dry_run=dry_run, store=url)
    ac.delete("run-2", store=url)
    with pytest.raises(ac.RunDeleted):
        ac.fork("run-1", after="plan", as_="run-2", dry_run=dry_run, store=url)


def test_two_forks_to_one_id_make_one_run(monkeypatch: pytest.MonkeyPatch) -> None:
    url, once = fresh(), whole._look_once_more
    work(url)

    def meanwhile(*args: Any) -> Any:
        monkeypatch.setattr(whole, "_look_once_more", once)
        ac.fork("run-1", after="search[a]", as_="run-2", store=url)
        return (yield from once(*args))

    monkeypatch.setattr(whole, "_look_once_more", meanwhile)
    with pytest.raises(ac.RunExists):
        ac.fork("run-1", after="plan", as_="run-2", store=url)
    assert len(logged(url, "run-2", Done)) == 2 and len(stored(url, "run-2")) == 5, "no orphans"


def test_what_it_is_about_is_taken_over_and_its_worker_finds_it() -> None:
    url = fresh()

    @ac.step
    def think(question: str) -> str:
        return question + "!"

    @ac.agent(name="ask")
    def agent(question: str) -> str:
        return think(question)

    bound = agent.using(store=url, metadata={"user": "42"}, conversation="chat-7")
    assert bound.run("run-1", "why?") == "why?!"
    ac.fork("run-1", after="think", as_="run-2", override={"think": "because"}, store=url)
    view = ac.get("run-2", store=url)
    assert (view.agent, view.metadata, view.conversation) == ("ask", {"user": "42"}, "chat-7")
    assert bound.resume("run-2") == "because"


def test_steps_that_cannot_be_meant_are_named() -> None:
    url = fresh()
    work(url)
    for after, said in (("serch[a]", "search"), ("search", "may be any of 2"), ("nothing", "is recorded")):
        with pytest.raises(ac.RunMisuse, match=said):
            ac.fork("run-1", after=after, as_="run-2", store=url)
    with pytest.raises(ac.RunMisuse, match="replayed whole"):
        ac.fork("run-1", after="report", as_="run-2", override={"polish": "x"}, store=url)
    with pytest.raises(ac.RunMisuse, match="'send' is recorded"):
        ac.fork("run-1", after="report", as_="run-2", override={"send": "x"}, store=url)
    with pytest.raises(ac.ResultNotStorable):
        ac.fork("run-1", after="plan", as_="run-2", override={"plan": [object()]}, store=url)
    assert not stored(url, "run-2")


def test_it_works_beside_somebody_who_is_at_the_run() -> None:
    url = fresh()

    async def forked() -> ac.Preview:
        async with ac.run("run-1", store=url) as run:
            await run.step("plan", lambda: "a")
            return await asyncio.to_thread(ac.fork, "run-1", after="plan", as_="run-2", store=url)

    assert len(asyncio.run(forked()).reused) == 1
    assert len(logged(url, "run-2", Done)) == 1


# -- pieces, and deaths -----------------------------------------------------------------------------------------------


def test_many_results_go_in_pieces_of_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    url, sizes = fresh(), list[int]()
    exchange = Wire.exchange

    def noted(wire: Wire, commands: Any) -> Any:
        sizes.append(sum(len(part) for command in commands for part in command if isinstance(part, bytes)))
        return exchange(wire, commands)

    with ac.run("run-1", store=url) as run:
        for n in range(30):
            run.step(ac.Step("read", key=str(n)), lambda n: str(n % 10) * 400, n)
    monkeypatch.setattr(copying, "PIECE", 2000)
    monkeypatch.setattr(Wire, "exchange", noted)
    ac.fork("run-1", after="read[29]", as_="run-2", store=url)
    assert 1600 < max(sizes) <= 2000 and sum(size > 0 for size in sizes) == 8
    with ac.run("run-2", store=url) as run:
        assert [run.step(ac.Step("read", key=str(n)), lambda n: "", n)[0] for n in range(30)] == list("0123456789") * 3


def test_killed_at_any_packet_there_is_the_whole_fork_or_none_and_it_can_be_done_again(tmp_path: Path) -> None:
    with Server(next(iter(binaries().values())), tmp_path) as server:
        url, made = server.url, list[bool]()
        work(url)
        for at in moments():
            if not killed(at, lambda: ac.fork("run-1", after="search[b]", as_="run-2", store=url)):
                break
            try:
                made.append(len(logged(url, "run-2", Done)) == 3)
            except ac.RunNotFound:
                made.append(False)
                keys = stored(url, "run-2")
                assert all(0 < ask(url, "PTTL", key.decode()) <= whole.LEFT_MS for key in keys)
                ac.fork("run-1", after="search[b]", as_="run-2", store=url)
            keys_of = RunKeys(run_tag("default", "run-2"))
            token = ask(url, "GET", keys_of.head).decode()
            assert [ask(url, "PTTL", key) for key in keys_of.data(token)] == [-1] * 3
            work(url, "run-2")
            assert spent(url, "run-2") == 20_000_000
            ask(url, "DEL", *(key.decode() for key in stored(url, "run-2")))
        assert made.count(False) >= 8 and made.count(True) >= 1


@pytest.mark.parametrize("at", range(1, 9))
def test_a_lost_reply_at_any_packet_leaves_one_whole_fork_and_no_orphans(at: int) -> None:
    url = fresh()
    work(url)

    cut = Mock(side_effect=Lost("cut"))
    with around(-at, cut):
        ac.fork("run-1", after="search[b]", as_="run-2", store=url)
    assert cut.call_count == 1
    assert len(logged(url, "run-2", Done)) == 3 and len(stored(url, "run-2")) == 5
    work(url, "run-2")
    assert spent(url, "run-2") == 20_000_000


# -- going back -------------------------------------------------------------------------------------------------------


def test_a_run_goes_back_and_its_money_stays() -> None:
    url = fresh()
    work(url)
    done = ac.rewind("run-1", after="search[b]", store=url)
    assert str(done).startswith("rewind of run-1 to after search[b]: reuses 3 steps ($0.02), likely buys again 1 ")
    view = ac.get("run-1", store=url)
    assert (view.state, view.cost.spent) == ("retryable", 40_000_000) and not leased(url, "run-1")
    assert work(url)[2] == "found in a, found in b, take 2"
    assert calls == {"plan": 1, "search": 2, "answer": 2, "polish": 2} and spent(url, "run-1") == 60_000_000
    ac.rewind("run-1", after="plan", store=url)
    work(url)
    assert calls == {"plan": 1, "search": 4, "answer": 3, "polish": 3} and spent(url, "run-1") == 100_000_000
    assert len(logged(url, "run-1", Rewound)) == 2


def test_without_its_entry_nothing_would_be_done_again(monkeypatch: pytest.MonkeyPatch) -> None:
    url = fresh()
    work(url)
    ac.rewind("run-1", after="plan", store=url)
    monkeypatch.setattr("agentcheckpoint.core.lifecycle.rewound", lambda entries, target: list(entries))
    work(url)
    assert calls["search"] == 2


def test_a_dry_run_of_going_back_changes_nothing_and_a_run_at_work_is_left_alone() -> None:
    url = fresh()
    work(url)
    before = [ask(url, "DUMP", key.decode()) for key in stored(url, "run-1")]
    ac.rewind("run-1", after="plan", dry_run=True, store=url)
    with pytest.raises(ac.RunMisuse):
        ac.rewind("run-1", after="plum", store=url)
    assert [ask(url, "DUMP", key.decode()) for key in stored(url, "run-1")] == before
    with ac.run("run-1", store=url), pytest.raises(ac.RunBusy):
        ac.rewind("run-1", after="plan", store=url)
    assert not logged(url, "run-1", Rewound)


def test_a_cancelled_run_that_goes_back_goes_on() -> None:
    url = fresh()
    with ac.run("run-1", store=url) as run:
        run.step("plan", lambda: "a")
        ac.cancel("run-1", store=url)
        with pytest.raises(ac.Interrupted):
            run.step("more", lambda: "b")
    ac.rewind("run-1", after="plan", store=url)
    with ac.run("run-1", store=url) as run:
        assert run.step("plan", lambda: "c") == "a"


def test_killed_at_any_packet_a_run_has_gone_back_or_has_not(tmp_path: Path) -> None:
    with Server(next(iter(binaries().values())), tmp_path) as server:
        outcomes = Counter[bool]()
        for at in moments():
            url, run_id = server.url, f"r{at}"
            work(url, run_id)
            died = killed(at, lambda url=url, run_id=run_id: ac.rewind(run_id, after="plan", store=url))  # type: ignore[misc]
            has = bool(logged(url, run_id, Rewound))
            work(url, run_id)
            assert spent(url, run_id) == (80_000_000 if has else 40_000_000)
            if not died:
                break
            outcomes[has] += 1
        assert outcomes[True] and outcomes[False]


# -- previews ---------------------------------------------------------------------------------------------------------


def test_a_preview_of_a_resume_tells_what_failed_waits_and_is_in_doubt() -> None:
    url = fresh()

    def dies() -> None:
        raise KeyboardInterrupt

    def fails() -> None:
        raise ValueError("no")

    with ac.run("run-1", store=url) as run:
        run.step(ac.Step("plan", cost="0.03"), lambda: "a")
        for step, fn in ((ac.Step("draft", cost="0.02"), fails), (ac.Step("free"), fails)):
            with pytest.raises(ValueError, match="no"):
                run.step(step, fn)
        with pytest.raises(KeyboardInterrupt):
            run.step(ac.Step("mail", effect="once"), dies)
    seen = ac.preview("run-1", store=url)
    assert {step.slot: (step.fate, step.paid, step.once) for step in seen.steps} == {
        "plan": ("reused", True, False),
        "draft": ("again", True, False),
        "free": ("again", False, False),
        "mail": ("in doubt", False, True),
    }
    assert "reuses 1 step ($0.03)" in str(seen) and "cannot tell of 1" in str(seen)
    assert "(price unknown)" in str(seen)
    fresh_start = ac.preview("run-1", on_existing="fresh", store=url)
    assert not fresh_start.reused and len(fresh_start.again) == 4 and len(fresh_start.to_records()) == 4
    with pytest.raises(ac.RunMisuse):
        ac.preview("run-1", on_existing="must", store=url)  # type: ignore[arg-type]


def test_the_example_compares_two_endings(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTCHECKPOINT_URL", fresh())
    runpy.run_path(str(ROOT / "examples" / "fork_compare.py"), run_name="__main__")
    assert capsys.readouterr().out.splitlines() == [
        "plainly: it is fast and it keeps its data",
        "reuses 2 steps ($0.05), likely buys again 1 ($0.02)",
        "boldly: it is very fast",
        "first: spent $0.07",
        "-b: spent $0.02 · saved $0.04 (2 steps replayed)",
    ]


# -- the rules --------------------------------------------------------------------------------------------------------


def done(slot: str, entry_id: str = "") -> Done:
    return Done(id=entry_id or slot, at=1, slot=slot, inputs=Inputs(digest="d"), payload=Payload(size=1))


def test_what_was_under_way_is_not_kept_and_what_lies_inside_is() -> None:
    records = [done("a/x"), done("b/x"), done("a"), done("a/late"), done("b"), done("c")]
    assert [entry.slot for entry in there_after(records, "a")] == ["a/x", "b/x", "a", "a/late"]


def test_a_call_in_doubt_stays_so_and_others_are_forgotten() -> None:
    doubt, asked = (Intent(id=slot, at=1, slot=slot, inputs=Inputs(digest="d")) for slot in ("mail", "sent"))
    log = [done("a"), doubt, asked, done("sent", "s"), done("b")]
    assert rewound(log, "a") == [done("a"), doubt]
    again = [*log, Rewound(id="r", at=2, slot="a", target="a"), done("b", "b2")]
    assert [entry.id for entry in standing(since_restart(again))] == ["a", "b2"]


@pytest.mark.parametrize(
    ("name", "slot"),
    [
        ("think#1", "think"),
        ("think#2", "think#2"),
        ("fetch[/]", "fetch[/]"),
        ("polish", "report/polish"),
        ("fetch", "fetch[/]"),
    ],
)
def test_a_step_is_found_by_what_people_call_it(name: str, slot: str) -> None:
    records = [done("think"), done("think#2"), done("fetch[/]"), done("report/polish"), done("report")]
    assert find(records, name, "r").slot == slot
    with pytest.raises(ac.RunMisuse, match="'think#1', 'think#2'"):
        find(records, "think", "r")


def test_a_damaged_entry_of_either_is_refused_or_read_as_a_whole_run() -> None:
    url = fresh()
    work(url)
    ac.fork("run-1", after="search[b]", as_="run-2", override={"plan": Plan(goal="why?")}, store=url)
    work(url, "run-2")
    ac.rewind("run-2", after="search[a]", store=url)
    kept, refused, seen = contents(ac.connect(url), "run-2"), 0, 0
    paths = ("origin", "elsewhere", "overridden", "target")
    for place in fields_of(kept):
        if not any(path in str(place) for path in paths):
            continue
        for damaged in itertools.islice(place.damaged(kept, "forks"), 20):
            other = fresh()
            put(other, damaged)
            seen += 1
            try:
                ac.get("run-2", store=other)
                ac.preview("run-2", store=other)
            except ac.StoreError:
                refused += 1
    assert seen > 200 and refused > 100
