"""The idempotency key of a step: by it the other side knows a call again, whoever makes it and however often."""

from __future__ import annotations

import secrets

from agentcheckpoint import current
from agentcheckpoint.attempt import Attempt
from agentcheckpoint.core import ids
from agentcheckpoint.errors import RunMisuse
from agentcheckpoint.store.connect import switched_off


def idempotency_key() -> str:
    """The key of the step that the running code is in: give it to whom the step calls, as his idempotency key.

    It is the same in every attempt and process, and another for another step, run, or inputs. With
    ``AGENTCHECKPOINT=off`` there are no steps, and it is a new random one each time.

    Raises:
        RunMisuse: the code is in no step.
    """
    here = current.position()
    if switched_off() or (here is not None and here.attempt.store is None):
        return random_key()
    if here is None or not here.scope.slot:
        raise RunMisuse(
            "ac.idempotency_key(): the code that asks is in no step, so that there is nothing to make it of. Call it "
            "in the function of a step; threads do not inherit the current step: give them run.bind(function)."
        )
    return key_of(here.attempt, here.scope.slot, here.scope.digest)


def key_of(attempt: Attempt, slot: str, digest: str) -> str:
    """The key of a step of this run."""
    return ids.idempotency_key(attempt.namespace, attempt.run_id, attempt.birth, slot, digest)


def random_key() -> str:
    """A key of the same form that nothing else has."""
    return f"ac-{secrets.token_hex(16)}"
