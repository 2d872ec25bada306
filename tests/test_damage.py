"""Stored data that was damaged: each kind that was once taken for good, or met by an error that is not ours."""

from __future__ import annotations

import json
from typing import Any

import pytest
from faults.stored import contents, entries_of, key_of, rewrite
from memory_runs import ask, fresh

import agentcheckpoint as ac
from agentcheckpoint.core.models import SCHEMA
from agentcheckpoint.core.pricing import Price
from agentcheckpoint.errors import AgentCheckpointWarning
from agentcheckpoint.openai.answer import Answer


@pytest.fixture
def url() -> str:
    return fresh()


def answer() -> str:
    return "42"


def a_run(url: str, run_id: str = "r") -> None:
    """One attempt with one step."""
    with ac.run(run_id, store=url) as run:
        run.step("one", answer)


def set_meta(url: str, field: str, value: str | bytes) -> None:
    ask(url, "HSET", key_of(url, "r", "meta"), field, value)


# -- meta: looked at before the claim ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("attempt", "x"),
        ("attempt", ""),
        ("attempt", "9" * 5000),
        ("attempt", "-1"),
        ("attempt", "007"),
        ("attempt", "0"),
        ("state", "sleeping"),
        ("state", b"\xff"),
        ("schema", "one"),
        ("schema", "0"),
        ("due", "soon"),
        ("due", "-1"),
        ("due", "9" * 5000),
    ],
)
def test_a_meta_that_is_not_ours_is_refused_before_anything_is_written(url: str, field: str, value: Any) -> None:
    a_run(url)
    set_meta(url, field, value)
    before = contents(url, "r")
    with pytest.raises(ac.CheckpointCorrupt, match=r"run 'r'.*:meta") as refused, ac.run("r", store=url):
        pass
    assert refused.value.run_id == "r"
    with pytest.raises(ac.CheckpointCorrupt, match=r"run 'r'.*:meta"):
        ac.get("r", store=url)
    assert contents(url, "r") == before


@pytest.mark.parametrize("field", ["attempt", "state", "schema", "due"])
def test_a_field_of_meta_that_is_gone_is_missed_before_anything_is_written(url: str, field: str) -> None:
    a_run(url)
    ask(url, "HDEL", key_of(url, "r", "meta"), field)
    before = contents(url, "r")
    with pytest.raises(ac.CheckpointCorrupt, match=rf"{field}"), ac.run("r", store=url):
        pass
    with pytest.raises(ac.CheckpointCorrupt, match=rf"{field}"):
        ac.get("r", store=url)
    assert contents(url, "r") == before


@pytest.mark.parametrize("field", ["agent", "conversation"])
@pytest.mark.parametrize("damage", ["another", "gone"])
def test_a_run_filed_under_another_agent_or_conversation_than_its_own_is_refused(
    url: str, field: str, damage: str
) -> None:
    """Who looks for work goes by it: under another agent's name nobody would go on with the run, or the wrong one."""

    @ac.agent(name="mine")
    def agent() -> str:
        return "42"

    mine = agent.using(store=url, conversation="chat")
    mine.run("r")
    if damage == "gone":
        ask(url, "HDEL", key_of(url, "r", "meta"), field)
    else:
        set_meta(url, field, "another")
    for look in (lambda: ac.get("r", store=url), lambda: mine.run("r"), lambda: ac.run("r", store=url).__enter__()):
        with pytest.raises(ac.CheckpointCorrupt, match=rf"run 'r'.*:meta .*its {field} is not the one"):
            look()
    ac.delete("r", store=url)


def test_a_run_that_was_begun_afresh_is_filed_under_what_it_is_about_now(url: str) -> None:
    with ac.run("r", store=url, conversation="old"):
        pass
    with ac.run("r", store=url, conversation="new", on_existing="fresh"):
        pass
    assert contents(url, "r")[key_of(url, "r", "meta").encode()][b"conversation"] == b"new"  # type: ignore[call-overload,index]
    set_meta(url, "conversation", "old")
    with pytest.raises(ac.CheckpointCorrupt, match="conversation"):
        ac.get("r", store=url)


