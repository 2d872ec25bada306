"""Workers are killed between the intent of a mail and its result; the outbox says how often the mail was sent."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from memory_runs import logged
from servers import embedded_url, redis_server, server_url

import agentcheckpoint as ac
from agentcheckpoint.core.models import Done, Intent

pytestmark = pytest.mark.filterwarnings("ignore::agentcheckpoint.errors.DurabilityWarning")
__all__ = ["embedded_url", "redis_server", "server_url"]

SCRIPT = Path(__file__).parent / "once_agents.py"


class Mailing:
    """The lives of one run that sends a mail."""

    def __init__(self, url: str, run_id: str, folder: Path, colour: str) -> None:
        self.url, self.run_id, self.outbox, self.colour = url, run_id, folder / "outbox", colour

    def live(self, choice: str, point: str = "nowhere") -> str:
        """One life; what it printed."""
        command = [sys.executable, "-W", "ignore", str(SCRIPT), self.url, self.run_id, str(self.outbox)]
        done = subprocess.run(
            [*command, self.colour, choice, point], stdout=subprocess.PIPE, text=True, timeout=60, check=False
        )
        assert done.returncode == (0 if point == "nowhere" else -signal.SIGKILL)
        return done.stdout.strip()

    @property
    def sent(self) -> list[str]:
        return self.outbox.read_text().splitlines() if self.outbox.exists() else []


@pytest.fixture(params=["sync", "async"])
def mailing(embedded_url: str, tmp_path: Path, request: pytest.FixtureRequest) -> Mailing:
    return Mailing(embedded_url, f"mail-{request.node.name}", tmp_path, request.param)


def test_killed_after_the_mail_left_it_is_asked_for_and_not_sent_again(mailing: Mailing) -> None:
    mailing.live("ask", "sent")
    [mail] = mailing.sent
    assert mailing.live("ask") == f"in doubt {mail.split()[1]}"
    assert mailing.live("skip") == "None"
    assert mailing.sent == [mail]
    assert [done.decided for done in logged(mailing.url, mailing.run_id, Done)] == ["skip"]


def test_killed_after_the_mail_left_a_rerun_sends_it_again_with_the_same_key(mailing: Mailing) -> None:
    mailing.live("rerun", "sent")
    assert mailing.live("rerun") == "sent to ada"
    assert len(mailing.sent) == 2 and len(set(mailing.sent)) == 1
    assert [intent.decided for intent in logged(mailing.url, mailing.run_id, Intent)] == [None, "rerun"]


@pytest.mark.parametrize(("point", "result"), [("sent", "found ada"), ("called", "sent to ada")])
def test_killed_a_mail_is_sent_once_if_the_other_side_can_be_asked(mailing: Mailing, point: str, result: str) -> None:
    mailing.live("verify", point)
    assert mailing.live("verify") == result
    assert len(mailing.sent) == 1


def test_without_its_effect_a_mail_is_sent_twice(mailing: Mailing) -> None:
    mailing.live("careless", "sent")
    assert mailing.live("careless") == "sent to ada"
    assert len(mailing.sent) == 2


@pytest.mark.parametrize("choice", ["ask", "rerun", "skip", "verify"])
def test_on_each_server_a_mail_that_was_left_by_an_interrupt_is_in_doubt(
    server_url: str, tmp_path: Path, choice: str, request: pytest.FixtureRequest
) -> None:
    from once_agents import Outbox, blocking, step_of

    class Dying(Outbox):
        def die_at(self, point: str) -> None:
            if self.point == point:
                raise KeyboardInterrupt

    run_id, path = f"mail-{request.node.name}", str(tmp_path / "outbox")
    dying, living = Dying(path, "sent"), Outbox(path, "nowhere")
    with pytest.raises(KeyboardInterrupt):
        blocking(server_url, run_id, step_of(choice, dying, False), dying)
    if choice == "ask":
        with pytest.raises(ac.StepInDoubt):
            blocking(server_url, run_id, step_of(choice, living, False), living)
    else:
        result = blocking(server_url, run_id, step_of(choice, living, False), living)
        assert result == {"rerun": "sent to ada", "skip": None, "verify": "found ada"}[choice]
    assert len((tmp_path / "outbox").read_text().splitlines()) == (2 if choice == "rerun" else 1)


def test_the_check_that_a_mail_is_sent_once_notices_an_intent_that_is_left_out(
    embedded_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from once_agents import Outbox, blocking, step_of

    from agentcheckpoint import once

    def nothing_stored(*_: object) -> object:
        yield from ()

    monkeypatch.setattr(once, "intend", nothing_stored)
    outbox = Outbox(str(tmp_path / "outbox"), "nowhere")

    def interrupted(point: str) -> None:
        if point == "sent":
            raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(outbox, "die_at", interrupted)
        blocking(embedded_url, "careless", step_of("ask", outbox, False), outbox)
    assert blocking(embedded_url, "careless", step_of("ask", outbox, False), outbox) == "sent to ada"
    assert len((tmp_path / "outbox").read_text().splitlines()) == 2
