"""A cell that is a run: what it opens, what it leaves behind, what it shows, and what running it again costs."""

from __future__ import annotations

import os
import re
import time
import warnings
from collections.abc import Iterator

import pytest
from memory_runs import ask, fresh, packets
from notebook_shell import Shell, shell
from openai import AsyncOpenAI, OpenAI

import agentcheckpoint as ac
from agentcheckpoint.core.ids import run_tag
from agentcheckpoint.errors import NotInstalled
from agentcheckpoint.listing import TITLES, run_record
from agentcheckpoint.notebook import extension, wrapping
from agentcheckpoint.notebook.progress import EVERY
from agentcheckpoint.show.records import cost_record
from agentcheckpoint.store import index
from agentcheckpoint.store.keys import RunKeys
from agentcheckpoint.testing.brain import Answer
from agentcheckpoint.testing.provider import Provider

CELL = '''%%agentrun r
text = """one
two"""
plan = run.step(ac.Step("plan", cost="0.01"), str.upper, text)
words = run.step(ac.Step("count", cost="0.02"), len, plan.split())
words'''


@pytest.fixture
def cells(monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    monkeypatch.setenv("AGENTCHECKPOINT_URL", fresh())
    with shell() as running:
        yield running


def test_a_cell_is_a_run_whose_variables_stay_and_whose_last_value_is_shown(cells: Shell) -> None:
    assert cells(CELL) is None
    assert (cells["text"], cells["plan"], cells["words"], cells["_"]) == ("one\ntwo", "ONE\nTWO", 2, 2)
    view = ac.get("r")
    assert (view.state, view.attempt, [row.slot for row in view.steps]) == ("completed", 1, ["plan", "count"])
    assert cells.shown[0]["text/plain"].endswith("ran 2 steps, $0.03")
    assert cells.said.endswith("2\n"), "the value of the last expression"


def test_running_it_again_costs_nothing_and_says_so(cells: Shell) -> None:
    cells(CELL)
    assert cells(CELL) is None
    assert cells["words"] == 2
    assert cells.text.endswith("replayed: 2 steps, $0.00 · saved $0.03")
    assert cells.html.count("↺ replayed") == 2
    assert (ac.get("r").attempt, str(ac.get("r").cost.spent_usd)) == (2, "0.030000000")


def test_a_semicolon_hides_the_last_value_as_in_any_cell(cells: Shell) -> None:
    cells(CELL + ";")
    assert not cells.said.endswith("2\n")


def test_a_changed_prompt_is_an_error_that_stops_and_a_card_with_the_choices(cells: Shell) -> None:
    cells(CELL)
    error = cells(CELL.replace("two", "three"))
    assert isinstance(error, ac.StepMismatch)
    assert error.differences == (("self", "'one\\ntwo'", "'one\\nthree'"),)
    for text in ("--on-mismatch rerun", "--on-mismatch reuse", "--from plan", "--fresh", "another id"):
        assert text in cells.shown[-1]["text/plain"] and text in cells.shown[-1]["text/html"]
    assert "one\\nthree" in cells.shown[-1]["text/html"]
    assert str(ac.get("r").cost.spent_usd) == "0.030000000", "nothing was bought"


@pytest.mark.parametrize(
    ("option", "words", "spent"),
    [
        ("--on-mismatch rerun", 3, "0.06"),
        ("--on-mismatch reuse", 2, "0.03"),
        ("--from plan", 3, "0.06"),
        ("--fresh", 3, "0.06"),
    ],
)
def test_each_choice_of_the_mismatch_card_does_what_it_says(cells: Shell, option: str, words: int, spent: str) -> None:
    cells(CELL)
    changed = CELL.replace("two", "two three")
    assert cells(changed.replace("agentrun r", f"agentrun r {option}")) is None
    assert cells["words"] == words
    assert f"{ac.get('r').cost.spent_usd:.2f}" == spent


def test_going_back_to_a_step_buys_it_again_and_not_what_came_before(cells: Shell) -> None:
    cells(CELL)
    assert cells(CELL.replace("agentrun r", "agentrun r --from count")) is None
    assert "ran 1 step, $0.02 · replayed 1 step, saved $0.01" in cells.text
    assert "--from count: each time that it is run this cell goes back there" in cells.text
    assert isinstance(cells(CELL.replace("agentrun r", "agentrun r --from nothing")), ac.RunMisuse)
    assert isinstance(cells(CELL.replace("agentrun r", "agentrun other --from plan")), ac.RunNotFound)


def test_a_budget_is_the_runs_own(cells: Shell) -> None:
    paid = "%%agentrun b --budget 0.03\nrun.llm(ac.Step('one', cost='0.02', max_cost='0.02'), int)\n"
    assert cells(paid) is None
    assert isinstance(cells(paid + "run.llm(ac.Step('two', cost='0.02', max_cost='0.02'), int)"), ac.BudgetExceeded)


def test_an_error_stops_the_cell_unchanged_and_the_next_try_goes_on_behind_it(cells: Shell) -> None:
    failing = CELL.replace("words = run", "1 / ok\nwords = run")
    cells("ok = 0")
    assert isinstance(cells(failing), ZeroDivisionError)
    assert ac.get("r").state == "retryable"
    cells("ok = 1")
    assert cells(failing) is None
    assert "ran 1 step, $0.02 · replayed 1 step, saved $0.01" in cells.text


def test_a_cell_that_awaits_gets_an_async_run(cells: Shell) -> None:
    code = (
        "%%agentrun a\nimport asyncio\n"
        "parts = await asyncio.gather(*(run.step(ac.Step('part', key=str(n)), str, n) for n in range(3)))\nparts"
    )
    for said in ("ran 3 steps", "replayed: 3 steps"):
        assert cells(code) is None
        assert cells["_"] == ["0", "1", "2"] and said in cells.text
    assert type(cells["run"]).__name__ == "AsyncRun"


@pytest.mark.parametrize(
    ("cell", "is_async"),
    [
        ("async def f():\n    await g()\nf", False),
        ("x = [y async for y in g()]", True),
        ("async with a as b:\n    pass", True),
        ("if 1:\n    for x in y:\n        await x", True),
        ("f = lambda: (await_ for await_ in x)", False),
    ],
)
def test_what_awaits_is_what_the_cell_itself_awaits(cell: str, is_async: bool) -> None:
    assert wrapping.awaits_in(cell) is is_async


def test_lines_of_percent_and_bang_work_inside(cells: Shell) -> None:
    assert (
        cells("%%agentrun m\n%precision 3\nhere = !echo shell\ntwo = run.step('s', int, '2')\n(here[0], two)") is None
    )
    assert cells["_"] == ("shell", 2)


def test_the_notebooks_variables_stand_in_the_line(cells: Shell) -> None:
    cells("question = 'q7'")
    assert cells("%%agentrun ask-{question}\nrun.step('s', int)") is None
    assert ac.get("ask-q7").state == "completed"


def test_without_an_id_nothing_is_replayed_and_the_card_says_what_that_means(cells: Shell) -> None:
    cell = CELL.replace("agentrun r", "agentrun")
    for _ in range(2):
        assert cells(cell) is None
        assert "ran 2 steps, $0.03\nno id: run again, this cell does and pays all of it again" in cells.text


def test_a_run_that_waits_shows_no_way_to_it_and_goes_on_when_it_is_answered(cells: Shell) -> None:
    cell = "%%agentrun w\ndecision = run.wait_for('ok', bool, prompt='May I?')\ndecision"
    error = cells(cell)
    assert isinstance(error, ac.Suspended)
    assert "Traceback" not in cells.said and "Suspended" in cells.said
    assert "Run this cell again to go on." in cells.text
    ac.answer("w", "ok", True)
    assert cells(cell) is None
    assert cells["decision"] is True


@pytest.mark.parametrize(
    ("line", "said"),
    [("r --frsh", "--frsh"), ("--fresh", "without an id"), ("r --fresh --from x", "--fresh"), ('r "', "No closing")],
)
def test_a_line_that_makes_no_sense_runs_nothing(cells: Shell, line: str, said: str) -> None:
    error = cells(f"%%agentrun {line}\nran = True")
    assert isinstance(error, ac.RunMisuse) and said in str(error)
    assert "ran" not in cells.ip.user_ns


def test_explain_prints_python_that_does_the_same_and_runs_nothing(cells: Shell) -> None:
    assert cells(CELL.replace("agentrun r", "agentrun r --budget 1 --explain")) is None
    assert "with ac.run('r', budget=ac.Budget('1')) as run:" in cells.said
    with pytest.raises(ac.RunNotFound):
        ac.get("r")
    assert cells(cells.said) is None
    assert cells["words"] == 2 and cells["text"] == "one\ntwo"
    assert ac.get("r").state == "completed"


def test_cells_without_the_magic_are_as_they_were(cells: Shell) -> None:
    assert cells("x = 1\nx") is None
    assert cells.said.endswith("1\n") and cells.shown == []
    with pytest.raises(ac.RunNotFound):
        ac.get("r")


def test_quiet_shows_nothing_and_off_runs_the_cell_as_it_is(cells: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cells(CELL.replace("agentrun r", "agentrun r --quiet")) is None
    assert cells.shown == []
    monkeypatch.setenv("AGENTCHECKPOINT", "off")
    assert cells(CELL.replace("one", "1")) is None
    assert cells["words"] == 2 and cells.shown == []


def test_loaded_twice_reset_reloaded_and_unloaded(cells: Shell) -> None:
    ac.load_ipython_extension(cells.ip)
    cells(CELL)
    assert len(cells.shown) == 1 and ac.get("r").attempt == 1
    cells("%reset -f")
    cells("import agentcheckpoint as ac")
    assert cells(CELL) is None, "%reset takes the variables, not the magic"
    assert cells("%reload_ext agentcheckpoint") is None
    assert cells(CELL) is None
    assert ac.get("r").attempt == 3
    before = len(cells.ip.ast_transformers)
    assert cells("%unload_ext agentcheckpoint") is None
    assert len(cells.ip.ast_transformers) == before - 1
    cells(CELL)
    assert ac.get("r").attempt == 3 and wrapping.NAME not in cells.ip.user_ns


def test_an_old_ipython_is_refused_with_what_to_install() -> None:
    extension.check_version(extension.OLDEST)
    with pytest.raises(NotInstalled, match=r"not 7\.34: pip install -U ipython"):
        extension.check_version((7, 34))


ASK = "client.chat.completions.create(model='demo-large', messages=[{'role': 'user', 'content': 'hi'}])"


def warned(cells: Shell, cell: str) -> list[str]:
    """What a cell is warned of, as any user sees it."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("default")
        assert cells(cell) is None
    return [str(warning.message) for warning in seen if warning.category is ac.NoActiveRunWarning]


@pytest.mark.parametrize("call", [ASK, f"await a{ASK}"])
def test_a_model_call_in_a_cell_that_is_no_run_says_that_it_is_not_recorded(cells: Shell, call: str) -> None:
    with Provider(lambda _: Answer(text="hi")) as provider:
        given = {"base_url": provider.url, "api_key": "none"}
        cells.ip.push({"client": ac.wrap(OpenAI(**given)), "aclient": ac.wrap(AsyncOpenAI(**given))})
        assert warned(cells, call) == [], "no cell of this kernel was a run"
        assert warned(cells, f"%%agentrun r\n{call}") == []
        for _ in range(2):
            [said] = warned(cells, call)
            assert "chat/completions is not recorded" in said and "'r', ended with its cell" in said
        with_run = "async with" if "await" in call else "with"
        assert warned(cells, f"{with_run} ac.run('other') as own:\n    {call}") == []
        assert warned(cells, "@ac.step\ndef double(n): return 2 * n\ndouble(1)") != []
        assert len(provider.journal) == 5 and ac.get("r").cost.attempts == 1
        assert cells("%unload_ext agentcheckpoint") is None
        assert warned(cells, call) == []


def test_the_line_magics_show_runs_costs_and_what_goes_on(cells: Shell) -> None:
    cells(CELL)
    assert cells("runs = %agentruns") is None
    assert [record["run"] for record in cells["runs"].to_records()] == ["r"]
    [listed] = cells["runs"].to_records()
    assert {**listed, "cost": None}.keys() == {**run_record(ac.get("r")), **cost_record(ac.get("r").cost)}.keys()
    assert (listed["steps"], str(listed["spent_usd"]), listed["replayed"]) == (2, "0.03", 0)
    titles, told = (line.split() for line in str(cells["runs"]).splitlines())
    assert titles == [*TITLES] and (told[0], told[1], told[-1]) == ("r", "completed", "$0.03")
    shown = cells["runs"]._repr_html_()
    assert re.findall("<th [^>]*>(.*?)</th>", shown) == [*TITLES] and "✓ completed" in shown
    assert cells("costs = %agentcost --by step") is None
    assert {row["step"] for row in cells["costs"].to_records()} == {"plan", "count"}
    assert cells("preview = %agentresume") is None
    assert len(cells["preview"].reused) == 2 and "%%agentrun r again" in cells.said
    for magic, code in (
        ("%agentruns 3", "recent_runs(3)"),
        ("%agentcost --by step", "ac.costs(by='step', runs='r')"),
        ("%agentcost --all", "ac.costs(by='model')"),
        ("%agentresume r", "ac.preview('r')"),
    ):
        assert cells(f"{magic} --explain") is None
        assert cells.said.endswith(f"\n{code}\n")
        assert cells(cells.said) is None, "what it prints runs"


def test_the_runs_that_were_opened_last_are_read_and_no_others(cells: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    def asked() -> int:
        with packets(monkeypatch) as sent:
            assert cells("runs = %agentruns 3") is None
        return sum(sent)

    def more(first: int, count: int) -> None:
        for n in range(first, first + count):
            with ac.run(f"r{n}"):
                pass

    monkeypatch.setattr(index, "PAGE", 10)  # who reads all names needs more packets then
    more(0, 4)
    few = asked()
    more(4, 120)
    assert asked() == few
    assert [run.id for run in cells["runs"].runs] == ["r123", "r122", "r121"]


def test_a_run_that_cannot_be_read_is_a_note_under_the_others(cells: Shell) -> None:
    cells(CELL)
    with ac.run("broken"):
        pass
    ask(os.environ["AGENTCHECKPOINT_URL"], "SET", RunKeys(run_tag("default", "broken")).head, "nonsense")
    assert cells("runs = %agentruns") is None
    assert [run.id for run in cells["runs"].runs] == ["r"]
    assert "note: not shown: run 'broken'" in str(cells["runs"]) and "broken" in cells["runs"]._repr_html_()


def test_agentresume_goes_on_with_an_agent_of_the_notebook(cells: Shell) -> None:
    cells("fail = True")
    cells(
        "@ac.agent\ndef research(q: str) -> str:\n    run = ac.Run.current()\n"
        "    found = run.step('look', str.upper, q)\n    if fail: raise OSError\n    return found"
    )
    assert isinstance(cells("research.run('x', 'q')"), OSError)
    cells("fail = False")
    assert cells("%agentresume x --explain") is None and cells.said.endswith("research.resume('x')\n")
    assert cells("found = %agentresume x") is None
    assert cells["found"] == "Q" and ac.get("x").state == "completed"
    cells("del research")
    assert isinstance(cells("%agentresume x"), ac.RunMisuse)


def test_a_run_that_is_the_last_value_is_shown_as_a_card(cells: Shell) -> None:
    cells(CELL)
    bundle, _ = cells.ip.display_formatter.format(cells["run"])
    assert "<svg" in bundle["text/html"] and bundle["text/plain"].startswith("run r · completed")


def test_a_store_that_is_gone_hides_nothing_of_the_cell(cells: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object, **__: object) -> None:
        raise ac.StoreUnavailable("gone")

    monkeypatch.setattr("agentcheckpoint.notebook.cells.get", gone)
    assert cells(CELL) is None
    assert cells["words"] == 2


def test_unmet_steps_are_warned_of_as_ever(cells: Shell) -> None:
    cells(CELL)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        cells("%%agentrun r\nrun.step(ac.Step('plan', cost='0.01'), str.upper, text)")
    assert [w.category for w in said if issubclass(w.category, ac.AgentCheckpointWarning)] == [ac.UnmetStepsWarning]


def test_in_a_notebook_one_output_is_updated_in_place_while_the_steps_run(cells: Shell) -> None:
    cells.ip.kernel = object()  # by this a notebook is known
    cells("%reload_ext agentcheckpoint")
    cells(f"import time\ndef slow(s): time.sleep({EVERY} + 0.05)")
    assert cells("%%agentrun slow\nfor n in range(3):\n    run.step('slow', slow, n)") is None
    first, *updates = cells.outputs
    assert not first.update and all(update.update for update in updates)
    assert len({output.transient["display_id"] for output in cells.outputs}) == 1
    told = [output.data["text/plain"] for output in cells.outputs]
    assert told[0].startswith("slow · running · ran 0 steps")
    assert any("ran 1 step ·" in text for text in told) and any("now: slow#3" in text for text in told)
    assert told[-1].startswith("run slow · completed") and "<svg" in updates[-1].data["text/html"]


def test_many_steps_make_few_updates(cells: Shell) -> None:
    cells.ip.kernel = object()
    cells("%reload_ext agentcheckpoint")
    began = time.monotonic()
    assert cells("%%agentrun quick\nfor n in range(100):\n    run.step('s', int, n)") is None
    assert len(cells.outputs) <= (time.monotonic() - began) / EVERY + 3
    assert "ran 100 steps" in cells.text
