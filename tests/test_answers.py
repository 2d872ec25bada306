"""``ac.answer`` and ``ac.waiting``: checked when it is given, the first one counts, and nothing else is disturbed."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import Counter
from typing import Any

import pytest
from memory_runs import ask, fresh, logged
from servers import redis_server, server_url

import agentcheckpoint as ac
from agentcheckpoint import answering
from agentcheckpoint.core.ids import run_tag
from agentcheckpoint.core.models import Waiting
from agentcheckpoint.store.answers import decide_wait
from agentcheckpoint.store.keys import RunKeys

pytestmark = pytest.mark.filterwarnings("ignore::agentcheckpoint.errors.DurabilityWarning")
__all__ = ["redis_server", "server_url"]

RACERS = """
import os, sys, warnings
warnings.simplefilter("ignore")
import agentcheckpoint as ac
from agentcheckpoint import answering

def give(n):
    sys.stdin.buffer.read(1)
    try:
        ac.answer("race", "w", n, store=sys.argv[1])
        return b"won\\n"
    except ac.AlreadyAnswered as exc:
        return b"lost to %d\\n" % exc.value

children = []
for n in range(8):
    child = os.fork()
    if child == 0:
        os.write(1, give(n))
        os._exit(0)
    children.append(child)
for child in children:
    os.waitpid(child, 0)
