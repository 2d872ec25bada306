"""Retry your agent without paying twice: LLM and tool steps checkpointed in Redis, result and cost in one write.

    import agentcheckpoint as ac

    with ac.run("research-42") as run:
        plan = run.step("plan", make_plan, question)

Names are loaded when they are first used, so that importing this package imports neither Redis nor OpenAI.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agentcheckpoint.aio import AsyncRun as AsyncRun
    from agentcheckpoint.answering import Answered as Answered
    from agentcheckpoint.answering import Question as Question
    from agentcheckpoint.answering import answer as answer
    from agentcheckpoint.answering import waiting as waiting
    from agentcheckpoint.approving import Approval as Approval
    from agentcheckpoint.core.budget import Budget as Budget
    from agentcheckpoint.core.budget import Exceeded as Exceeded
    from agentcheckpoint.core.ledger import CostReport as CostReport
    from agentcheckpoint.core.models import LedgerEntry as LedgerEntry
    from agentcheckpoint.core.models import Usage as Usage
    from agentcheckpoint.core.pricing import Price as Price
    from agentcheckpoint.core.retention import RunSize as RunSize
    from agentcheckpoint.costing import CostTable as CostTable
    from agentcheckpoint.costing import costs as costs
    from agentcheckpoint.costing import export_ledger as export_ledger
    from agentcheckpoint.cursors import AsyncCursor as AsyncCursor
    from agentcheckpoint.cursors import Cursor as Cursor
    from agentcheckpoint.decorators import agent as agent
    from agentcheckpoint.decorators import step as step
    from agentcheckpoint.decorators import tool as tool
    from agentcheckpoint.errors import AgentCheckpointError as AgentCheckpointError
    from agentcheckpoint.errors import AgentCheckpointWarning as AgentCheckpointWarning
    from agentcheckpoint.errors import AlreadyAnswered as AlreadyAnswered
    from agentcheckpoint.errors import AnswerRefused as AnswerRefused
    from agentcheckpoint.errors import BudgetExceeded as BudgetExceeded
    from agentcheckpoint.errors import CheckpointCorrupt as CheckpointCorrupt
    from agentcheckpoint.errors import CheckpointsLost as CheckpointsLost
    from agentcheckpoint.errors import CommitUnknown as CommitUnknown
    from agentcheckpoint.errors import CrashLoop as CrashLoop
    from agentcheckpoint.errors import DurabilityWarning as DurabilityWarning
    from agentcheckpoint.errors import Interrupted as Interrupted
    from agentcheckpoint.errors import InvalidName as InvalidName
    from agentcheckpoint.errors import InvalidStore as InvalidStore
    from agentcheckpoint.errors import LeaseLost as LeaseLost
    from agentcheckpoint.errors import NoActiveRunWarning as NoActiveRunWarning
    from agentcheckpoint.errors import NotApproved as NotApproved
    from agentcheckpoint.errors import NotInstalled as NotInstalled
    from agentcheckpoint.errors import ResultNotStorable as ResultNotStorable
    from agentcheckpoint.errors import RunBusy as RunBusy
    from agentcheckpoint.errors import RunCancelled as RunCancelled
    from agentcheckpoint.errors import RunDeleted as RunDeleted
    from agentcheckpoint.errors import RunExists as RunExists
    from agentcheckpoint.errors import RunMisuse as RunMisuse
    from agentcheckpoint.errors import RunNotFound as RunNotFound
    from agentcheckpoint.errors import RunTimeout as RunTimeout
    from agentcheckpoint.errors import SchemaTooNew as SchemaTooNew
    from agentcheckpoint.errors import StepInDoubt as StepInDoubt
    from agentcheckpoint.errors import StepMismatch as StepMismatch
    from agentcheckpoint.errors import StepRejected as StepRejected
    from agentcheckpoint.errors import StepTimeout as StepTimeout
    from agentcheckpoint.errors import StoreError as StoreError
    from agentcheckpoint.errors import StoreRefused as StoreRefused
    from agentcheckpoint.errors import StoreUnavailable as StoreUnavailable
    from agentcheckpoint.errors import Suspended as Suspended
    from agentcheckpoint.errors import UnmetStepsWarning as UnmetStepsWarning
    from agentcheckpoint.errors import UnrecordedCallWarning as UnrecordedCallWarning
    from agentcheckpoint.errors import WaitNotFound as WaitNotFound
    from agentcheckpoint.errors import WaitTimeout as WaitTimeout
    from agentcheckpoint.export import export_run as export_run
    from agentcheckpoint.export import import_run as import_run
    from agentcheckpoint.forks import fork as fork
    from agentcheckpoint.forks import rewind as rewind
    from agentcheckpoint.identity import idempotency_key as idempotency_key
    from agentcheckpoint.jobs.ending import cancel as cancel
    from agentcheckpoint.jobs.ending import retry as retry
    from agentcheckpoint.jobs.sweeping import Swept as Swept
    from agentcheckpoint.jobs.sweeping import sweep as sweep
    from agentcheckpoint.jobs.work import Worked as Worked
    from agentcheckpoint.jobs.work import work_on as work_on
    from agentcheckpoint.jobs.work import work_on_async as work_on_async
    from agentcheckpoint.jobs.worker import Worker as Worker
    from agentcheckpoint.openai.calls import name as name
    from agentcheckpoint.openai.calls import reject as reject
    from agentcheckpoint.openai.client import wrap as wrap
    from agentcheckpoint.options import Happened as Happened
    from agentcheckpoint.options import Step as Step
    from agentcheckpoint.previewing import Preview as Preview
    from agentcheckpoint.previewing import preview as preview
    from agentcheckpoint.retention import Pruned as Pruned
    from agentcheckpoint.retention import prune as prune
    from agentcheckpoint.retries.conditions import stop_after_cost as stop_after_cost
    from agentcheckpoint.retries.conditions import stop_if_no_progress as stop_if_no_progress
    from agentcheckpoint.runs import Run as Run
    from agentcheckpoint.runs import run as run
    from agentcheckpoint.series import Attempts as Attempts
    from agentcheckpoint.series import attempts as attempts
    from agentcheckpoint.settling import Settlement as Settlement
    from agentcheckpoint.settling import settle as settle
    from agentcheckpoint.settling import settle_billed as settle_billed
    from agentcheckpoint.store.connect import connect as connect
    from agentcheckpoint.store.store import Store as Store
    from agentcheckpoint.transaction import AsyncTransaction as AsyncTransaction
    from agentcheckpoint.transaction import Transaction as Transaction
    from agentcheckpoint.view import RunView as RunView
    from agentcheckpoint.view import delete as delete
    from agentcheckpoint.view import get as get

_HOME = {
    "aio": ("AsyncRun",),
    "series": ("Attempts", "attempts"),
    "answering": ("Answered", "Question", "answer", "waiting"),
    "approving": ("Approval",),
    "core.budget": ("Budget", "Exceeded"),
    "core.ledger": ("CostReport",),
    "core.models": ("LedgerEntry", "Usage"),
    "core.pricing": ("Price",),
    "core.retention": ("RunSize",),
    "costing": ("CostTable", "costs", "export_ledger"),
    "cursors": ("AsyncCursor", "Cursor"),
    "decorators": ("agent", "step", "tool"),
    "errors": (
        "AgentCheckpointError",
        "AgentCheckpointWarning",
        "AlreadyAnswered",
        "AnswerRefused",
        "BudgetExceeded",
        "CheckpointCorrupt",
        "CheckpointsLost",
        "CommitUnknown",
        "CrashLoop",
        "DurabilityWarning",
        "Interrupted",
        "InvalidName",
        "InvalidStore",
        "LeaseLost",
        "NoActiveRunWarning",
        "NotApproved",
        "NotInstalled",
        "ResultNotStorable",
        "RunBusy",
        "RunCancelled",
        "RunDeleted",
        "RunExists",
        "RunMisuse",
        "RunNotFound",
        "RunTimeout",
        "SchemaTooNew",
        "StepInDoubt",
        "StepMismatch",
        "StepRejected",
        "StepTimeout",
        "StoreError",
        "StoreRefused",
        "StoreUnavailable",
        "Suspended",
        "UnmetStepsWarning",
        "UnrecordedCallWarning",
        "WaitNotFound",
        "WaitTimeout",
    ),
    "identity": ("idempotency_key",),
    "jobs.ending": ("cancel", "retry"),
    "jobs.sweeping": ("Swept", "sweep"),
    "jobs.work": ("Worked", "work_on", "work_on_async"),
    "jobs.worker": ("Worker",),
    "openai.calls": ("name", "reject"),
    "openai.client": ("wrap",),
    "export": ("export_run", "import_run"),
    "forks": ("fork", "rewind"),
    "previewing": ("Preview", "preview"),
    "retries.conditions": ("stop_after_cost", "stop_if_no_progress"),
    "retention": ("Pruned", "prune"),
    "runs": ("Run", "run"),
    "options": ("Happened", "Step"),
    "settling": ("Settlement", "settle", "settle_billed"),
    "store.connect": ("connect",),
    "store.store": ("Store",),
    "transaction": ("AsyncTransaction", "Transaction"),
    "view": ("RunView", "delete", "get"),
}
_WHERE = {public: module for module, names in _HOME.items() for public in names}
__all__ = sorted(_WHERE)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    module = _WHERE.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{module}"), name)
    globals()[name] = value
    return value


def load_ipython_extension(shell: Any) -> None:
    """``%load_ext agentcheckpoint``: the magics of notebooks."""
    from agentcheckpoint.notebook.extension import load

    load(shell)


def unload_ipython_extension(shell: Any) -> None:
    """``%unload_ext agentcheckpoint``."""
    from agentcheckpoint.notebook.extension import unload

    unload(shell)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
