"""What the adapters share, without an engine: what is sent, when it is sent again, and how a worker leaves."""

from __future__ import annotations

import inspect
import logging
import secrets
import threading
import time
from collections.abc import Iterator
from typing import Any

import celery
import pytest
from dramatiq.brokers.stub import StubBroker
from engine_life import until
from redis import Redis
from rq import Queue

import agentcheckpoint as ac
from agentcheckpoint.jobs import celery as on_celery
from agentcheckpoint.jobs import dramatiq as on_dramatiq
from agentcheckpoint.jobs import rq as on_rq
from agentcheckpoint.jobs.engine import EngineTasks


class ListTasks(EngineTasks):
    """An engine that is a list, and whose workers are whoever calls ``work``."""

    def __init__(self, agents: Any, *, again: float = 60.0, sweep_every: float = 0.1) -> None:
        super().__init__(agents, f"memory://{secrets.token_hex(8)}", "default", sweep_every, again)
        self.sent: list[tuple[str, str]] = []
        self.away: list[Exception] = []
        """What the next messages meet."""

    def enqueue(self, run_id: str, agent: str) -> None:
        if self.away:
            raise self.away.pop()
        self.sent.append((run_id, agent))

    def state(self, run_id: str) -> str:
        return ac.get(run_id, store=self.store).state


@ac.agent
def double(n: int) -> int:
    return 2 * n


@ac.agent
def fails() -> None:
    raise ValueError("no")


def test_a_start_sends_the_run_s_id_and_its_agent_and_no_more() -> None:
    tasks = ListTasks([double])
    assert tasks.start(double, "r", 4)
    assert not tasks.start(double, "r", 4)
    assert tasks.sent == [("r", "double")] * 2
    worked = tasks.attempt("r", "double")
    assert worked is not None and worked.state == "completed"
    assert double.using(store=tasks.store).run("r", 4) == 8


def test_an_agent_that_the_workers_do_not_know_is_not_started() -> None:
    tasks = ListTasks([double])
    with pytest.raises(ac.RunMisuse, match="no worker would know"):
        tasks.start(fails, "r")
    with pytest.raises(ac.RunNotFound):
        ac.get("r", store=tasks.store)
    assert tasks.attempt("r", "fails") is None


def test_what_was_just_sent_is_not_swept_and_a_lost_message_is_sent_again() -> None:
    patient, impatient = ListTasks([double]), ListTasks([double], again=0.0)
    for tasks in (patient, impatient):
        tasks.start(double, "r", 1)
        tasks.sent.clear()
        tasks.sweep()
    assert (patient.sent, impatient.sent) == ([], [("r", "double")])


def test_the_sweep_is_the_clock_of_what_goes_on_later() -> None:
    @ac.agent
    def waits(until_ms: int) -> str:
        if time.time() * 1000 < until_ms:
            raise ac.Suspended("not yet", until_ms=until_ms)
        return "now"

    tasks = ListTasks([waits])
    tasks.start(waits, "r", int(time.time() * 1000) + 300)
    tasks.sent.clear()
    tasks.attempt("r", "waits")
    assert tasks.state("r") == "waiting" and tasks.sweep().due == {}
    tasks.begin_sweeping()
    until(lambda: tasks.sent, "it is sent again")
    tasks.attempt("r", "waits")
    assert tasks.state("r") == "completed"
    tasks.leave("the test is over")


def test_a_sweep_outlives_a_broker_that_is_away(caplog: pytest.LogCaptureFixture) -> None:
    tasks = ListTasks([double], again=0.0)
    tasks.start(double, "r", 1)
    tasks.sent.clear()
    tasks.away.append(ConnectionError("the broker is away"))
    tasks.begin_sweeping()
    until(lambda: tasks.sent, "it is sent after all")
    tasks.leave("the test is over")
    assert "the broker is away" in caplog.text


def test_who_leaves_ends_at_the_next_commit_sends_the_run_to_others_and_begins_no_more() -> None:
    reached, go = threading.Event(), threading.Event()

    @ac.step
    def first() -> int:
        reached.set()
        assert go.wait(60)
        return 1

    @ac.step
    def second() -> int:
        return 2

    @ac.agent
    def two() -> int:
        return first() + second()

    tasks = ListTasks([two])
    tasks.start(two, "r")
    tasks.sent.clear()
    worker = threading.Thread(target=tasks.attempt, args=("r", "two"))
    worker.start()
    assert reached.wait(60)
    tasks.leave("the worker shuts down")
    go.set()
    worker.join(60)
    assert tasks.state("r") == "interrupted" and tasks.sent == [("r", "two")]
    assert [row.slot for row in ac.get("r", store=tasks.store).steps] == ["first"]
    assert tasks.attempt("r", "two") is None and tasks.state("r") == "interrupted"


def test_how_an_attempt_failed_is_logged_and_another_worker_s_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "agentcheckpoint")
    tasks = ListTasks([fails, double])
    tasks.start(fails, "bad")
    tasks.attempt("bad", "fails")
    tasks.start(double, "busy", 1)
    with ac.run("busy", store=tasks.store):
        tasks.attempt("busy", "double")
    levels = {record.args[0]: record.levelname for record in caplog.records if isinstance(record.args, tuple)}
    assert levels == {"bad": "WARNING", "busy": "INFO"} and "ValueError: no" in caplog.text


@pytest.fixture
def celery_task() -> Iterator[Any]:
    app = celery.Celery("tests", broker="memory://", set_as_current=False)
    on_celery.AgentTasks(app, [double], store="memory://")
    yield app.tasks["agentcheckpoint.attempt"]


def test_celery_acknowledges_late_and_retries_nothing_by_itself(celery_task: Any) -> None:
    assert celery_task.acks_late and celery_task.reject_on_worker_lost
    assert celery_task.max_retries == 0 and celery_task.ignore_result


def test_dramatiq_neither_retries_nor_stops_an_attempt_by_itself() -> None:
    broker = StubBroker()
    on_dramatiq.AgentTasks(broker, [double], store="memory://")
    assert broker.get_actor("agentcheckpoint_attempt").options == {"max_retries": 0, "time_limit": float("inf")}
    on_dramatiq.AgentTasks(StubBroker(middleware=[]), [double], store="memory://")  # without what these are for


def test_rq_s_tasks_are_where_a_worker_can_import_them() -> None:
    tasks = on_rq.AgentTasks(Queue(connection=Redis()), [double], at="__main__.tasks", store="memory://")
    with pytest.raises(ac.RunMisuse, match="a module of their own"):
        tasks.enqueue("r", "double")


def test_the_adapters_take_the_same_words() -> None:
    common = {"agents", "store", "namespace", "sweep_every", "again"}
    for module in (on_celery, on_dramatiq, on_rq):
        assert common <= set(inspect.signature(module.AgentTasks).parameters)
