"""How a life is driven: by ``with ac.run``, as a script does; or as a worker does it, that finds what is due."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import httpx2
import openai
import tenacity

import agentcheckpoint as ac

from .deeds import Stumbled
from .diary import Diary

DONE, FAILED, WAITS, CANCELLED = 0, 3, 4, 5
"""Exit codes: the agent is done; it failed by an error that a user would expect, and may be started again; it waits for
an answer; its run is cancelled."""
EXPECTED = (openai.APIConnectionError, httpx2.HTTPError)
"""What a broken line to the provider looks like."""
ATTEMPTS = 8
"""More than fail in any scenario. After each of them the next is due at once."""
SOON = 20.0
"""Seconds in which anybody finds a run that has work: within two, if the machine does not stand still."""


def answer_all(run_id: str, asked: Sequence[str], store: ac.Store, diary: Diary) -> None:
    """Answers these questions, each time by something else; what counts, as the giver is told, is in the diary."""
    for name in asked:
        approves = name.endswith("/approve")
        said: Any = ac.Approval(ok=True) if approves else {"said": os.urandom(4).hex()}
        try:
            ac.answer(run_id, name, said, by="the grid", store=store)
        except ac.WaitNotFound:  # its end was asked for meanwhile: if not, the life does not come to its end
            return
        except ac.AlreadyAnswered as exc:
            said = exc.value
        if not approves:
            diary.write("answer", name, said)


def by_hand(attempt: Callable[[], Any], diary: Diary) -> int:
    """One attempt; its caller sees its errors."""
    diary.write("attempt", "", 1)
    try:
        output = attempt()
    except EXPECTED as exc:
        _tell(diary, exc)
        return FAILED
    except ac.Suspended:
        return _leave(diary, WAITS)
    except (ac.Interrupted, ac.RunCancelled):
        return CANCELLED
    return _end(diary, output)


def by_worker(body: Callable[[], Any], run_id: str, store: ac.Store, diary: Diary) -> int:
    """What a worker does: the run is submitted, found in the list, and tried until nothing of it is due.

    Raises:
        AssertionError: it has work, and nobody finds it.
    """
    policy = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(ATTEMPTS),
        wait=tenacity.wait_none(),
        retry=tenacity.retry_if_exception_type((Stumbled, *EXPECTED)),
    )
    agent = ac.agent(name="grid", retry=policy)(body).using(store=store)
    agent.submit(run_id)
    if not _found(run_id, store):
        return _stands(agent, run_id, store, diary)
    if asyncio.iscoroutinefunction(body):
        worked = asyncio.run(_try_on_loop(agent, run_id, store, diary))
    else:
        worked = _try(agent, run_id, store, diary)
    if worked.state == "waiting" and isinstance(worked.error, ac.Suspended):
        return _leave(diary, WAITS)
    if isinstance(worked.error, ac.RunCancelled):  # it was asked for as the attempt failed: a sweep notes it
        return CANCELLED
    if worked.state not in ("completed", "cancelled"):
        raise AssertionError(f"the run is {worked.state}, due at {worked.due_ms}") from worked.error
    return _stands(agent, run_id, store, diary)


def _try(agent: Any, run_id: str, store: ac.Store, diary: Diary) -> ac.Worked:
    """Attempt after attempt, while the next one is due at once."""
    for _ in range(ATTEMPTS):
        diary.write("attempt", "", 1)
        worked = ac.work_on(agent, run_id, store=store)
        if not _again(worked, diary):
            break
    return worked


async def _try_on_loop(agent: Any, run_id: str, store: ac.Store, diary: Diary) -> ac.Worked:
    """The same on one event loop."""
    for _ in range(ATTEMPTS):
        diary.write("attempt", "", 1)
        worked = await ac.work_on_async(agent, run_id, store=store)
        if not _again(worked, diary):
            break
    return worked


def _again(worked: ac.Worked, diary: Diary) -> bool:
    if worked.state != "retryable" or worked.due_ms is None or isinstance(worked.error, ac.RunCancelled):
        return False
    if not isinstance(worked.error, Stumbled):
        _tell(diary, worked.error)
    return True


def _found(run_id: str, store: ac.Store) -> bool:
    """Whether a sweep hands it over, at once or soon; ``False``: it has ended."""
    handed: list[str] = []
    deadline = time.monotonic() + SOON
    while True:
        ac.sweep(store=store, hand_over=lambda id, _: handed.append(id), again=0)
        ended = ac.get(run_id, store=store).state in ("completed", "cancelled")
        if run_id in handed or ended or time.monotonic() > deadline:
            return run_id in handed
        time.sleep(0.1)


def _stands(agent: Any, run_id: str, store: ac.Store, diary: Diary) -> int:
    view = ac.get(run_id, store=store)
    if view.state == "cancelled":
        return CANCELLED
    assert view.state == "completed", f"nobody finds the run, and it is {view.state}"
    output = agent.run(run_id)
    return _end(diary, asyncio.run(output) if asyncio.iscoroutine(output) else output)


def _tell(diary: Diary, error: BaseException | None) -> None:
    diary.write("error", "", f"{type(error).__name__}: {error} {error and error.__cause__!r}")


def _end(diary: Diary, output: Any) -> int:
    _leave(diary, DONE)
    diary.write("end", "", output)
    return DONE


def _leave(diary: Diary, code: int) -> int:
    diary.write("points", "", diary.points)
    return code
