"""Runs that earlier versions wrote open for ever, and what is stored does not change unnoticed."""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import Any

import pytest
from faults import golden, rich, rich_loops
from faults.fields import shapes_of
from faults.stored import Contents, contents, key_of, put, rewrite, send
from openai import OpenAI

import agentcheckpoint as ac
from agentcheckpoint.core import ledger
from agentcheckpoint.core.models import LOG_ENTRY, SCHEMA, Closed, Opened, line_of
from agentcheckpoint.testing.provider import Provider

TODAY = golden.path_of(SCHEMA)
KINDS = ("birth", "restarted", "opened", "waiting", "intent", "done", "failed", "rejected", "revived", "closed")
"""The kinds of entries that the golden run has."""
FILES = sorted(golden.FOLDER.glob("schema-*.json"))

pytestmark = pytest.mark.filterwarnings("ignore::agentcheckpoint.errors.UnmetStepsWarning")


@pytest.fixture
def url() -> str:
    rich.calls.clear()
    return f"memory://{secrets.token_hex(8)}"


def restored(url: str, path: Path = TODAY) -> dict[str, Any]:
    """Puts a golden run into the store, with no worker at it; returns what must be seen."""
    kept, expected = golden.load(path)
    put(url, {name: value for name, value in kept.items() if not name.endswith(b":lease")})
    return expected