def test_a_new_beginning_that_never_was_is_refused_since_all_would_be_paid_again(url: str) -> None:
    a_run(url)
    rewrite(url, "r", "closed", lambda entry: entry.update(k="restarted"))
    for look in (lambda: ac.get("r", store=url), lambda: ac.run("r", store=url).__enter__()):
        with pytest.raises(ac.CheckpointCorrupt, match=r"run 'r'.*:meta .*its begun is not the one"):
            look()


def test_a_new_beginning_that_is_gone_is_missed_since_old_records_would_come_back(url: str) -> None:
    a_run(url)
    with ac.run("r", store=url, on_existing="fresh") as run:
        run.step("one", lambda: "43")
    rewrite(url, "r", "restarted", lambda entry: entry.update(k="revived"))
    with pytest.raises(ac.CheckpointCorrupt, match="its begun is not the one"), ac.run("r", store=url):
        pass


def test_a_cancel_key_of_another_type_is_named(url: str) -> None:
    with pytest.raises(ac.CheckpointCorrupt, match="in part") as torn, ac.run("r", store=url) as run:
        ask(url, "RPUSH", key_of(url, "r", "cancel"), "x")
        run.step("one", answer)
    assert torn.value.value == "42"
    with pytest.raises(ac.CheckpointCorrupt, match=r"run 'r'.*:cancel "), ac.run("r", store=url):
        pass


def test_a_head_that_names_no_data_is_a_loss_and_stays_as_it_is(url: str) -> None:
    a_run(url)
    tag = key_of(url, "r", "meta").split(":")[1]
    ask(url, "SET", f"ac:{tag}:head", "999999999999998.aa")
    before = contents(url, "r")
    with pytest.raises(ac.CheckpointsLost, match="birth mark"), ac.run("r", store=url):
        pass
    assert contents(url, "r") == before


def test_a_newer_run_is_refused_before_anything_is_written(url: str) -> None:
    a_run(url)
    set_meta(url, "schema", str(SCHEMA + 1))
    before = contents(url, "r")
    with pytest.raises(ac.SchemaTooNew, match=r"run 'r'.*schema 2") as refused, ac.run("r", store=url):
        pass
    assert refused.value.run_id == "r"
    with pytest.raises(ac.SchemaTooNew):
        ac.get("r", store=url)
    with pytest.raises(ac.SchemaTooNew):
        ac.delete("r", store=url)
    assert contents(url, "r") == before


# -- the place in the message -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["head", "tokens", "meta", "lease", "waste", "log", "results"])
def test_a_key_of_another_type_is_named(url: str, name: str) -> None:
    a_run(url)
    key = key_of(url, "r", name)
    ask(url, "DEL", key)
    ask(url, "SADD" if name != "waste" else "RPUSH", key, "x")
    with pytest.raises(ac.CheckpointCorrupt, match=rf"run 'r'.*:{name} ") as refused, ac.run("r", store=url):
        pass
    assert refused.value.run_id == "r"
    if name != "lease":  # a look takes no notice of who works on it
        with pytest.raises(ac.CheckpointCorrupt, match=rf"run 'r'.*:{name} "):
            ac.get("r", store=url)
    assert ask(url, "TYPE", key_of(url, "r", name)) == (b"list" if name == "waste" else b"set")


def test_a_result_that_does_not_fit_its_type_names_run_and_step(url: str) -> None:
    a_run(url)
    (done,) = entries_of(url, "r", "done")
    ask(url, "HSET", key_of(url, "r", "results"), done["id"], "[12]")
    with pytest.raises(ac.CheckpointCorrupt, match="run 'r', step 'one'") as refused, ac.run("r", store=url) as run:
        run.step("one", answer)
    assert (refused.value.run_id, refused.value.step) == ("r", "one")


def test_an_output_that_does_not_fit_its_type_names_the_run(url: str) -> None:
    @ac.agent
    def agent() -> str:
        return "42"

    forty_two = agent.using(store=url)
    forty_two.run("r")
    (closed,) = entries_of(url, "r", "closed")
    ask(url, "HSET", key_of(url, "r", "results"), closed["id"], "[12]")
    with pytest.raises(ac.CheckpointCorrupt, match="run 'r'") as refused:
        forty_two.run("r")
    assert refused.value.run_id == "r"


