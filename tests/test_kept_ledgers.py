"""A deleted run whose ledger is kept: what it cost still counts, and nothing of what it was about is left."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any, get_args

import pytest
from faults.servers import Server
from memory_runs import fresh
from old_runs import ask, at_the_deletion, keys_of, old_run, paid, put_back, stored
from servers import REAL

import agentcheckpoint as ac
from agentcheckpoint.core.models import SCHEMA, LedgerEntry
from agentcheckpoint.core.spending import By
from agentcheckpoint.store.index import listed_runs, rebuild
from agentcheckpoint.store.keys import RunKeys, index_key, kept_index_key
from agentcheckpoint.store.upkeep import book_waste
from agentcheckpoint.view import address_of

pytestmark = pytest.mark.filterwarnings("ignore::agentcheckpoint.errors.DurabilityWarning")

SECRET = "s3cret-of-the-customer"


def tell(prompt: str) -> str:
    return f"{prompt}: answered"


def fail(prompt: str) -> str:
    raise ValueError(prompt)


def die(prompt: str) -> str:
    raise KeyboardInterrupt(prompt)


def full_run(url: str, run_id: str = "r") -> None:
    """Two attempts of a run: paid, wasted, and unresolved, replayed and saved, and a secret wherever it goes."""
    with pytest.raises(KeyboardInterrupt), ac.run(run_id, store=url, tags=("first", "both")) as run:
        run.step(ac.Step("fetch", key=SECRET), tell, SECRET)
        run.llm(paid("think", SECRET), tell, SECRET)
        with pytest.raises(ValueError, match=SECRET):
            run.step("broken", fail, SECRET)
        with pytest.raises(ac.StepRejected):
            run.llm(
                ac.Step("bad", key=SECRET, model="m", usage=lambda _: ac.Usage(input_tokens=5), accept=lambda _: False),
                tell,
                SECRET,
            )
        run.llm(paid("doubtful", f"x[{SECRET}]"), die, SECRET)
    with ac.run(run_id, store=url, tags=("second", "both")) as run:
        run.step(ac.Step("fetch", key=SECRET), tell, SECRET)
        run.llm(paid("think", SECRET), tell, SECRET)
        run.finish(SECRET)
    put_back(url, run_id, "completed", 31)


def delete(url: str) -> None:
    ac.delete("r", keep_ledger=True, store=url)


def prune(url: str) -> None:
    assert ac.prune(keep_ledger=True, store=url).runs == 1


GONE = pytest.mark.parametrize("go", [delete, prune])


def unresolved(url: str, run_id: str = "r") -> list[str]:
    """The ids of the run's unresolved attempts, as they are exported."""
    return [line["id"] for line in exported(url, run_id) if line["bill"] == "unresolved"]


def exported(url: str, runs: str | None = None) -> list[dict[str, Any]]:
    lines = io.StringIO()
    ac.export_ledger(lines, format="jsonl", runs=runs, store=url)
    return [json.loads(line) for line in lines.getvalue().splitlines()]


@GONE
def test_none_of_its_contents_is_left(go: Callable[[str], None]) -> None:
    url = fresh()
    full_run(url)
    assert repr(stored(url, "r")).count(SECRET) > 10
    go(url)
    left = stored(url, "r")
    assert sorted(left) == ["kept", "tomb"] and SECRET not in repr(left)
    fields = dict(zip(left["kept"][::2], left["kept"][1::2], strict=True))
    assert set(json.loads(fields.pop(b"@"))) == {"v", "namespace", "run", "state", "at", "saved"}
    attempts = [json.loads(line) for line in fields.values()]
    assert {attempt["entry"]["slot"] for attempt in attempts} == {"think", "bad", "doubtful"}
    assert all(set(attempt["entry"]) <= set(LedgerEntry.model_fields) for attempt in attempts)
    assert all(set(attempt) == {"v", "entry", "attempt", "tags"} for attempt in attempts)


@GONE
def test_what_it_cost_counts_as_before_by_every_key(go: Callable[[str], None]) -> None:
    url = fresh()
    full_run(url)
    old_run(url, "other", 1)
    before = {by: ac.costs(by=by, store=url) for by in get_args(By)}
    lines = exported(url)
    go(url)
    for by, table in before.items():
        after = ac.costs(by=by, store=url)
        assert (after.rows, after.total) == (table.rows, table.total), by
        assert after.notes == ("1 run is deleted; what was kept of the ledger counts",)
    kept = {line["id"]: line for line in exported(url)}
    assert [line["is_deleted"] for line in kept.values()].count(True) == 3
    for line in lines:
        slot = line["slot"].partition("[")[0]
        assert kept[line["id"]] == {**line, "slot": slot, "is_deleted": line["run"] == "r"}
    assert ac.costs(runs="r", tag="second", store=url).total.saved == 10**9


