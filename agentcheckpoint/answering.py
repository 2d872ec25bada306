"""``ac.answer`` and ``ac.waiting``: what runs wait for, as seen and answered from outside."""

from __future__ import annotations

import datetime
import json
from dataclasses import dataclass
from typing import Any, cast

from pydantic_core import to_json

from agentcheckpoint.core import ids
from agentcheckpoint.core.fitting import misfits
from agentcheckpoint.core.lifecycle import ENDED, since_restart
from agentcheckpoint.core.models import Waiting
from agentcheckpoint.core.waits import Given, Waits, choose, parse_given
from agentcheckpoint.errors import (
    AlreadyAnswered,
    AnswerRefused,
    CheckpointCorrupt,
    CheckpointsLost,
    InvalidName,
    RunNotFound,
    SchemaTooNew,
    WaitNotFound,
)
from agentcheckpoint.store.answers import Offer, decide_wait, what_came
from agentcheckpoint.store.connect import Connectable, connect
from agentcheckpoint.store.index import list_due, listed_runs
from agentcheckpoint.store.loading import Loaded
from agentcheckpoint.store.reading import snapshot
from agentcheckpoint.view import Address, address_of

LONGEST_BY = 200
"""Characters of the name of who answers."""


@dataclass(frozen=True, slots=True)
class Question:
    """What a run waits for somebody to answer.

    Attributes:
        run_id, name: which run, and its wait: what ``ac.answer`` takes.
        prompt: what whoever answers is told.
        form: the JSON schema of the answer; empty: anything in JSON.
        since: when it was asked.
        until: when its time is up.
        refused: why the answer before was not taken after all.
    """

    run_id: str
    name: str
    prompt: str | None
    form: dict[str, Any]
    since: datetime.datetime
    until: datetime.datetime | None
    refused: str | None


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer that counts.

    Attributes:
        run_id, name: which run, and its wait.
        by: who gave it, as he said.
        at: when, on the server's clock.
    """

    run_id: str
    name: str
    by: str | None
    at: datetime.datetime


def answer(
    run_id: str,
    name: str,
    value: Any,
    /,
    *,
    by: str | None = None,
    store: Connectable = None,
    namespace: str = "default",
) -> Answered:
    """Answers what a run waits for, and lets it go on. Blocking: on an event loop, use ``asyncio.to_thread``.

    The first answer counts. The same one again is no error, whoever gives it.

    Args:
        run_id: the run's name.
        name: the wait's, as ``ac.waiting`` lists it; a part of it is enough if no other open wait has it: the name of
            the wait, or of the step that it is for.
        value: the answer: plain JSON, or a value of the type that is waited for.
        by: who answers, for the record.
        store, namespace: as in ``ac.run``.

    Returns:
        Who has answered, and when: somebody else, perhaps, who said the same before.

    Raises:
        AnswerRefused: it does not fit what is asked. Nothing was stored.
        AlreadyAnswered: somebody has answered otherwise before.
        WaitNotFound: the run waits for no such answer: its time was up, or it never did, or the run has ended.
        RunNotFound, CheckpointsLost, CheckpointCorrupt, SchemaTooNew, StoreRefused, StoreUnavailable.
    """
    address, where = address_of(run_id, namespace), connect(store)
    if by is not None and not 1 <= len(by) <= LONGEST_BY:
        raise AnswerRefused(f"by={by[:50]!r}...: who answers has 1 to {LONGEST_BY} characters.", run_id=run_id)
    text = _text(run_id, name, value)
    chosen: list[Waiting] = []

    def offer(loaded: Loaded) -> Offer:
        entry = _asked(run_id, name, loaded)
        _check_form(run_id, entry, text)
        chosen[:] = [entry]
        given = Given(what="answer", answer=text, by=by, at=loaded.now_ms)
        return Offer(entry.id, given.model_dump_json(exclude_none=True), wakes=True)

    _, stored = where.run(decide_wait(address, offer))
    slot = chosen[0].slot
    given = parse_given(stored, run_id, slot)
    if given.what != "answer":
        raise _ended(run_id, slot, given)
    first = json.loads(given.answer or "null")
    if to_json(first) != to_json(json.loads(text)):
        who = f" by {given.by}" if given.by else ""
        raise AlreadyAnswered(
            f"run {run_id!r}, wait {slot!r}: it has been answered{who} at {_moment(given.at):%Y-%m-%d %H:%M:%S} UTC: "
            f"{_short(given.answer)}. The first answer counts; this one was not stored.",
            run_id=run_id,
            step=slot,
            value=first,
        )
    where.run(list_due(namespace, run_id, given.at))
    return Answered(run_id, slot, given.by, _moment(given.at))


def waiting(*, store: Connectable = None, namespace: str = "default") -> list[Question]:
    """What all runs wait for somebody to answer, the longest ago first. Blocking; no worker is disturbed.

    Runs that cannot be read are left out.

    Raises:
        InvalidName: there can be no such namespace.
        StoreRefused, StoreUnavailable.
    """
    ids.check_namespace(namespace)
    where, found = connect(store), list[Question]()
    for run_id in listed_runs(where, namespace):
        try:
            address = address_of(run_id, namespace)
            loaded = where.run(snapshot(address))
            if loaded.meta["state"] in ENDED:
                continue
            asked = [entry for entry in _waits(loaded).open() if entry.answer and not _is_up(entry, loaded.now_ms)]
            came = where.run(what_came(address, [entry.id for entry in asked]))
        except (RunNotFound, CheckpointCorrupt, CheckpointsLost, SchemaTooNew, InvalidName):
            continue
        found += (_question(address, entry) for entry in asked if entry.id not in came)
    return sorted(found, key=lambda question: question.since)


def _question(address: Address, entry: Waiting) -> Question:
    form = cast("dict[str, Any]", json.loads(entry.form or "{}"))
    until = None if entry.until is None else _moment(entry.until)
    return Question(address.run_id, entry.slot, entry.prompt, form, _moment(entry.at), until, entry.refused)


def _text(run_id: str, name: str, value: object) -> str:
    """The answer as JSON, by the names that its form has."""
    try:
        return to_json(value, by_alias=True).decode()
    except Exception as exc:  # whatever a user's serializer raises
        raise AnswerRefused(
            f"run {run_id!r}, wait {name!r}: the answer cannot be written as JSON: {exc}. Nothing was stored.",
            run_id=run_id,
            value=value,
        ) from exc


def _waits(loaded: Loaded) -> Waits:
    return Waits(since_restart(loaded.entries))


def _asked(run_id: str, name: str, loaded: Loaded) -> Waiting:
    """The wait that is meant, open or not. What came of it is known when the answer is written.

    Raises:
        WaitNotFound: there is none, its time is up, or the run has ended.
    """
    waits = _waits(loaded)
    asked = [entry for entry in waits.open() if entry.answer]
    entry = choose(name, asked) or waits.last(name)
    if entry is None or not entry.answer:
        raise WaitNotFound(f"run {run_id!r} does not wait for {name!r}. {_open(asked)}", run_id=run_id)
    if entry in asked and loaded.meta["state"] in ENDED:
        raise WaitNotFound(
            f"run {run_id!r}, wait {entry.slot!r}: the run has ended ({loaded.meta['state']}).", run_id=run_id
        )
    if entry in asked and _is_up(entry, loaded.now_ms):
        raise _ended(run_id, entry.slot, Given(what="time", at=entry.until or 0))
    return entry


def _is_up(entry: Waiting, now_ms: int) -> bool:
    return entry.until is not None and entry.until <= now_ms


def _open(asked: list[Waiting]) -> str:
    names = ", ".join(repr(entry.slot) for entry in asked)
    return f"It waits for: {names}." if names else "It waits for no answer."


def _check_form(run_id: str, entry: Waiting, text: str) -> None:
    troubles = misfits(entry.form or "{}", json.loads(text))
    if troubles:
        lines = "".join(f"\n  {trouble}" for trouble in troubles)
        raise AnswerRefused(
            f"run {run_id!r}, wait {entry.slot!r}: the answer does not fit what is asked:{lines}\nNothing was stored. "
            f"Its form: {_short(entry.form)}",
            run_id=run_id,
            step=entry.slot,
            value=json.loads(text),
        )


def _ended(run_id: str, slot: str, given: Given) -> WaitNotFound:
    why = "its time was up" if given.what == "time" else "the run waits for something else since"
    return WaitNotFound(
        f"run {run_id!r}, wait {slot!r}: {why}, {_moment(given.at):%Y-%m-%d %H:%M:%S} UTC. The answer was not stored.",
        run_id=run_id,
        step=slot,
    )


def _short(text: str | None) -> str:
    text = text or ""
    return text if len(text) <= 500 else f"{text[:499]}…"


def _moment(ms: int) -> datetime.datetime:
    last = datetime.datetime.max.replace(tzinfo=datetime.UTC)
    return min(datetime.datetime.fromtimestamp(min(ms, int(last.timestamp() * 1000)) / 1000, datetime.UTC), last)
