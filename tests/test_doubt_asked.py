"""A step in doubt, and a person who says what has become of it: once for each call, in the step's own type."""

from __future__ import annotations

from typing import Any

import pytest
from memory_runs import fresh, logged

import agentcheckpoint as ac
from agentcheckpoint import doubting
from agentcheckpoint.core.models import Done, Intent

ONCE = ac.Step("mail", effect="once")


class Post:
    """Sends mails; dies while it sends the first so many."""

    def __init__(self, dies: int = 1) -> None:
        self.sent: list[str] = []
        self.dies = dies

    def send(self, to: str) -> str | None:
        self.sent.append(to)
        if len(self.sent) <= self.dies:
            raise KeyboardInterrupt
        return f"sent to {to}"

    def sure(self, to: str) -> int:
        """The same, of a type that does not allow ``None``."""
        self.send(to)
        return 7


def dies(url: str, fn: Any) -> None:
    with pytest.raises(KeyboardInterrupt), ac.run("r", store=url) as run:
        run.step(ONCE, fn, "ada")


def asks(url: str, fn: Any) -> ac.StepInDoubt:
    with pytest.raises(ac.StepInDoubt) as caught, ac.run("r", store=url) as run:
        run.step(ONCE, fn, "ada")
    assert ac.get("r", store=url).state == "waiting"
    return caught.value


def ends(url: str, fn: Any) -> Any:
    with ac.run("r", store=url) as run:
        return run.step(ONCE, fn, "ada")


def test_it_is_asked_once_with_the_key_and_how_to_answer() -> None:
    url, post = fresh(), Post()
    dies(url, post.send)
    first, second = asks(url, post.send), asks(url, post.send)
    (question,) = ac.waiting(store=url)
    assert question.name == "mail/decide" and first.idempotency_key == second.idempotency_key
    assert first.idempotency_key in (question.prompt or "") and "agentcheckpoint answer r mail/decide" in str(first)
    assert isinstance(first, ac.Suspended) and post.sent == ["ada"]


@pytest.mark.parametrize(
    ("said", "result", "calls", "decided"),
    [
        ("rerun", "sent to ada", 2, "rerun"),
        ("skip", None, 1, "skip"),
        ({"result": "sent yesterday"}, "sent yesterday", 1, "happened"),
        ({"result": None}, None, 1, "happened"),
    ],
)
def test_what_is_said_is_done_and_stays_so(said: object, result: object, calls: int, decided: str) -> None:
    url, post = fresh(), Post()
    dies(url, post.send)
    asks(url, post.send)
    ac.answer("r", "mail", said, by="grace", store=url)
    for _ in range(2):
        assert ends(url, post.send) == result
    assert len(post.sent) == calls
    (done,) = [entry for entry in logged(url, "r", Done) if entry.slot == "mail"]
    assert done.decided == decided
    if said == "rerun":
        assert [intent.decided for intent in logged(url, "r", Intent)] == [None, "rerun"]


def test_a_yes_to_one_call_is_none_to_the_next_that_dies() -> None:
    url, post = fresh(), Post(dies=2)
    dies(url, post.send)
    asks(url, post.send)
    ac.answer("r", "mail", "rerun", store=url)
    dies(url, post.send)
    asks(url, post.send)
    assert len(ac.waiting(store=url)) == 1 and len(post.sent) == 2
    ac.answer("r", "mail", "skip", store=url)
    assert ends(url, post.send) is None and len(post.sent) == 2


def test_without_the_call_in_the_question_a_yes_would_hold_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    plan_wait = doubting.plan_wait
    monkeypatch.setattr(doubting, "plan_wait", lambda *args, about, **more: plan_wait(*args, **more))
    with pytest.raises(pytest.fail.Exception):  # nobody is asked: it is sent a third time
        test_a_yes_to_one_call_is_none_to_the_next_that_dies()


@pytest.mark.parametrize("said", ["skip", {"result": "seven"}])
def test_what_is_no_result_of_the_step_is_asked_again(said: object) -> None:
    url, post = fresh(), Post()
    dies(url, post.sure)
    asks(url, post.sure)
    ac.answer("r", "mail", said, store=url)
    asks(url, post.sure)
    (question,) = ac.waiting(store=url)
    assert question.refused and len(post.sent) == 1
    ac.answer("r", "mail", {"result": 3}, store=url)
    assert ends(url, post.sure) == 3


@pytest.mark.parametrize("said", ["again", 1, None, {"outcome": 1}])
def test_what_is_no_choice_is_refused_when_it_is_given(said: object) -> None:
    url, post = fresh(), Post()
    dies(url, post.send)
    asks(url, post.send)
    with pytest.raises(ac.AnswerRefused):
        ac.answer("r", "mail", said, store=url)


async def test_an_async_step_is_asked_about_too() -> None:
    url, sent = fresh(), list[str]()

    async def send(to: str) -> str:
        sent.append(to)
        raise ac.Interrupted("it dies")

    for expected in (ac.Interrupted, ac.StepInDoubt):
        with pytest.raises(expected):
            async with ac.run("r", store=url) as run:
                await run.step(ONCE, send, "ada")
    ac.answer("r", "mail", {"result": "done"}, store=url)
    async with ac.run("r", store=url) as run:
        assert await run.step(ONCE, send, "ada") == "done"
    assert sent == ["ada"]