def test_each_schema_has_its_file() -> None:
    assert [path.name for path in FILES] == [f"schema-{n}.json" for n in range(1, SCHEMA + 1)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_golden_run_is_seen_as_it_was(url: str, path: Path) -> None:
    expected = restored(url, path)
    view = ac.get(rich.RUN, store=url)
    assert json.loads(json.dumps(golden.expected(view))) == expected
    assert set(expected["entries"]) == set(KINDS)
    kept = contents(url, rich.RUN)
    (meta,) = (value for name, value in kept.items() if name.endswith(b":meta"))
    assert isinstance(meta, dict)
    sums = ledger.totals(ledger.fold_entries(ledger.logged_money(view.entries)).values())
    assert {name: int(meta[name.encode()]) for name in sums} == sums
    assert any(name.endswith(b":waste") for name in kept) and view.cost.wasted > sums["wasted"]


def test_a_line_says_its_schema_and_kind_and_else_nothing_that_is_as_usual() -> None:
    kept, _ = golden.load(TODAY)
    lines = next(value for name, value in kept.items() if name.endswith(b":log"))
    assert isinstance(lines, list) and len(lines) > 20
    for line in lines:
        entry = LOG_ENTRY.validate_json(line)
        assert line_of(entry).encode() == line
        assert line.startswith(b'{"v":%d,"k":"%s",' % (SCHEMA, entry.k.encode()))
        usual = (b'"overlap":false', b'"entries":[]', b'"codec":"json"', b"null")
        assert not [said for said in usual if said in line]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_golden_run_is_replayed_in_value_and_type_and_nothing_is_called(url: str, path: Path) -> None:
    expected = restored(url, path)
    with ac.run(rich.RUN, store=url) as run:
        found = rich.body(rich.unconnected())
        assert (found, _types(found)) == (rich.EXPECTED, _types(rich.EXPECTED))
        cost = run.cost
    assert not rich.calls
    assert (cost.paid, cost.wasted, cost.unresolved) == (expected["paid"], expected["wasted"], expected["unresolved"])
    assert cost.replayed == len([row for row in expected["steps"] if row[2] == "done" and row[0] != "report/polish"])


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_loops_of_a_golden_run_go_on_where_they_were_left(url: str, path: Path) -> None:
    restored(url, path)
    kept = contents(url, rich.RUN)
    assert rich_loops.left_in(kept) == {name: [rich_loops.LAST] for name in rich_loops.LOOPS}
    assert {cursor.slot for cursor in ac.get(rich.RUN, store=url).cursors} == set(rich_loops.LOOPS)
    gone = rich_loops.Gone()
    with ac.run(rich.RUN, store=url) as run:
        rich.body(rich.unconnected())
        rich_loops.go_on(run, gone)
    assert gone.worked == {name: [rich_loops.LAST] for name in rich_loops.LOOPS}
    after = contents(url, rich.RUN)
    assert not any(b"marks:" in name for name in after) and not any(
        f.startswith(b"cursor:") for f in _hash(after, b"meta")
    )


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_golden_run_gives_its_output_and_the_agent_is_not_called(url: str, path: Path) -> None:
    restored(url, path)
    before = contents(url, rich.RUN)
    assert rich.agent_of(rich.unconnected()).using(store=url).run(rich.RUN, "why?") == rich.OUTPUT
    assert not rich.calls and contents(url, rich.RUN) == before


def test_what_is_stored_today_has_the_fields_of_the_golden_file() -> None:
    """A change of what is stored is a decision: write the golden file anew, or raise the schema and write another."""
    kept, _ = golden.load(TODAY)
    assert shapes_of(golden.make()) == shapes_of(kept)


# -- older and newer libraries ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("as_kind", ["its own", "a new kind"])
def test_an_entry_of_a_newer_schema_is_refused_wherever_it_stands(url: str, kind: str, as_kind: str) -> None:
    restored(url)

    def modernised(entry: dict[str, Any]) -> None:
        entry.update(v=SCHEMA + 1, later={"a": [1]})
        if as_kind == "a new kind":
            entry.update(k="hologram")

    index = rewrite(url, rich.RUN, kind, modernised)
    before = contents(url, rich.RUN)
    for look in (lambda: ac.get(rich.RUN, store=url), lambda: ac.run(rich.RUN, store=url).__enter__()):
        with pytest.raises(ac.SchemaTooNew, match=rf"run 'rich'.*:log\[{index}\].*schema {SCHEMA + 1}"):
            look()
    # Its run's schema is not raised, as a newer library's claim would have: so the claim itself was written.
    assert _log(contents(url, rich.RUN))[:-1] == _log(before)


def test_a_newer_run_is_as_it_was_after_an_older_library_has_refused_it(url: str) -> None:
    restored(url)
    rewrite(url, rich.RUN, "closed", lambda entry: entry.update(v=SCHEMA + 1))
    send(ac.connect(url), ("HSET", key_of(url, rich.RUN, "meta"), "schema", SCHEMA + 1))
    before = contents(url, rich.RUN)
    for refused in (
        lambda: ac.run(rich.RUN, store=url).__enter__(),
        lambda: rich.agent_of(rich.unconnected()).using(store=url).run(rich.RUN, "why?"),
        lambda: ac.get(rich.RUN, store=url),
        lambda: ac.delete(rich.RUN, store=url),
    ):
        with pytest.raises(ac.SchemaTooNew, match="run 'rich'"):
            refused()
    assert contents(url, rich.RUN) == before and not rich.calls


def test_each_claim_notes_the_schema_that_it_knows(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    restored(url)
    with monkeypatch.context() as newer:
        newer.setattr("agentcheckpoint.store.making.SCHEMA", SCHEMA + 1)
        newer.setattr("agentcheckpoint.store.loading.SCHEMA", SCHEMA + 1)
        with ac.run(rich.RUN, store=url):
            rich.body(rich.unconnected())
    with pytest.raises(ac.SchemaTooNew), ac.run(rich.RUN, store=url):
        pass


def test_an_older_library_destroys_no_field_that_it_does_not_know(url: str) -> None:
    restored(url)
    send(ac.connect(url), ("DEL", key_of(url, rich.RUN, "cancel")))  # it lives on
    for kind in KINDS:
        rewrite(url, rich.RUN, kind, lambda entry: entry.update(later={"kind": entry["k"]}))
    meta, waste = key_of(url, rich.RUN, "meta"), key_of(url, rich.RUN, "waste")
    send(ac.connect(url), ("HSET", meta, "later", "meta"))
    ((attempt, line),) = contents(url, rich.RUN)[waste.encode()].items()  # type: ignore[union-attr]
    send(ac.connect(url), ("HSET", waste, attempt, line[:-1] + b',"later":{"kind":"waste"}}'))
    before = contents(url, rich.RUN)
    _whole_life(url)
    after = contents(url, rich.RUN)
    assert _log(after)[: len(_log(before))] == _log(before)
    assert sum(b'"later":{"kind":' in line for line in _log(after)) == len(KINDS)
    assert b'"later":{"kind":"waste"}' in after[waste.encode()][attempt]  # type: ignore[call-overload,index,operator]
    assert _hash(after, b"meta")[b"later"] == b"meta"
    assert _hash(after, b"results").items() >= _hash(before, b"results").items()
    assert {type(entry) for entry in ac.get(rich.RUN, store=url).entries} >= {Opened, Closed}


def _whole_life(url: str) -> None:
    """Claims, replays, fails, rejects an answer and buys it again, finishes, and opens once more."""
    with Provider() as provider:
        client = ac.wrap(OpenAI(base_url=provider.url, api_key="none"), prices=rich.PRICES)
        with pytest.raises(ZeroDivisionError), ac.run(rich.RUN, store=url) as run:
            run.step("fail", lambda: 1 // 0)
        with ac.run(rich.RUN, store=url) as run:
            rich.body(client)
            for _ in range(2):
                with ac.name("more"):
                    client.chat.completions.create(model=rich.MODEL, messages=[{"role": "user", "content": "more?"}])
                if not provider.requests[1:]:
                    ac.reject("more", "not enough")
            run.finish("all")
    with ac.run(rich.RUN, store=url):
        rich.body(rich.unconnected())


def _log(kept: Contents) -> list[bytes]:
    (log,) = (value for name, value in kept.items() if name.endswith(b":log"))
    assert isinstance(log, list)
    return log


def _hash(kept: Contents, name: bytes) -> dict[bytes, bytes]:
    (value,) = (value for key, value in kept.items() if key.endswith(b":" + name))
    assert isinstance(value, dict)
    return value


def _types(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _types(item) for key, item in value.items()}
    return [type(value), *map(_types, value)] if isinstance(value, list | tuple) else type(value)
