"""The example in ``examples/``: it is the demo's agent, it survives a kill, and its tools stay in their folder."""

from __future__ import annotations

import inspect
import os
import runpy
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI

import agentcheckpoint as ac
from agentcheckpoint.demo import agent
from agentcheckpoint.demo.brain import research_brain
from agentcheckpoint.store.embedded import ensure_server, stop_server
from agentcheckpoint.testing.accounts import settle
from agentcheckpoint.testing.brain import Answer, ToolCall, scripted
from agentcheckpoint.testing.provider import Provider

pytestmark = pytest.mark.filterwarnings("ignore::agentcheckpoint.errors.DurabilityWarning")

EXAMPLE = Path(__file__).parents[1] / "examples" / "research_agent.py"


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    home = tmp_path / "state"
    yield home
    stop_server(home)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "documents"
    (folder / "deep").mkdir(parents=True)
    (folder / "bees.md").write_text("# Bees\n\nA bee dances to tell the others where the clover is.\n")
    (folder / "deep" / "hive.txt").write_text("In the hive each bee that dances is watched by some others.\n")
    return folder


def test_it_is_the_agent_of_the_demo_and_short() -> None:
    example = runpy.run_path(str(EXAMPLE))
    for function in (agent.tools_for, agent.research):
        assert inspect.getsource(example[function.__name__]) == inspect.getsource(function)
    assert len(EXAMPLE.read_text().splitlines()) < 85


def test_without_arguments_it_says_how_it_is_called() -> None:
    ran = subprocess.run([sys.executable, str(EXAMPLE)], capture_output=True, text=True, timeout=250)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr == 'usage: python research_agent.py FOLDER "QUESTION" RUN_ID\n'


def test_it_is_killed_started_again_and_pays_for_no_stored_answer_again(home: Path, folder: Path) -> None:
    command = [sys.executable, str(EXAMPLE), str(folder), "Why does a bee dance?", "bees"]
    with Provider(research_brain(0.3)) as provider:
        own = {"OPENAI_BASE_URL": provider.url, "OPENAI_API_KEY": "test", "OPENAI_MODEL": "demo-large"}
        own |= {"AGENTCHECKPOINT_HOME": str(home), "AGENTCHECKPOINT_URL": "", "NO_PROXY": "127.0.0.1"}
        environment = {**os.environ, **own}
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as first:
            while len(provider.journal) < 3:
                assert first.poll() is None
                time.sleep(0.01)
            first.kill()
            assert first.stdout is not None and first.stdout.read() == ""
        paid = len(provider.journal)
        second = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=250)
        assert second.returncode == 0, second.stderr
        answer, cost = second.stdout.splitlines()
        assert "A bee dances to tell the others where the clover is. (bees.md)" in answer
        assert "steps replayed" in cost and "1 unresolved" in cost

        run = ac.get("bees", store=ensure_server(home).url)
        accounts = settle(provider.journal, run.ledger)
    assert paid == 3 and accounts.paid_twice == 0 and accounts.repaid_in_window == 1
    assert {entry.id for entry in run.ledger} == {payment.client_request_id for payment in provider.journal}
    assert run.state == "completed" and {row.kind for row in run.steps} == {"llm", "tool"}


def test_tool_calls_of_one_answer_run_at_the_same_time() -> None:
    together = threading.Barrier(3, timeout=250)

    @ac.tool
    def meet(name: str) -> str:
        together.wait()  # nobody leaves before all three have come
        return f"{name} came"

    calls = tuple(ToolCall("meet", {"name": name}) for name in ("Ann", "Bo", "Cy"))
    with Provider(scripted(Answer(tool_calls=calls), "enough", "All came.")) as provider:
        client = ac.wrap(OpenAI(base_url=provider.url, api_key="test"))
        with client, ac.run(store="memory://") as run:
            assert agent.research(run, client, {"meet": meet}, "Who came?") == "All came."
        conversation = provider.requests[1].body.decode()
    places = [conversation.index(f"{name} came") for name in ("Ann", "Bo", "Cy")]
    assert places == sorted(places)


def test_a_tool_call_that_cannot_be_is_told_to_the_model() -> None:
    @ac.tool
    def double(n: int) -> int:
        return 2 * n

    calls = (ToolCall("triple", {"n": 1}), ToolCall("double", {"n": "many"}), ToolCall("double", {"n": 4}))
    with Provider(scripted(Answer(tool_calls=calls), "enough", "8")) as provider:
        client = ac.wrap(OpenAI(base_url=provider.url, api_key="test"))
        with client, ac.run(store="memory://") as run:
            agent.research(run, client, {"double": double}, "What is twice four?")
        said = provider.requests[1].body.decode()
    assert "KeyError('triple')" in said and "valid integer" in said and '"content":8' in said.replace(" ", "")


@pytest.fixture
def use(folder: Path) -> Iterator[Any]:
    """Calls a tool as the model does."""
    tools = agent.tools_for(folder)
    with ac.run(store="memory://"):
        yield lambda tool, **arguments: tools[tool].call(arguments)


def test_the_tools_list_search_and_read(use: Any) -> None:
    assert use("list_documents").splitlines() == [
        "bees.md: # Bees",
        "deep/hive.txt: In the hive each bee that dances is watched by some others.",
    ]
    assert use("search_documents", words="CLOVER").startswith("bees.md:3: A bee dances")
    assert len(use("search_documents", words="bee that dances").splitlines()) == 1
    assert use("read_document", name="bees.md", line=3).startswith("A bee dances")


def test_each_document_is_read_once(use: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    read_text = Path.read_text

    def noted(path: Path, *args: Any) -> str:
        read.append(path.name)
        return read_text(path, *args)

    monkeypatch.setattr(Path, "read_text", noted)
    for _ in range(2):
        use("list_documents")
        use("search_documents", words="bee")
        use("read_document", name="bees.md")
    assert sorted(read) == ["bees.md", "hive.txt"]


def test_the_tools_do_not_leave_their_folder(folder: Path, tmp_path: Path, use: Any) -> None:
    (tmp_path / "secret.txt").write_text("the clover is a secret")
    (folder / "link.txt").symlink_to(tmp_path / "secret.txt")
    (folder / "away").symlink_to(tmp_path)
    for name in ("../secret.txt", str(tmp_path / "secret.txt"), "link.txt", "away/secret.txt", "deep/../../secret.txt"):
        assert use("read_document", name=name) == f"there is no {name!r}"
    assert "secret" not in use("search_documents", words="clover") + use("list_documents")


def test_what_the_tools_return_is_bounded(folder: Path, use: Any) -> None:
    for n in range(300):
        (folder / f"{n}.md").write_text(("bee " * 500 + "\n") * 100)
    assert len(use("list_documents")) <= 9000
    assert len(use("search_documents", words="bee")) <= 60 * 250
    assert len(use("read_document", name="7.md")) <= 4000
