"""The commands that look at runs and move them, in this process: what they print where, and their exit codes."""

from __future__ import annotations

import io
import json
import re
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cli_page import help_of, verbs
from memory_runs import fresh, packets

import agentcheckpoint as ac
from agentcheckpoint.cli.main import main
from agentcheckpoint.core.price import Price
from agentcheckpoint.listing import TITLES
from agentcheckpoint.show.layout import columns_of

PRICES = {"small": Price(input="1", output="2")}
HOSTILE = "\x1b[2J\u202eevil"


@dataclass(frozen=True)
class Ran:
    """What came of a command."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


Command = Callable[..., Ran]


@pytest.fixture
def command(url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs the command in this process, on the store of the test."""
    monkeypatch.setenv("AGENTCHECKPOINT_URL", url)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # the command sets its own

    def run(*words: str) -> Ran:
        monkeypatch.setattr(sys, "argv", ["agentcheckpoint", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return Ran(int(ended.value.code or 0), said.out, said.err)

    return run


@pytest.fixture
def url() -> str:
    return fresh()


def paid(name: str) -> ac.Step:
    return ac.Step(name, model="small", prices=PRICES, usage=lambda _: ac.Usage(input_tokens=1_000_000))


def research(url: str, run_id: str = "research-42", *, fails: bool = True) -> None:
    """A run of two attempts: the first one fails after it has paid, the second replays and pays again."""

    def attempt(fails: bool) -> None:
        with ac.run(run_id, store=url, conversation="chat-1", metadata={"user": HOSTILE}) as run:
            run.llm(paid("plan"), str, 1)
            run.step(ac.Step("fetch", key="a"), str, 2)
            if fails:
                raise ValueError(HOSTILE)
            run.llm(paid("answer"), str, 3)

    if fails:
        with pytest.raises(ValueError, match="evil"):
            attempt(True)
    attempt(False)


def waits(url: str, run_id: str = "refund-9") -> None:
    with pytest.raises(ac.Suspended), ac.run(run_id, store=url) as run:
        run.wait_for("sure", ac.Approval, prompt="Refund?")


def fails(url: str, run_id: str) -> None:
    with pytest.raises(KeyError), ac.run(run_id, store=url) as run:
        run.step("look", str, 1)
        raise KeyError(run_id)


# -- the list ---------------------------------------------------------------------------------------------------------


def test_runs_are_listed_the_last_first(url: str, command: Command) -> None:
    research(url)
    waits(url)
    told = command("runs")
    assert (told.code, told.err) == (0, "")
    titles, first, second = (line.split() for line in told.out.splitlines())
    assert titles == [*TITLES]
    assert first[:2] == ["refund-9", "waiting"] and "$" not in " ".join(first)
    assert second[:2] == ["research-42", "completed"] and second[-4:] == ["2", "3", "$2.00", "$1.00"]

    rows = command("runs", "-o", "jsonl").lines
    assert command("runs", "-o", "json").data == {"runs": rows}
    assert [row["run"] for row in rows] == ["refund-9", "research-42"]
    cost = rows[1]["cost"]
    assert (cost["spent_usd"], cost["saved_usd"], cost["replayed"], rows[1]["steps"]) == ("2", "1", 2, 3)
    assert rows[1]["conversation"] == "chat-1" and rows[1]["metadata"] == {"user": HOSTILE}


def test_the_list_can_be_filtered_and_cut(url: str, command: Command) -> None:
    research(url, fails=False)
    for n in range(3):
        fails(url, f"lost-{n}")
    waits(url)

    def names(*words: str) -> list[str]:
        return [row["run"] for row in command("runs", "-o", "jsonl", *words).lines]

    assert names("--state", "retryable") == ["lost-2", "lost-1", "lost-0"]
    assert names("--state", "retryable", "--limit", "2") == ["lost-2", "lost-1"]
    assert names("--conversation", "chat-1") == ["research-42"]
    assert names("--agent", "nobody") == [] and names("--before", "1h") == []
    nothing = command("runs", "--agent", "nobody")
    assert (nothing.code, nothing.out, nothing.err) == (0, "", "no such run\n")
    wrong = command("runs", "--state", "sad")
    assert wrong.code == 2 and "retryable" in wrong.err and wrong.out == ""


def test_the_list_reads_as_much_of_many_runs_as_of_few(
    url: str, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked() -> int:
        with packets(monkeypatch) as sent:
            assert len(command("runs", "-n", "3", "-o", "jsonl").lines) == 3
        return sum(sent)

    def more(first: int, count: int) -> None:
        for n in range(first, first + count):
            with ac.run(f"r{n}", store=url):
                pass

    from agentcheckpoint.store import index

    monkeypatch.setattr(index, "PAGE", 10)  # who reads all names needs more packets then
    more(0, 4)
    few = asked()
    more(4, 60)
    assert asked() == few


def test_pages_of_the_list_meet_at_a_millisecond_without_a_gap(
    url: str, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    from memory_runs import ask

    from agentcheckpoint import listing

    for n in range(7):
        with ac.run(f"r{n}", store=url):
            pass
        ask(url, "ZADD", "ac:{runs-default}:opened", str(1000 + n // 3), f"r{n}")
    monkeypatch.setattr(listing, "PAGE", 2)
    for words in ((), ("--state", "completed")):
        rows = command("runs", "-o", "jsonl", *words).lines
        assert [row["run"] for row in rows] == ["r6", "r5", "r4", "r3", "r2", "r1", "r0"]


def test_a_run_that_cannot_be_read_is_a_note_and_the_others_are_listed(url: str, command: Command) -> None:
    from memory_runs import ask

    from agentcheckpoint.core.ids import run_tag
    from agentcheckpoint.store.keys import RunKeys

    research(url, fails=False)
    fails(url, "broken")
    ask(url, "SET", RunKeys(run_tag("default", "broken")).head, "nonsense")
    told = command("runs", "-o", "jsonl")
    assert [row["run"] for row in told.lines] == ["research-42"]
    assert told.err.startswith("note: not shown: run 'broken'") and told.code == 0


# -- which run --------------------------------------------------------------------------------------------------------


def test_a_run_is_meant_by_its_name_its_unique_beginning_or_as_the_last(url: str, command: Command) -> None:
    for name in ("research", "research-42", "research-43", "other"):
        fails(url, name)

    def meant(word: str) -> str:
        return command("steps", word, "-o", "json").data["run"]

    assert [meant(word) for word in ("research", "research-42", "o", "@last")] == [
        "research",
        "research-42",
        "other",
        "other",
    ]
    several = command("show", "res")
    assert several.code == 2 and several.out == ""
    assert all(name in several.err for name in ("research, ", "research-42", "research-43"))
    assert "other" not in several.err


def test_what_is_not_there_is_not_found(url: str, command: Command) -> None:
    empty = command("show", "@last")
    assert empty.code == 2 and "no run is listed" in empty.err
    waits(url)
    for words in (
        ["show", "nobody"],
        ["steps", "nobody"],
        ["cost", "nobody"],
        ["tail", "nobody"],
        ["retry", "nobody"],
        ["cancel", "nobody"],
        ["answer", "nobody", "sure", "1"],
        ["fork", "nobody", "--after", "x", "--as", "y"],
        ["rewind", "nobody", "--after", "x"],
    ):
        ran = command(*words)
        assert (ran.code, ran.out) == (3, ""), words
        assert "nobody" in ran.err


def test_a_beginning_is_enough_for_cost_and_answer_too(url: str, command: Command) -> None:
    research(url, fails=False)
    waits(url)
    assert command("cost", "rese", "-o", "json").data["total"]["paid_usd"] == "2"
    assert command("answer", "ref", "sure", '{"ok": true}', "-o", "jsonl").lines[0]["run"] == "refund-9"


# -- one run ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [40, 80, 200])
def test_a_run_is_shown_with_its_steps_and_when_they_were_at_work(
    width: int, url: str, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    research(url)
    told = command("show", "@last", "--attempts")
    assert (told.code, told.err) == (0, "")
    lines = told.out.splitlines()
    assert lines[0].startswith("research-42  completed · 2 attempts · begun ")
    assert lines[1] == "spent $2.00 · saved $1.00 (2 steps replayed)"
    assert "\x1b" not in told.out and "\u202e" not in told.out and "\\x1b[2J" in told.out
    tables = told.out.split("\n\n")
    assert len(tables) == 4
    assert [line.split()[0] for line in tables[1].splitlines()] == ["step", "plan", "fetch[a]", "answer"]
    assert [line.split()[0] for line in tables[2].splitlines()] == ["step", "plan", "fetch[a]", "answer"]
    assert all("█" in line for line in tables[2].splitlines()[1:])
    assert [line.split()[1] for line in tables[3].splitlines()] == ["outcome", "retryable", "completed"]
    widest = max(columns_of(line) for table in tables[1:] for line in table.splitlines())
    assert widest <= width and (width == 40 or widest > width - 15), "the bars use the room"


def test_a_run_as_json_has_steps_and_attempts_with_their_errors(url: str, command: Command) -> None:
    research(url)
    seen = command("show", "research-42", "-o", "json").data
    assert (seen["run"], seen["state"], seen["attempt"], seen["forked_from"]) == ("research-42", "completed", 2, None)
    assert [(step["step"], step["outcome"], step["cost_nano_usd"]) for step in seen["steps"]] == [
        ("plan", "done", 10**9),
        ("fetch[a]", "done", None),
        ("answer", "done", 10**9),
    ]
    first, second = seen["attempts"]
    assert (first["outcome"], first["error"]["type"], first["error"]["message"]) == ("retryable", "ValueError", HOSTILE)
    assert (second["outcome"], second["error"], second["cost"]["replayed"]) == ("completed", None, 2)
    assert command("steps", "research-42", "-o", "jsonl").lines == seen["steps"]
    assert seen["steps"] == ac.get("research-42", store=url).to_records()
    assert command("show", "research-42", "-o", "jsonl").lines == [seen]
    assert command("steps", "research-42").out.splitlines()[1].split()[:3] == ["plan", "llm", "done"]


def test_what_it_waits_for_and_what_went_wrong_are_shown(url: str, command: Command) -> None:
    waits(url)
    assert "waits for sure: Refund?\n" in command("show", "refund-9").out
    fails(url, "lost")
    assert "KeyError: 'lost'\n" in command("show", "lost").out


def test_what_has_no_price_is_null_and_a_dash_never_0(url: str, command: Command) -> None:
    unpriced = ac.Step("ask", model="nobody-knows", usage=lambda _: ac.Usage(input_tokens=5))
    with ac.run("dear", store=url) as run:
        run.llm(unpriced, str, 1)
    seen = command("show", "dear", "-o", "json").data
    assert seen["cost"]["spent_usd"] is None and seen["cost"]["unpriced"] == 1
    assert seen["steps"][0]["cost_nano_usd"] is None and seen["steps"][0]["cost_is_whole"] is False
    assert command("runs").out.splitlines()[1].split()[-1] == "—"


# -- following --------------------------------------------------------------------------------------------------------


def test_a_run_that_is_over_is_told_from_its_beginning_and_the_exit_code_is_its_outcome(
    url: str, command: Command
) -> None:
    research(url)
    told = command("tail", "research-42")
    assert (told.code, told.err) == (0, "")
    said = [re.sub(r"^\d\d:\d\d:\d\d  | by .*|\d+ms(, )?|\(\)", "", line).strip() for line in told.out.splitlines()]
    assert said == [
        "begun",
        "attempt 1 opened",
        "plan is being called",
        "plan done ($1.00)",
        "fetch[a] done",
        "retryable: ValueError: \\x1b[2J\\u202eevil",
        "attempt 2 opened",
        "answer is being called",
        "answer done ($1.00)",
        "completed",
    ]
    lines = command("tail", "research-42", "-o", "jsonl").lines
    assert [line["k"] for line in lines].count("opened") == 2 and lines[-1]["state"] == "completed"
    assert lines[3]["paid"][0]["cost"] == 1_000_000_000 and "inputs" not in lines[3]
    assert command("tail", "research-42", "-o", "json").data == {
        "run": "research-42",
        "state": "completed",
        "entries": lines,
    }
    waits(url)
    assert command("tail", "refund-9").code == 4
    assert command("cancel", "refund-9").code == 0 and command("tail", "refund-9").code == 1


# -- going on ---------------------------------------------------------------------------------------------------------


def test_a_run_is_cancelled_and_let_go_on(url: str, command: Command) -> None:
    fails(url, "lost")
    told = command("cancel", "lo", "--reason", "no more")
    assert (told.code, told.out) == (0, "lost is cancelled\n")
    assert ac.get("lost", store=url).state == "cancelled"
    assert command("retry", "lost", "-o", "json").data == {"run": "lost", "due": True}
    assert ac.get("lost", store=url).state == "retryable"
    research(url, fails=False)
    done = command("retry", "research-42")
    assert (done.code, done.out) == (1, "") and "completed" in done.err


def test_a_fork_is_previewed_and_made_with_other_results(url: str, command: Command) -> None:
    research(url, fails=False)
    words = ("fork", "research-42", "--after", "plan", "--as", "second", "--override", "plan=go")
    dry = command(*words, "--dry-run")
    assert dry.code == 0 and dry.out.startswith("fork of research-42 after plan, as second") and "$1.00" in dry.out
    assert dry.err == "nothing was changed\n" and command("show", "second", "-o", "json").code == 3
    made = command(*words, "-o", "json").data
    assert (made["run"], made["source"], made["after"], made["dry_run"]) == ("second", "research-42", "plan", False)
    assert [step["cost_nano_usd"] for step in made["steps"]] == [10**9, None, 10**9]
    assert [(step["step"], step["becomes"]) for step in made["steps"]] == [
        ("plan", "overridden"),
        ("fetch[a]", "again"),
        ("answer", "again"),
    ]
    assert command("show", "second", "-o", "json").data["forked_from"] == {"run": "research-42", "after": "plan"}
    with ac.run("second", store=url) as run:
        assert run.llm(paid("plan"), str, 1) == "go"
    assert command(*words).code == 1  # that name is taken
    assert command("fork", "research-42", "--after", "plan", "--as", "x", "--override", "plan").code == 2


def test_an_override_names_a_step_whose_key_has_an_equals_sign(url: str, command: Command) -> None:
    with ac.run("keyed", store=url) as run:
        run.step(ac.Step("fetch", key="a=b"), str, 1)
    made = command("fork", "keyed", "--after", "fetch[a=b]", "--as", "other", "--override", 'fetch[a=b]={"n": 1}')
    assert made.code == 0, made.err
    with ac.run("other", store=url) as run:
        assert run.step(ac.Step("fetch", key="a=b", returns=dict), str, 1) == {"n": 1}


def test_a_run_goes_back_after_it_was_shown_what_that_means(url: str, command: Command) -> None:
    fails(url, "lost")
    dry = command("rewind", "lost", "--after", "look", "--dry-run")
    assert dry.code == 0 and dry.out.startswith("rewind of lost to after look") and dry.err == "nothing was changed\n"
    assert not [e for e in ac.get("lost", store=url).entries if e.k == "rewound"]
    assert command("rewind", "lost", "--after", "look", "-o", "json").data["going"] == "rewind"
    assert [e for e in ac.get("lost", store=url).entries if e.k == "rewound"]
    wrong = command("rewind", "lost", "--after", "never")
    assert wrong.code == 1 and "never" in wrong.err


@ac.agent
def greet(name: str) -> str:
    print("hello")
    return name


@ac.agent
def asks(name: str) -> str:
    return ac.Run.current().wait_for("who", str, prompt=name)


@ac.agent
def other(name: str) -> str:
    return name


def test_an_attempt_is_made_here(url: str, command: Command) -> None:
    here = f"{__name__}:greet"
    greet.using(store=url).submit("greets", "ada")
    done = command("resume", here, "gre", "-o", "json")
    assert done.code == 0 and done.data["state"] == "completed" and done.err == "hello\n"
    asks.using(store=url).submit("question", "who?")
    waits = command("resume", f"{__name__}:asks", "question")
    assert waits.code == 4 and waits.out.startswith("question: waiting")
    again = command("resume", here, "greets")
    assert again.code == 0 and again.out.startswith("greets: completed") and again.err == ""


@pytest.mark.parametrize(
    ("agent", "run", "code", "says"),
    [("other", "greets", 1, "greet"), ("greet", "nowhere", 3, "nowhere"), ("nothing", "greets", 2, "nothing")],
)
def test_what_cannot_be_resumed_is_said(agent: str, run: str, code: int, says: str, url: str, command: Command) -> None:
    greet.using(store=url).submit("greets", "ada")
    ran = command("resume", f"{__name__}:{agent}", run)
    assert ran.code == code and says in ran.err


@pytest.mark.parametrize("words", [("runs",), ("tail", "x"), ("doctor",)], ids=" ".join)
def test_a_store_that_is_not_there_is_exit_code_5(words: tuple[str, ...], command: Command, tmp_path: Path) -> None:
    asked = command(*words, "--store", f"unix://{tmp_path}/nothing")
    assert (asked.code, asked.out) == (5, "") and asked.err.startswith("agentcheckpoint: unix://")


# -- files ------------------------------------------------------------------------------------------------------------


def test_a_run_is_exported_and_imported_under_another_name(
    url: str, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    research(url, fails=False)
    file = tmp_path / "run.jsonl"
    assert command("export", "rese", str(file)) == Ran(0, "", "")
    piped = command("export", "@last")
    assert piped.code == 0 and piped.out == file.read_text("utf-8") and piped.lines

    elsewhere = fresh()
    assert command("import", str(file), "--store", elsewhere) == Ran(0, "imported: research-42\n", "")
    assert ac.get("research-42", store=elsewhere).cost.spent == ac.get("research-42", store=url).cost.spent
    monkeypatch.setattr(sys, "stdin", io.StringIO(piped.out))
    assert command("import", "-", "--as", "copy", "-o", "json").data == {"run": "copy"}
    taken = command("import", str(file))
    assert taken.code == 1 and taken.out == "" and "research-42" in taken.err


def test_a_file_that_is_not_there_or_no_run_is_said(url: str, command: Command, tmp_path: Path) -> None:
    research(url, fails=False)
    (tmp_path / "text").write_text("no run\n")
    for words in (("import", "nothing"), ("import", "text"), ("export", "@last", "no-folder/file")):
        ran = command(*words[:-1], str(tmp_path / words[-1]))
        assert ran.code == 1 and ran.err.startswith("agentcheckpoint: ") and "Traceback" not in ran.err, words


# -- all of them ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", verbs(), ids=" ".join)
def test_every_command_says_what_it_does_with_an_example_of_itself(words: tuple[str, ...]) -> None:
    text = help_of(words)
    assert f"Example: agentcheckpoint {' '.join(words)}" in text
    assert words[0] in ("worker", "cost", "demo", "export") or "-o, --output <text|json|jsonl>" in text