@GONE
def test_the_list_of_runs_has_it_no_more_and_that_of_kept_ledgers_does(go: Callable[[str], None]) -> None:
    url = fresh()
    full_run(url)
    go(url)
    store = ac.connect(url)
    assert list(listed_runs(store, "default")) == []
    assert list(listed_runs(store, "default", key_of=kept_index_key)) == ["r"]
    ask(url, "DEL", kept_index_key("default"))
    assert rebuild(store) == 1 and list(listed_runs(store, "default", key_of=kept_index_key)) == ["r"]
    assert ac.costs(store=url).total.runs == 1


def test_a_line_that_was_not_moved_counts_once_and_is_moved_by_the_next_prune() -> None:
    url = fresh()
    full_run(url)
    delete(url)
    ask(url, "ZADD", index_key("default"), 1, "r")
    assert ac.costs(store=url).total.runs == 1
    ask(url, "DEL", kept_index_key("default"))
    assert ac.costs(store=url).total.runs == 1
    ac.prune(store=url)
    assert ac.costs(store=url).total.runs == 1 and list(listed_runs(ac.connect(url), "default")) == []


def test_the_run_itself_is_gone_and_its_id_stays_taken() -> None:
    url = fresh()
    full_run(url)
    delete(url)
    with pytest.raises(ac.RunNotFound, match="deleted"):
        ac.get("r", store=url)
    with pytest.raises(ac.RunDeleted), ac.run("r", store=url):
        pass
    with pytest.raises(ac.RunNotFound):
        delete(url)
    assert ac.costs(store=url).total.runs == 1


def test_a_second_deletion_deletes_the_kept_ledger_too() -> None:
    url = fresh()
    full_run(url)
    delete(url)
    ac.delete("r", store=url)
    assert list(stored(url, "r")) == ["tomb"] and ac.costs(store=url).total.attempts == 0
    with pytest.raises(ac.RunNotFound):
        ac.delete("r", store=url)


# -- settled afterwards -----------------------------------------------------------------------------------------------


def test_what_is_unresolved_in_it_can_be_settled_by_hand_and_said_anew() -> None:
    url = fresh()
    full_run(url)
    (doubtful,) = unresolved(url)
    delete(url)
    for dollars in ("12", "0.012"):
        entry = ac.settle("r", doubtful, paid=dollars, store=url)
        assert (entry.bill, entry.slot) == ("wasted", "doubtful")
    total = ac.costs(store=url).total
    assert (total.paid, total.unresolved) == (10**9, 0) and total.wasted is not None
    assert Decimal(exported(url, "r")[-1]["cost_usd"] or 0) == Decimal("0.012")
    with pytest.raises(ac.RunMisuse, match="no attempt"):
        ac.settle("r", "unknown", paid="1", store=url)
    (sure,) = (line["id"] for line in exported(url) if line["bill"] == "paid")
    with pytest.raises(ac.RunMisuse, match="settled already"):
        ac.settle("r", sure, paid="1", store=url)
    assert sorted(stored(url, "r")) == ["kept", "tomb"]


def test_a_bill_settles_it() -> None:
    url = fresh()
    full_run(url)
    (doubtful,) = unresolved(url)
    delete(url)
    (settled,) = ac.settle_billed([(doubtful, "0.012")], store=url).settled
    assert settled.run == "r" and settled.is_deleted and unresolved(url) == []
    assert ac.settle_billed([(doubtful, "0.012")], store=url).settled == ()


