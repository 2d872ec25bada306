"""What holds on every engine: its real workers are killed and stopped in the middle, and nothing is paid for twice."""

from __future__ import annotations

import importlib
import runpy
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
from engine_life import EXAMPLES, Engine, Holding, Stage, until
from faults.servers import Server, binaries

from agentcheckpoint.core.models import Closed
from agentcheckpoint.testing.provider import Provider

WORKERS = 3
CALLS = 3
"""Paid calls of a run."""


@dataclass
class Play:
    """The workers, and who is paid."""

    stage: Stage
    model: Holding
    provider: Provider

    def begin(self, question: str) -> int:
        """Starts a run, named as what it asks, and waits until its second call is under way; what was paid before."""
        paid = len(self.provider.journal)
        self.model.hold(question)
        assert self.stage.tasks.start(self.stage.agent, question, question)
        until(lambda: question in self.model.waiting, f"the second call of {question}", self.stage.logs)
        return paid

    def check(self, run_id: str, paid: int) -> None:
        """The run has paid for each call once, by the provider's own journal."""
        payments = self.provider.journal[paid:]
        bought = [entry.id for entry in self.stage.view(run_id).ledger if entry.bill == "paid"]
        assert len(payments) == len({payment.digest for payment in payments}) == CALLS
        assert sorted(payment.client_request_id or "" for payment in payments) == sorted(bought)

    def states(self, run_id: str) -> list[str]:
        """How its attempts ended, as far as they came to an end."""
        return [entry.state for entry in self.stage.view(run_id).entries if isinstance(entry, Closed)]


class EngineContract:
    """Three workers, of which one is killed and one is stopped."""

    engine: ClassVar[Engine]

    @pytest.fixture(scope="class")
    @classmethod
    def play(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Play]:
        folder, model = tmp_path_factory.mktemp(cls.engine.module), Holding()
        binary = binaries().get("redis", binaries()["embedded"])
        with (
            Server(binary, folder) as server,
            Provider(model) as provider,
            pytest.MonkeyPatch.context() as patch,
        ):
            stage = Stage(cls.engine, server.url, provider.url, folder)
            try:
                for _ in range(WORKERS):
                    stage.begin_worker()
                for name, value in stage.own.items():
                    patch.setenv(name, value)
                patch.syspath_prepend(str(EXAMPLES))
                stage.learn(importlib.import_module(cls.engine.module))
                until(lambda: stage.count(cls.engine.ready) >= WORKERS, "all workers ready", stage.logs)
                yield Play(stage, model, provider)
            finally:
                stage.close()

    def test_the_same_task_delivered_again_meanwhile_does_no_harm(self, play: Play) -> None:
        paid, ended = play.begin("twice"), play.stage.count(self.engine.done)
        for _ in range(4):  # the busy worker may fetch some of them ahead
            play.stage.tasks.enqueue("twice", play.stage.agent.name)
        until(lambda: play.stage.count(self.engine.done) >= ended + 2, "two were taken by others", play.stage.logs)
        play.model.release("twice")
        play.stage.until_completed("twice")
        play.check("twice", paid)
        assert play.states("twice") == ["completed"] and play.stage.view("twice").attempt == 1

    def test_a_killed_worker_s_run_is_finished_by_another_and_pays_for_nothing_again(
        self, play: Play, record_property: Any
    ) -> None:
        paid = play.begin("killed")
        play.stage.worker_at("killed").kill()
        play.model.release("killed", drop=True)
        record_property("seconds from the kill to the end elsewhere", play.stage.until_completed("killed"))
        play.check("killed", paid)
        assert play.states("killed") == ["completed"] and play.stage.view("killed").attempt == 2

    def test_a_worker_that_is_told_to_stop_ends_at_its_next_commit(self, play: Play, record_property: Any) -> None:
        paid = play.begin("stopped")
        worker = play.stage.worker_at("stopped")
        worker.terminate()
        until(lambda: worker.said(self.engine.stopping), "it is stopping", play.stage.logs)
        play.model.release("stopped")
        record_property("seconds from its last commit to the end elsewhere", play.stage.until_completed("stopped"))
        play.check("stopped", paid)
        assert play.states("stopped") == ["interrupted", "completed"]
        assert worker.wait() == 0, worker.log

    def test_the_example_s_command_starts_a_run_once(self, play: Play, capsys: pytest.CaptureFixture[str]) -> None:
        paid, script = len(play.provider.journal), str(EXAMPLES / f"{self.engine.module}.py")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", [script, "command", "Why?"])
            for _ in range(2):
                runpy.run_path(script, run_name="__main__")
        assert capsys.readouterr().out == "started\nis there already\n"
        play.stage.until_completed("command")
        play.check("command", paid)
