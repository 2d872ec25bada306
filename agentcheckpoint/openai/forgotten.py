"""A conversation whose last answer the provider has forgotten: which step to make again."""

from __future__ import annotations

from agentcheckpoint.openai.modelcall import ModelCall


def name_forgotten(call: ModelCall, error: BaseException) -> None:
    """Adds to the provider's refusal of a ``previous_response_id`` which recorded step had that answer, and what to
    do. Other errors stay as they are.
    """
    named = call.body.get("previous_response_id")
    if getattr(error, "code", None) != "previous_response_not_found" or not isinstance(named, str):
        return
    slot = _step_of(call, named)
    if slot is None:
        error.add_note(
            f"agentcheckpoint: {call.where}: no step of this run has the answer {named!r}, so there is none to make "
            "again. Its id came from elsewhere."
        )
        return
    error.add_note(
        f"agentcheckpoint: {call.where}: the provider has forgotten the answer {named!r} of step {slot!r}. The step's "
        f"record replays it as before, but no call can go on from it. To buy it again, call ac.reject({named!r}, "
        f"'forgotten') after step {slot!r} was replayed: then it runs again when it is called."
    )


def _step_of(call: ModelCall, response_id: str) -> str | None:
    known = call.attempt.answers.get(response_id)
    if known is not None:
        return known[0].slot
    entries = [entry for entry in tuple(call.attempt.money.values()) if entry.response_id == response_id]
    return entries[-1].slot if entries else None