@pytest.mark.parametrize("go", [delete, lambda url: ac.delete("r", store=url)], ids=["kept", "gone"])
def test_a_run_that_is_deleted_while_it_is_settled_gets_nothing_beside_its_log(
    go: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = fresh()
    full_run(url)
    (doubtful,) = unresolved(url)
    at_the_deletion(monkeypatch, lambda: ac.settle("r", doubtful, paid="0.012", store=url) and None)
    go(url)
    assert "waste" not in stored(url, "r")
    assert unresolved(url) == [] if go is delete else ac.costs(store=url).total.attempts == 0


@pytest.mark.parametrize("watching", [True, False])
def test_waste_that_is_booked_right_before_the_deletion_is_kept(
    watching: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = fresh()
    full_run(url)
    late = LedgerEntry(id="late", bill="wasted", slot=f"think[{SECRET}]", cost=5)
    book = book_waste(address_of("r", "default"), [late])
    at_the_deletion(monkeypatch, lambda: ac.connect(url).run(book), watching=watching)
    delete(url)
    assert ("late" in {line["id"] for line in exported(url)}) is watching, "without the watch it would be lost"
    assert SECRET not in repr(stored(url, "r"))


# -- trouble ----------------------------------------------------------------------------------------------------------


def test_a_run_that_cannot_be_read_is_not_deleted_while_its_ledger_is_to_be_kept() -> None:
    url = fresh()
    full_run(url)
    keys = keys_of("r")
    ask(url, "LSET", keys.log(ask(url, "GET", keys.head).decode()), 1, "{")
    before = stored(url, "r")
    with pytest.raises(ac.CheckpointCorrupt):
        delete(url)
    assert stored(url, "r") == before
    ac.delete("r", store=url)
    assert list(stored(url, "r")) == ["tomb"]


def test_a_run_without_a_head_has_no_ledger_that_could_be_kept() -> None:
    url = fresh()
    full_run(url)
    ask(url, "DEL", keys_of("r").head)
    with pytest.raises(ac.CheckpointsLost):
        delete(url)


@pytest.mark.parametrize(
    ("field", "line", "error"),
    [
        ("@", "{", ac.CheckpointCorrupt),
        ("@", f'{{"v":{SCHEMA + 1},"namespace":"default","run":"r","state":"completed","at":1}}', ac.SchemaTooNew),
        ("@", '{"namespace":"default","run":"other","state":"completed","at":1}', ac.CheckpointCorrupt),
        ("a", '{"entry":{"id":"b","bill":"paid","slot":"s"}}', ac.CheckpointCorrupt),
        ("a", '{"entry":{"id":"a","bill":"paid","slot":"[["}}', ac.CheckpointCorrupt),
        ("a", "\xff", ac.CheckpointCorrupt),
    ],
)
def test_a_kept_ledger_that_cannot_be_read_is_named(field: str, line: str, error: type[Exception]) -> None:
    url = fresh()
    full_run(url)
    delete(url)
    ask(url, "HSET", keys_of("r").kept, field, line)
    with pytest.raises(error, match=r"run 'r'.*:kept"):
        ac.costs(runs="r", store=url)
    assert "not counted" in ac.costs(store=url).notes[0]


@pytest.mark.parametrize("binary", REAL)
def test_real_servers_keep_it_too(binary: str, tmp_path: Path) -> None:
    with Server(binary, tmp_path) as server:
        full_run(server.url)
        before = ac.costs(by="step", store=server.url)
        (doubtful,) = unresolved(server.url)
        delete(server.url)
        assert ac.costs(by="step", store=server.url).rows == before.rows
        left = stored(server.url, "r")
        assert sorted(left) == ["kept", "tomb"] and SECRET not in repr(left)
        ac.settle("r", doubtful, not_billed=True, store=server.url)
        assert unresolved(server.url) == []


# -- sizes ------------------------------------------------------------------------------------------------------------


def test_the_size_of_a_run_is_that_of_the_bytes_that_are_stored() -> None:
    url = fresh()
    full_run(url)
    ac.connect(url).run(book_waste(address_of("r", "default"), [LedgerEntry(id="w", bill="wasted", slot="s")]))
    size, found = ac.get("r", store=url).size, stored(url, "r")
    (log,) = (value for name, value in found.items() if name.endswith(":log"))
    (results,) = (value for name, value in found.items() if name.endswith(":results"))
    birth = results.index(b"@") + 1
    assert size.log == sum(map(len, log)) and size.ledger == sum(map(len, found["waste"])) > 0
    assert size.results == sum(map(len, results[1::2])) - len(results[birth])
    assert size.total == size.log + size.results + size.ledger and str(size).endswith(" kB")


def test_what_a_deletion_takes_away_beside_the_log_is_named_in_one_place() -> None:
    keys = RunKeys("t")
    gone = {keys.head, keys.tokens, keys.waste, keys.cancel, keys.answers}
    assert set(keys.beside) == gone, "tomb and kept outlive the run"