"""


def waits(url: str, returns: Any = bool, run_id: str = "r", name: Any = "w", **options: Any) -> None:
    with pytest.raises(ac.Suspended), ac.run(run_id, store=url) as run:
        run.wait_for(name, returns, **options)


def takes(url: str, returns: Any = bool, run_id: str = "r", name: Any = "w", **options: Any) -> Any:
    with ac.run(run_id, store=url) as run:
        return run.wait_for(name, returns, **options)


def fields(url: str, run_id: str = "r") -> int:
    return int(ask(url, "HLEN", RunKeys(run_tag("default", run_id)).answers))


# -- the first one counts ---------------------------------------------------------------------------------------------


def test_the_first_answer_counts_and_the_same_one_again_is_no_error() -> None:
    url = fresh()
    waits(url, int)
    first = ac.answer("r", "w", 1, by="ada", store=url)
    assert (first.by, first.name) == ("ada", "w")
    assert ac.answer("r", "w", 1, by="grace", store=url) == first
    for _ in range(2):  # before it is taken, and after
        with pytest.raises(ac.AlreadyAnswered, match="by ada") as caught:
            ac.answer("r", "w", 2, store=url)
        assert caught.value.value == 1
        assert takes(url, int) == 1
    assert fields(url) == 1


def race(url: str, threads: int = 8) -> Counter[str]:
    """So many threads answer at once, each otherwise: how many won, and how many heard that another had."""
    waits(url, int, "race")
    line, said = threading.Barrier(threads), list[str]()

    def give(n: int) -> None:
        line.wait()
        try:
            ac.answer("race", "w", n, store=url)
            said.append("won")
        except ac.AlreadyAnswered:
            said.append("lost")

    givers = [threading.Thread(target=give, args=(n,)) for n in range(threads)]
    for giver in givers:
        giver.start()
    for giver in givers:
        giver.join()
    return Counter(said)


def test_of_eight_threads_that_answer_at_once_exactly_one_wins() -> None:
    assert race(fresh()) == {"won": 1, "lost": 7}


def test_an_answer_that_overwrites_would_let_several_win(monkeypatch: pytest.MonkeyPatch) -> None:
    from agentcheckpoint.store import answers

    exchange = answers.exchange

    def overwriting(run_id: str, commands: Any, times: int) -> Any:
        commands = tuple(("HSET", *command[1:]) if command[0] == "HSETNX" else command for command in commands)
        return (yield from exchange(run_id, commands, times))

    monkeypatch.setattr(answers, "exchange", overwriting)
    assert race(fresh())["won"] > 1


def test_of_eight_processes_that_answer_at_once_exactly_one_wins(redis_server: Any) -> None:
    url = redis_server.url
    waits(url, int, "race")
    racers = subprocess.Popen([sys.executable, "-c", RACERS, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    said = racers.communicate(b"!!!!!!!!", timeout=60)[0].decode().splitlines()
    winner = takes(url, int, "race")
    assert Counter(said) == {"won": 1, f"lost to {winner}": 7}


def test_an_answer_and_the_time_that_is_up_are_never_both() -> None:
    """The worker gives up in the same field that an answer is written to."""
    url = fresh()
    waits(url, int, timeout=0.2)
    with pytest.raises(ac.WaitTimeout):
        takes(url, int, timeout=0.2, hold=5)
    (entry,) = logged(url, "r", Waiting)
    keys = RunKeys(run_tag("default", "r"))
    assert ask(url, "HSETNX", keys.answers, entry.id, "late") == 0


# -- checked when it is given ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("returns", "answer", "words"),
    [
        (int, "x", "is not of type 'integer'"),
        (ac.Approval, {"note": "x"}, "'ok' is a required property"),
        (ac.Approval, {"ok": "perhaps"}, r"\$.ok: 'perhaps' is not of type 'boolean'"),
        (list[int], [1, "a", "b"], r"\$\[1\].*\n.*\$\[2\]"),
        (bool, object(), "cannot be written as JSON"),
    ],
)
def test_an_answer_that_does_not_fit_is_refused_and_nothing_is_stored(returns: Any, answer: object, words: str) -> None:
    url = fresh()
    waits(url, returns)
    with pytest.raises(ac.AnswerRefused, match=words) as caught:
        ac.answer("r", "w", answer, store=url)
    assert isinstance(caught.value, ValueError) and fields(url) == 0
    assert len(ac.waiting(store=url)) == 1


def test_a_form_fetches_nothing_from_elsewhere() -> None:
    from agentcheckpoint.core.fitting import misfits

    assert "form cannot be read" in misfits('{"$ref": "http://127.0.0.1:9/schema"}', 1)[0]


def test_who_answers_has_a_name_of_some_length() -> None:
    url = fresh()
    waits(url)
    for by in ("", "x" * 201):
        with pytest.raises(ac.AnswerRefused):
            ac.answer("r", "w", True, by=by, store=url)


# -- which wait is meant ----------------------------------------------------------------------------------------------


def test_a_wait_that_is_not_there_is_told_with_those_that_are() -> None:
    url = fresh()
    waits(url)
    with pytest.raises(ac.WaitNotFound, match="It waits for: 'w'") as caught:
        ac.answer("r", "other", True, store=url)
    assert isinstance(caught.value, LookupError)
    with pytest.raises(ac.RunNotFound):
        ac.answer("nobody", "w", True, store=url)


def test_a_sleep_cannot_be_answered() -> None:
    url = fresh()
    with pytest.raises(ac.Suspended), ac.run("r", store=url) as run:
        run.sleep(1000, hold=0)
    with pytest.raises(ac.WaitNotFound, match="waits for no answer"):
        ac.answer("r", "sleep", None, store=url)
    assert ac.waiting(store=url) == []


def test_a_part_of_the_name_is_enough_if_it_is_the_only_one() -> None:
    url = fresh()
    waits(url, name=ac.Step("w", key="a/b"))
    assert ac.answer("r", "w", True, store=url).name == "w[a/b]"
    assert takes(url, name=ac.Step("w", key="a/b")) is True
    for n in range(2):
        with pytest.raises(ac.Suspended), ac.run(f"two-{n}", store=url) as run, run.begin("outer"):
            run.wait_for("w", bool)
        assert ac.answer(f"two-{n}", ("w", "outer")[n], True, store=url).name == "outer/w"


def test_what_runs_wait_for_is_listed_oldest_first_until_it_is_answered() -> None:
    url = fresh()
    for n in range(3):
        waits(url, ac.Approval, f"r{n}", prompt=f"question {n}", timeout=1000 if n else None)
    found = ac.waiting(store=url)
    assert [(q.run_id, q.name, q.prompt) for q in found] == [(f"r{n}", "w", f"question {n}") for n in range(3)]
    assert found[0].until is None and found[1].until is not None and (found[1].until - found[1].since).seconds == 1000
    assert found[0].form["required"] == ["ok"]
    ac.answer("r1", "w", ac.Approval(True), store=url)
    assert [question.run_id for question in ac.waiting(store=url)] == ["r0", "r2"]
    assert ac.waiting(store=url, namespace="other") == []


# -- while the run changes hands --------------------------------------------------------------------------------------


def test_a_run_that_was_deleted_or_has_ended_takes_no_answer() -> None:
    url = fresh()
    waits(url)
    with ac.run("r", store=url):
        pass  # it took another way
    with pytest.raises(ac.WaitNotFound, match="has ended"):
        ac.answer("r", "w", True, store=url)
    assert ac.waiting(store=url) == []
    ac.delete("r", store=url)
    with pytest.raises(ac.RunNotFound):
        ac.answer("r", "w", True, store=url)
    assert fields(url) == 0


def meanwhile(url: str, monkeypatch: pytest.MonkeyPatch, what: Any) -> ac.Answered:
    """Answers; ``what`` happens once, when the run has been read and before the answer is written."""
    pending = [what]

    def disturbed(address: Any, choose: Any) -> Any:
        def choosing(loaded: Any) -> Any:
            offer = choose(loaded)
            if pending:
                pending.pop()()
            return offer

        return (yield from decide_wait(address, choosing))

    with monkeypatch.context() as patched:
        patched.setattr(answering, "decide_wait", disturbed)
        return ac.answer("r", "w", True, store=url)


def test_an_answer_survives_a_takeover_that_comes_in_between(monkeypatch: pytest.MonkeyPatch) -> None:
    url = fresh()
    waits(url)
    meanwhile(url, monkeypatch, lambda: waits(url))
    assert takes(url) is True


def test_an_answer_to_a_run_that_is_deleted_in_between_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    url = fresh()
    waits(url)
    with pytest.raises(ac.RunNotFound):
        meanwhile(url, monkeypatch, lambda: ac.delete("r", store=url))
    assert fields(url) == 0


def test_without_a_watch_on_the_head_it_would_leave_an_answer_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    from agentcheckpoint.store import answers

    exchange = answers.exchange

    def blind(run_id: str, commands: Any, times: int) -> Any:
        if commands[0][0] == "WATCH":
            commands = (("EXISTS", *commands[0][1:]), *commands[1:])
        return (yield from exchange(run_id, commands, times))

    url = fresh()
    waits(url)
    monkeypatch.setattr(answers, "exchange", blind)
    meanwhile(url, monkeypatch, lambda: ac.delete("r", store=url))
    assert fields(url) == 1


def test_a_run_begun_afresh_in_between_is_not_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    url = fresh()
    waits(url)

    def afresh() -> None:
        with ac.run("r", store=url, on_existing="fresh"):
            pass

    with pytest.raises(ac.WaitNotFound):
        meanwhile(url, monkeypatch, afresh)
    assert fields(url) == 0


# -- on each server ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("server_url", ["memory", "redis"], indirect=True)
def test_a_question_is_asked_answered_and_taken(server_url: str) -> None:
    waits(server_url, ac.Approval, "served", prompt="May I?")
    assert [question.prompt for question in ac.waiting(store=server_url)] == ["May I?"]
    ac.answer("served", "w", {"ok": True}, by="ada", store=server_url)
    assert takes(server_url, ac.Approval, "served", prompt="May I?") == ac.Approval(True)
    assert ac.waiting(store=server_url) == []
