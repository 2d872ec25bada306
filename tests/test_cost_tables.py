"""``ac.costs`` and ``ac.export_ledger`` on stored runs: what they count, and how it is shown."""

from __future__ import annotations

import csv
import datetime
import io
import json
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path
from typing import get_args

import pytest
from faults.servers import Server
from hypothesis import given, settings
from ledgers import HOSTILE, Run, many_runs
from memory_runs import ask, fresh, packets
from servers import REAL

import agentcheckpoint as ac
from agentcheckpoint import current
from agentcheckpoint.core.cost_rows import Tally
from agentcheckpoint.core.ids import run_tag
from agentcheckpoint.core.price import Price
from agentcheckpoint.core.spending import By, Spent, account
from agentcheckpoint.costing import CostTable
from agentcheckpoint.store.keys import RunKeys

EVERY_KEY: tuple[By, ...] = get_args(By)
PRICES = {"small": Price(input="1", output="2"), "big": Price(input="10", output="20")}
MILLION = ac.Usage(input_tokens=1_000_000)

pytestmark = pytest.mark.filterwarnings("ignore::agentcheckpoint.errors.DurabilityWarning")


def paid(name: str, model: str | None = "small", *, key: str | None = None, accept: bool = True) -> ac.Step:
    return ac.Step(name, key, model=model, prices=PRICES, usage=lambda _: MILLION, accept=lambda _: accept)


def dies() -> None:
    raise KeyboardInterrupt


def some_runs(url: str) -> None:
    """$10 and $1 paid, $1 wasted in run a; $1 paid in b, which is resumed once; an unresolved and an unpriced one."""
    with ac.run("a", store=url, tags=("team-a", "urgent")) as run:
        run.llm(paid("think", "big"), str, 1)
        run.llm(paid("fetch", key="https://x"), str, 2)
        with pytest.raises(ac.StepRejected):
            run.llm(paid("fetch", key="https://y", accept=False), str, 3)
    for _ in range(2):
        with ac.run("b", store=url) as run:
            run.llm(paid("think"), str, 1)
    with pytest.raises(KeyboardInterrupt), ac.run("c", store=url) as run:
        run.llm(paid("think", "nobody-knows"), str, 1)
        run.llm(paid("think"), dies)


def rows(table: CostTable) -> dict[str | None, tuple[int | None, int | None, int, int]]:
    return {row.key: (row.paid, row.wasted, row.unresolved, row.runs) for row in table.rows}


def test_the_same_attempts_by_each_key() -> None:
    url, billion = fresh(), 10**9
    some_runs(url)
    assert rows(ac.costs(store=url)) == {
        "big": (10 * billion, 0, 0, 1),
        "small": (2 * billion, billion, 1, 3),
        "nobody-knows": (None, 0, 0, 1),
    }
    assert rows(ac.costs(by="step", store=url)) == {
        "think": (11 * billion, 0, 1, 3),
        "fetch": (billion, billion, 0, 1),
    }
    assert rows(ac.costs(by="run", store=url)) == {
        "a": (11 * billion, billion, 0, 1),
        "b": (billion, 0, 0, 1),
        "c": (None, 0, 1, 1),
    }
    assert rows(ac.costs(by="tag", store=url)) == {
        "team-a": (11 * billion, billion, 0, 1),
        "urgent": (11 * billion, billion, 0, 1),
        None: (billion, 0, 1, 2),
    }
    (day,) = ac.costs(by="day", store=url).rows
    assert day.key == datetime.datetime.now(datetime.UTC).date().isoformat() and day.attempts == 6
    for by in EVERY_KEY:
        total = ac.costs(by=by, store=url).total
        assert (total.paid, total.wasted, total.unresolved, total.unpriced) == (12 * billion, billion, 1, 1)
        assert (total.runs, total.attempts, total.saved, total.replayed) == (3, 6, billion, 1)


