"""What is never retried, whatever a policy says: one table."""

from __future__ import annotations

import builtins
from collections.abc import Mapping
from typing import Literal, TypeAlias

from agentcheckpoint import errors
from agentcheckpoint.core.lifecycle import leaves

Level: TypeAlias = Literal["step", "run"]
"""What is tried again: a step within an attempt, or the run by another attempt."""

Rule: TypeAlias = Literal["policy", "run", "never"]
"""Who decides: the policy; the policy of a run, since no step can go on in this attempt; nobody, as no retry helps."""

RULES: Mapping[type[BaseException], Rule] = {
    Exception: "policy",
    # a mistake in the program: it is the same each time
    NameError: "never",
    SyntaxError: "never",
    ImportError: "never",
    TypeError: "never",
    AttributeError: "never",
    builtins.NotImplementedError: "never",
    # the library's own
    errors.AgentCheckpointError: "policy",
    errors.InvalidName: "never",
    errors.InvalidStore: "never",
    errors.NotInstalled: "never",
    errors.RunMisuse: "never",
    errors.RunNotFound: "policy",
    errors.RunDeleted: "never",
    errors.RunExists: "never",
    errors.RunCancelled: "never",
    errors.RunBusy: "policy",
    errors.BudgetExceeded: "never",
    errors.StepMismatch: "never",
    errors.StepRejected: "policy",
    errors.WaitTimeout: "never",
    errors.WaitNotFound: "never",
    errors.AlreadyAnswered: "never",
    errors.AnswerRefused: "never",
    errors.NotApproved: "never",
    errors.StepTimeout: "policy",
    errors.RunTimeout: "run",
    errors.CrashLoop: "never",
    errors.ResultNotStorable: "never",
    # a step that is tried again after these would be paid for again, and could not be recorded either
    errors.StoreError: "run",
    errors.StoreUnavailable: "run",
    errors.StoreRefused: "run",
    errors.CommitUnknown: "run",
    errors.LeaseLost: "never",
    errors.CheckpointsLost: "never",
    errors.CheckpointCorrupt: "never",
    errors.SchemaTooNew: "never",
}
"""By class; a class that is not in it follows the first of its bases that is."""


def never(error: BaseException, level: Level) -> str | None:
    """Why this is not retried here, whatever the policy says; ``None``: the policy decides.

    A group is not if anything in it is not.
    """
    if not isinstance(error, Exception):
        return f"{type(error).__name__} is no failure: it passes"
    for leaf in leaves(error):
        rule = rule_of(type(leaf))
        if rule == "never" or (rule == "run" and level == "step"):
            where = "" if rule == "never" else " within an attempt"
            return f"{type(leaf).__name__} is never retried{where}"
    return None


def rule_of(kind: type[BaseException]) -> Rule:
    """Who decides about an exception of this class."""
    rules: list[Rule] = [RULES[base] for base in kind.__mro__ if base in RULES]
    return rules[0] if rules else "never"
