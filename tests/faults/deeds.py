"""What an agent does as a job: it sleeps, asks, is approved, tries again, does something once, fails an attempt."""

from __future__ import annotations

from typing import Any

import tenacity

import agentcheckpoint as ac

from .diary import Diary

NAP = 0.02
"""Seconds that an agent sleeps, in place: it goes on behind it in the next life, if this one ends meanwhile."""
TRIES = 3
"""At the try of that number what is tried goes well: two were paid for and came to nothing."""


class Stumbled(Exception):
    """The agent's first attempt fails by it."""


class Deeds:
    """Those ops whose whole point is the run's life between processes."""

    _face: Any
    _run: Any
    _diary: Diary

    async def _slept(self, label: str) -> Any:
        return await self._face.of(self._run.sleep(NAP, name=ac.Step("nap", key=label)))

    async def _answered(self, label: str) -> Any:
        return await self._face.of(self._run.wait_for(ac.Step("question", key=label), dict[str, str], prompt=label))

    async def _approved(self, label: str) -> Any:
        step = ac.Step("spend", key=label, approve=True)
        return await self._face.of(self._run.step(step, self._diary.pay, label))

    async def _retried(self, label: str) -> Any:
        """Each number of a try that its policy is told goes into the diary."""

        def told(state: tenacity.RetryCallState) -> float:
            self._diary.write("try", label, state.attempt_number)
            return 0.0

        def buy(label: str) -> dict[str, Any]:
            answer = self._diary.pay(label)
            if self._diary.times_paid(label) < TRIES:
                raise ConnectionError("not yet")
            return answer

        policy = tenacity.Retrying(stop=tenacity.stop_after_attempt(2 * TRIES + 4), wait=told, reraise=True)
        return await self._face.of(self._run.step(ac.Step("again", key=label, retry=policy), buy, label))

    async def _once(self, label: str) -> Any:
        """Whether it has happened, is asked of the diary: it is the world outside."""

        def happened(label: str) -> ac.Happened[dict[str, Any]] | None:
            answer = self._diary.bought(label)
            return None if answer is None else ac.Happened(answer)

        step = ac.Step("transfer", key=label, effect="once", verify=happened)
        return await self._face.of(self._run.step(step, self._diary.pay, label))

    async def _stumbled(self, label: str) -> Any:
        if self._diary.first_of("stumbled", label):
            raise Stumbled("the first attempt")
        return None