def test_agents_are_told_apart_and_their_tags_are_kept() -> None:
    url = fresh()

    @ac.agent(name="writer", tags=("team-b",))
    def write(text: str) -> str:
        here = current.position()
        assert here is not None
        return ac.Run(here.attempt).llm(paid("draft"), str, text)

    write.using(store=url).run("w", "x")
    some_runs(url)
    assert [row.tags for row in ac.get("w", store=url).attempts] == [("team-b",)]
    assert [row.agent for row in ac.get("w", store=url).attempts] == ["writer"]
    with ac.run("w", store=url) as run:  # by its id alone: the run is the agent's all the same
        run.llm(paid("draft"), str, "x")
    billion = 10**9
    assert rows(ac.costs(by="agent", agent="writer", store=url)) == {"writer": (billion, 0, 0, 1)}
    assert rows(ac.costs(by="agent", store=url)) == {"writer": (billion, 0, 0, 1), None: (12 * billion, billion, 1, 3)}
    assert rows(ac.costs(by="tag", tag="team-b", store=url)) == {"team-b": (billion, 0, 0, 1)}


@pytest.mark.parametrize("tags", ["team-a", ("",), ("a\n",), 7, [f"t{n}" for n in range(21)], (None,)])
def test_tags_that_are_none_are_refused_before_anything_is_sent(tags: object) -> None:
    with pytest.raises(ac.InvalidName, match="tag"):
        ac.run("r", store=fresh(), tags=tags)  # type: ignore[arg-type]


def test_what_counts_is_chosen_by_time_agent_tag_and_run() -> None:
    url = fresh()
    some_runs(url)
    now = datetime.datetime.now(datetime.UTC)
    hour = datetime.timedelta(hours=1)
    assert ac.costs(since=now - hour, until=now + hour, store=url).total.attempts == 6
    assert ac.costs(until=now - hour, store=url).total.attempts == 0
    assert ac.costs(since=now.date() + datetime.timedelta(days=2), store=url).total.attempts == 0
    assert ac.costs(tag="urgent", store=url).total.runs == 1
    assert ac.costs(agent="nobody", store=url).total.attempts == 0
    assert ac.costs(runs=["a", "b", "a"], store=url).total.attempts == 4
    assert ac.costs(runs="b", store=url).total.paid == 10**9
    with pytest.raises(ac.RunMisuse, match="time zone"):
        ac.costs(since=datetime.datetime(2026, 1, 1), store=url)
    with pytest.raises(ac.RunMisuse, match="by='colour'"):
        ac.costs(by="colour", store=url)  # type: ignore[arg-type]


def test_a_new_table_prices_what_was_unknown_and_leaves_what_is_stored() -> None:
    url = fresh()
    some_runs(url)
    before = ac.get("c", store=url).entries
    table = ac.costs(store=url, prices={"nobody-knows": Price(input="5", output="5")})
    assert rows(table)["nobody-knows"] == (5 * 10**9, 0, 0, 1)
    assert table.total.paid == 17 * 10**9 and table.notes == (
        "1 attempts are priced anew; what is recorded stays as it is",
    )
    assert ac.get("c", store=url).entries == before and ac.costs(store=url).total.unpriced == 1


def test_runs_that_cannot_be_read_are_named_and_do_no_harm() -> None:
    url = fresh()
    some_runs(url)
    keys = RunKeys(run_tag("default", "a"))
    ask(url, "LSET", keys.log(ask(url, "GET", keys.head).decode()), "0", "{")
    ask(url, "ZADD", "ac:{runs-default}:opened", "1", "gone\u202e", "2", "x" * 600)
    table = ac.costs(store=url)
    assert table.total.paid == 10**9 and table.total.runs == 2
    assert len(table.notes) == 3 and any("'a'" in note for note in table.notes)
    assert "\u202e" not in str(table) + table._repr_html_()
    with pytest.raises(ac.CheckpointCorrupt):
        ac.costs(runs="a", store=url)
    with pytest.raises(ac.RunNotFound):
        ac.costs(runs="nobody", store=url)