@pytest.mark.parametrize(
    "line",
    [
        b'{"status": Infinity, "headers": {}}',
        b'{"status": "200", "headers": {}}',
        b'{"status": 200, "headers": {"a": 1}}',
    ],
)
def test_a_provider_s_answer_with_a_head_that_is_not_ours_is_refused(line: bytes) -> None:
    with pytest.raises(ac.CheckpointCorrupt):
        Answer.from_bytes(line + b"\n{}")


def test_no_header_but_the_harmless_ones_is_handed_on() -> None:
    line = b'{"status":200,"headers":{"content-encoding":"gzip","set-cookie":"a=b","x-request-id":"r1"}}'
    assert Answer.from_bytes(line + b"\n{}").headers == (("x-request-id", "r1"),)


# -- numbers and slots ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("payload", "size"), -1),
        (("payload", "size"), 10**30),
        (("ms",), -1),
        (("at",), 10**30),
        (("v",), 0),
        (("v",), -7),
        (("slot",), ""),
        (("slot",), "one#1"),
        (("slot",), "one#" + "9" * 5000),
        (("slot",), "one#٣"),
        (("slot",), "a\x1b[2Jb"),
        (("slot",), "fetch[a]b]"),
        (("slot",), "/one"),
    ],
)
def test_what_this_library_never_writes_is_refused_where_it_stands(url: str, path: tuple[str, ...], value: Any) -> None:
    a_run(url)

    def damage(entry: dict[str, Any]) -> None:
        for part in path[:-1]:
            entry = entry[part]
        entry[path[-1]] = value

    index = rewrite(url, "r", "done", damage)
    for look in (lambda: ac.get("r", store=url), lambda: ac.run("r", store=url).__enter__()):
        with pytest.raises(ac.CheckpointCorrupt, match=rf"run 'r'.*:log\[{index}\].*{path[-1]}"):
            look()


@pytest.mark.parametrize("cost", [-1, 2**63, 10**4000], ids=["negative", "above int64", "4001 digits"])
def test_an_amount_beyond_all_sense_is_refused(url: str, cost: int) -> None:
    with ac.run("r", store=url) as run:
        run.llm("buy", answer)
    rewrite(url, "r", "done", lambda entry: entry["entries"][0].update(cost=cost))
    with pytest.raises(ac.CheckpointCorrupt, match="cost"):
        ac.get("r", store=url)


# -- a log that contradicts itself ------------------------------------------------------------------------------------


def test_a_checkpoint_that_is_gone_from_the_log_is_missed_and_not_bought_again(url: str) -> None:
    a_run(url)
    log = key_of(url, "r", "log")
    ask(url, "LREM", log, 1, json.dumps(entries_of(url, "r", "done")[0], separators=(",", ":")))
    assert not entries_of(url, "r", "done")
    with pytest.raises(ac.CheckpointsLost, match=r"run 'r'.*:log names 0 of the 1"), ac.run("r", store=url) as run:
        run.step("one", pytest.fail)
    with pytest.raises(ac.CheckpointsLost):
        ac.get("r", store=url)


def test_a_checkpoint_turned_into_an_intent_is_missed(url: str) -> None:
    a_run(url)
    rewrite(url, "r", "done", lambda entry: entry.update(k="intent"))
    with pytest.raises(ac.CheckpointsLost, match="names 0 of the 1"), ac.run("r", store=url) as run:
        run.step("one", pytest.fail)


def test_a_second_birth_is_refused(url: str) -> None:
    a_run(url)
    ask(url, "RPUSH", key_of(url, "r", "log"), json.dumps(entries_of(url, "r", "birth")[0] | {"id": "other"}))
    with pytest.raises(ac.CheckpointCorrupt, match=r"log\[4\].*birth"):
        ac.get("r", store=url)


@pytest.mark.parametrize("field", ["target", "slot"])
def test_a_rejection_of_nothing_is_refused_since_the_refused_answer_would_stand(url: str, field: str) -> None:
    a_run(url)
    (done,) = entries_of(url, "r", "done")
    rejected = {"v": 1, "id": "x", "at": 1, "k": "rejected", "slot": "one", "target": done["id"], "why": "wrong"}
    ask(url, "RPUSH", key_of(url, "r", "log"), json.dumps(rejected))
    ac.get("r", store=url)
    rewrite(url, "r", "rejected", lambda entry: entry.update({field: "other"}))
    with pytest.raises(ac.CheckpointCorrupt, match=r"log\[4\].*rejects"):
        ac.get("r", store=url)