def test_a_run_is_read_while_a_worker_is_at_it_and_nothing_of_it_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    url = fresh()
    with ac.run("r", store=url) as run:
        run.llm(paid("think"), str, 1)
        with packets(monkeypatch) as sent:
            assert ac.costs(store=url).total.paid == 10**9
        run.llm(paid("more"), str, 1)
    assert len(sent) == 4, "the list, the head, the run, the list of kept ledgers"


@pytest.mark.parametrize("binary", REAL)
def test_real_servers_give_the_same_sums(binary: str, tmp_path: Path) -> None:
    with Server(binary, tmp_path):
        url = f"unix://{tmp_path}/socket"
        some_runs(url)
        table = ac.costs(by="run", store=url)
        for row in table.rows:
            own = ac.get(str(row.key), store=url).cost
            assert (row.paid or 0, row.wasted, row.unresolved) == (own.paid, own.wasted, own.unresolved)
        assert table.total.paid == 12 * 10**9


# -- how it is shown --------------------------------------------------------------------------------------------------


def test_a_table_is_printed_in_eighty_columns() -> None:
    url = fresh()
    some_runs(url)
    lines = str(ac.costs(store=url)).splitlines()
    assert [line.split()[0] for line in lines] == ["model", "big", "small", "nobody-knows", "total"]
    assert max(map(len, lines)) <= 80
    assert "$12.00" in lines[-1] and "—" in lines[3] and "1 unknown" in lines[2]
    assert str(ac.costs(store=fresh())) == "nothing was bought"


def test_records_csv_and_json_say_the_same() -> None:
    url = fresh()
    some_runs(url)
    table = ac.costs(store=url)
    records = table.to_records()
    assert [record["paid_usd"] for record in records] == [Decimal(10), Decimal(2), None]
    lines = [json.loads(line) for line in table.to_jsonl().splitlines()]
    assert [line["paid_usd"] for line in lines] == ["10", "2", None]
    read = list(csv.DictReader(io.StringIO(table.to_csv(), newline="")))
    assert [row["paid_usd"] for row in read] == ["10", "2", ""]
    assert [row["input_tokens"] for row in read] == ["1000000", "3000000", "1000000"]
    whole = json.loads(table.to_json())
    assert whole["by"] == "model" and whole["rows"] == lines and whole["total"]["paid_usd"] == "12"


def test_the_export_has_a_line_for_each_attempt() -> None:
    url = fresh()
    some_runs(url)
    out, lines = io.StringIO(newline=""), io.StringIO()
    assert ac.export_ledger(out, store=url) == () == ac.export_ledger(lines, format="jsonl", store=url)
    read = list(csv.DictReader(io.StringIO(out.getvalue(), newline="")))
    data = [json.loads(line) for line in lines.getvalue().splitlines()]
    assert len(read) == len(data) == 6
    ledger = {entry.id: entry for run in "abc" for entry in ac.get(run, store=url).ledger}
    for row, line in zip(read, data, strict=True):
        entry = ledger[line["id"]]
        assert (row["bill"], row["slot"], row["model"]) == (entry.bill, entry.slot, entry.model)
        assert line["cost_usd"] == (None if entry.cost is None else f"{entry.cost // 10**9}")
        assert datetime.datetime.fromisoformat(line["at"]).timestamp() == entry.at / 1000
    assert {tuple(line["tags"]) for line in data if line["run"] == "a"} == {("team-a", "urgent")}
    assert [line["slot"] for line in data if line["run"] == "b"] == ["think"]
    with pytest.raises(ac.RunMisuse, match="format"):
        ac.export_ledger(out, format="xml", store=url)  # type: ignore[arg-type]