def test_waste_filed_under_another_id_is_refused(url: str) -> None:
    a_run(url)
    line = json.dumps({"id": "a", "bill": "wasted", "slot": "one", "cost": 5})
    ask(url, "HSET", key_of(url, "r", "waste"), "a", line)
    assert ac.get("r", store=url).cost.wasted == 5
    ask(url, "HSET", key_of(url, "r", "waste"), "b", line)
    with pytest.raises(ac.CheckpointCorrupt, match=r"run 'r'.*:waste.*'b'"):
        ac.get("r", store=url)


def test_a_result_of_another_length_than_recorded_is_refused(url: str) -> None:
    a_run(url)
    (done,) = entries_of(url, "r", "done")
    ask(url, "HSET", key_of(url, "r", "results"), done["id"], '"422"')
    with pytest.raises(ac.CheckpointCorrupt, match=r"run 'r', step 'one'.*5 bytes.*4"), ac.run("r", store=url) as run:
        run.step("one", answer)


# -- lease, tokens ----------------------------------------------------------------------------------------------------


def test_a_lease_that_never_expires_is_damage_and_not_somebody_at_work(url: str) -> None:
    a_run(url)
    ask(url, "SET", key_of(url, "r", "lease"), "not JSON")
    with pytest.raises(ac.CheckpointCorrupt, match=r"run 'r'.*:lease.*never expires"), ac.run("r", store=url):
        pass
    with pytest.raises(ac.CheckpointCorrupt, match="never expires"):
        ac.delete("r", store=url)


def test_a_lease_in_words_that_are_not_ours_is_waited_for(url: str) -> None:
    a_run(url)
    ask(url, "SET", key_of(url, "r", "lease"), '{"pid": "of a later version"}', "PX", 60_000)
    with pytest.raises(ac.RunBusy, match="run 'r'"), ac.run("r", store=url):
        pass


def test_a_run_whose_tokens_are_garbage_can_be_deleted(url: str) -> None:
    a_run(url)
    ask(url, "RPUSH", key_of(url, "r", "tokens"), b"\xff\xfe")
    ac.delete("r", store=url)
    assert [key.rpartition(b":")[2] for key in contents(url, "r")] == [b"tomb"]


def test_a_head_whose_epoch_has_no_successor_is_no_token(url: str) -> None:
    a_run(url)
    ask(url, "SET", key_of(url, "r", "head"), "999999999999999.aa")
    with pytest.raises(ac.CheckpointCorrupt, match=r"run 'r'.*:head"), ac.run("r", store=url):
        pass


# -- a worker that is replaced by one that it cannot read -------------------------------------------------------------


def test_what_an_older_worker_paid_is_booked_when_a_newer_one_has_taken_its_run(url: str) -> None:
    def taken_by_a_newer_library() -> str:
        ask(url, "DEL", key_of(url, "r", "lease"))
        with ac.run("r", store=url):
            pass
        set_meta(url, "schema", str(SCHEMA + 1))
        return "42"

    with pytest.raises(ac.LeaseLost, match="run 'r', step 'buy'") as lost, ac.run("r", store=url) as run:
        run.llm("buy", taken_by_a_newer_library)
    assert lost.value.value == "42"
    set_meta(url, "schema", str(SCHEMA))
    assert [(entry.bill, entry.slot) for entry in ac.get("r", store=url).ledger] == [("wasted", "buy")]


def test_a_commit_that_is_torn_is_never_paid_for_again(url: str) -> None:
    paid: list[str] = []

    def buy() -> str:
        paid.append("once")
        return "42"

    prices = {"m": Price(input="1", output="1")}
    step = ac.Step("buy", model="m", prices=prices, usage=lambda _: ac.Usage(input_tokens=1000))
    with pytest.raises(ac.CheckpointCorrupt, match=r"step 'buy'.*in part") as torn, ac.run("r", store=url) as run:
        set_meta(url, "paid", "much")
        run.llm(step, buy)
    assert torn.value.value == "42"
    with pytest.warns(AgentCheckpointWarning, match="stored totals"), ac.run("r", store=url) as run:
        assert run.llm(step, buy) == "42"
    assert paid == ["once"]
    assert ac.get("r", store=url).cost.paid == 10**6