def test_no_cell_is_a_formula() -> None:
    url = fresh()
    with ac.run('=HYPERLINK("http://x")', store=url) as run:
        run.llm(paid("-1+cmd"), str, 1)
    out = io.StringIO(newline="")
    ac.export_ledger(out, store=url)
    for text in (out.getvalue(), ac.costs(by="step", store=url).to_csv(), ac.costs(by="run", store=url).to_csv()):
        cells = [cell for row in csv.reader(io.StringIO(text, newline="")) for cell in row]
        assert not [cell for cell in cells if cell.startswith(("=", "-", "+", "@"))]


class Dom(HTMLParser):
    """What a browser would make of a text: its elements, their attributes, and the text that is shown."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.styles: set[str | None] = set()
        self.open: list[str] = []
        self.shown = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.styles |= {value for name, value in attrs if name == "style"}
        self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.shown += data

    def handle_comment(self, data: str) -> None:
        raise AssertionError(data)

    handle_decl = handle_pi = unknown_decl = handle_comment


OURS = {
    "div", "p", "ul", "li", "table", "thead", "tbody", "tfoot", "tr", "th", "td", "svg", "title", "rect", "text",
}  # fmt: skip
ATTRIBUTES = {
    "class", "style", "xmlns", "viewbox", "width", "height", "role", "font-family", "font-size", "fill", "x", "y",
    "text-anchor",
}  # fmt: skip


def table_of(by: By, some: list[Run], notes: tuple[str, ...] = ()) -> CostTable:
    tally = Tally(by)
    for run in some:
        tally.add(account(run.id, run.entries, run.outside))
    return CostTable(by, tuple(tally.rows()), tally.total, notes)


@pytest.mark.parametrize("by", EVERY_KEY)
@settings(deadline=None, max_examples=30)
@given(some=many_runs(HOSTILE), note=HOSTILE)
def test_no_stored_text_is_ever_markup(by: By, some: list[Run], note: str) -> None:
    table = table_of(by, some, (note,))
    cards = [run.report()._repr_html_() for run in some]
    for text in (table._repr_html_(), table.to_svg(), *cards):
        dom = Dom(text)
        assert dom.tags <= OURS and dom.attributes <= ATTRIBUTES and not dom.open
        assert all(style is None or style.startswith("text-align:") for style in dom.styles)
        assert all(char.isprintable() for char in dom.shown)
    for line in str(table).splitlines():
        assert all(char.isprintable() for char in line)


def test_the_same_check_notices_markup_that_is_not_escaped() -> None:
    with pytest.raises(AssertionError):
        dom = Dom(table_of("model", [])._repr_html_().replace("<table>", "<table><script>1</script>"))
        assert dom.tags <= OURS


def test_ten_thousand_rows_are_a_small_page_and_a_short_text() -> None:
    tally = Tally("run")
    entry = ac.LedgerEntry(id="x", bill="paid", slot="s", cost=5)
    for n in range(10_000):
        tally.add([Spent(f"run {n}", None, (), 1, entry)])
    table = CostTable("run", tuple(tally.rows()), tally.total)
    assert len(table._repr_html_()) < 50_000 and len(str(table).splitlines()) == 52
    assert "and 9951 more" in str(table) and len(table.to_records()) == 10_000
    assert str(table).splitlines()[-1].split()[:3] == ["total", "10,000", "10,000"]


def test_a_runs_cost_is_a_card_and_records_by_model() -> None:
    url = fresh()
    some_runs(url)
    with ac.run("a", store=url) as run:
        run.llm(paid("think", "big"), str, 1)
        run.llm(paid("fetch", key="https://x"), str, 2)
        cost = run.cost
    assert str(cost) in Dom(cost._repr_html_()).shown
    assert [(record["model"], record["paid_usd"], record["wasted_usd"]) for record in cost.to_records()] == [
        ("big", 10, 0),
        ("small", 1, 1),
    ]
    assert "1 unresolved" in Dom(ac.get("c", store=url).cost._repr_html_()).shown
    assert "<table>" not in ac.CostReport()._repr_html_()
