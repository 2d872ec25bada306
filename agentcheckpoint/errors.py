"""Every error and warning of the library: one tree, named after facts. Imports nothing of the package.

A message says what happened, which run and step, what was recorded and what came, and what to do.
An error raised after money was spent carries what was bought in ``value``.

    AgentCheckpointError
      InvalidName            an id, name or key that cannot be used            (ValueError)
      InvalidStore           a URL or object that is not a usable store        (ValueError)
      NotInstalled           an optional part is missing                       (ImportError)
      RunMisuse              a call that makes no sense here                   (RuntimeError)
      RunNotFound            no such run                                       (LookupError)
      RunDeleted             the run was deleted                               (LookupError)
      RunBusy                somebody alive is working on it
      BudgetExceeded         a paid call would break a ceiling; it was not made
      StepMismatch           the recorded step had other inputs
      StepTimeout            a step took longer than it may                    (TimeoutError)
      RunTimeout             an attempt of a run took longer than it may       (TimeoutError)
      StepRejected           a paid answer was refused by its ``accept=``
      NotApproved            a person did not approve of a step; it was not called
      WaitTimeout            no answer came in time                            (TimeoutError)
      WaitNotFound           the run has no such open wait                     (LookupError)
      AlreadyAnswered        somebody else has answered, and otherwise
      AnswerRefused          an answer does not fit what is asked              (ValueError)
      ResultNotStorable      a value that would not come back as it went
      StoreError
        StoreUnavailable     nothing was sent; the server cannot be reached
        StoreRefused         the server said no; nothing was applied
        LeaseLost            another worker owns the run now
        CommitUnknown        applied or not: the server went away before it said
        CheckpointsLost      the store has lost what it had acknowledged
        CheckpointCorrupt    what is stored is not what this library writes
        SchemaTooNew         written by a newer version of this library

``Suspended`` (with ``StepInDoubt``) and ``Interrupted`` are no errors: they unwind the caller's code, and derive from
``BaseException`` so that neither ``except Exception`` nor tenacity stops them.
"""

from __future__ import annotations


class AgentCheckpointError(Exception):
    """The base of every error of this library.

    Attributes:
        value: what the failed step had already returned (and perhaps paid for); ``None`` if nothing.
        run_id: the run concerned, if known.
        step: the slot of the step concerned, if known.
    """

    def __init__(
        self, message: str, *, run_id: str | None = None, step: str | None = None, value: object = None
    ) -> None:
        super().__init__(message)
        self.run_id = run_id
        self.step = step
        self.value = value


class InvalidName(AgentCheckpointError, ValueError):
    """A run id, namespace, step name or key is empty, too long, or holds characters that cannot be stored."""


class InvalidStore(AgentCheckpointError, ValueError):
    """The URL, client or object given as a store is not one that this library can use."""


class NotInstalled(AgentCheckpointError, ImportError):
    """A part that is optional is needed and not installed; the message says what to install."""


class RunMisuse(AgentCheckpointError, RuntimeError):
    """The run was used in a way that makes no sense: closed, forked, not saved, or of the wrong colour."""


class RunNotFound(AgentCheckpointError, LookupError):
    """No run of that id is stored."""


class RunDeleted(AgentCheckpointError, LookupError):
    """The run was deleted; its id is kept as a tombstone so that nobody takes it for new."""


class RunExists(AgentCheckpointError):
    """A run of that id is stored already, and ``on_existing="never"`` was asked for."""


class RunCancelled(AgentCheckpointError):
    """The run was cancelled: it is not opened again, unless somebody revives it."""


class RunBusy(AgentCheckpointError):
    """Somebody who is alive, as far as can be told, is working on the run.

    Attributes:
        owner: who holds the lease, for people to read.
        ttl: seconds until the lease expires if it is not renewed.
    """

    def __init__(self, message: str, *, run_id: str, owner: str, ttl: float) -> None:
        super().__init__(message, run_id=run_id)
        self.owner = owner
        self.ttl = ttl


class BudgetExceeded(AgentCheckpointError):
    """A paid call has no room under a budget. It was not made, and its step is open; no retry helps but a higher limit.

    Amounts are of ``kind``: nano-dollars, tokens, or calls.

    Attributes:
        budget: the budget's name; ``None``: the run's own.
        kind: ``"usd"``, ``"tokens"`` or ``"calls"``.
        limit: its ceiling.
        spent: paid, wasted, and unresolved at its bound.
        reserved: what other calls under way may take.
        asked: what this call may take.
    """

    def __init__(
        self,
        message: str,
        *,
        run_id: str | None = None,
        step: str | None = None,
        budget: str | None = None,
        kind: str = "usd",
        limit: int = 0,
        spent: int = 0,
        reserved: int = 0,
        asked: int = 0,
    ) -> None:
        super().__init__(message, run_id=run_id, step=step)
        self.budget, self.kind, self.limit = budget, kind, limit
        self.spent, self.reserved, self.asked = spent, reserved, asked


class StepMismatch(AgentCheckpointError):
    """A recorded step was called with other inputs than it was recorded with.

    Attributes:
        differences: name, recorded and new preview of each input that differs, as far as they were compared.
    """

    differences: tuple[tuple[str, str, str], ...] = ()


class StepTimeout(AgentCheckpointError, TimeoutError):
    """A step took longer than its ``timeout=``: it was cancelled, or left behind in its thread."""


class RunTimeout(AgentCheckpointError, TimeoutError):
    """An attempt of a run took longer than its ``timeout=``. No step is tried again in it."""


class CrashLoop(AgentCheckpointError):
    """The processes of the run's last attempts died, and none of them had recorded a step: no worker takes it up."""


class StepRejected(AgentCheckpointError):
    """The step's ``accept=`` or policy refused its answer: it is booked as wasted, and the step will run again."""


class NotApproved(AgentCheckpointError):
    """A person was asked whether the step may be called, and said no. It was not called, and stays so.

    Attributes:
        note: what was said to it.
    """

    def __init__(self, message: str, *, run_id: str, step: str, note: str) -> None:
        super().__init__(message, run_id=run_id, step=step)
        self.note = note


class WaitTimeout(AgentCheckpointError, TimeoutError):
    """No answer came in time. That is recorded: a replay raises the same, and a late answer is refused."""


class WaitNotFound(AgentCheckpointError, LookupError):
    """The run does not wait for an answer of that name; the message names those that it waits for."""


class AlreadyAnswered(AgentCheckpointError):
    """Somebody has answered before, and otherwise: the first answer counts. ``value`` is that answer, from its JSON."""


class AnswerRefused(AgentCheckpointError, ValueError):
    """An answer does not fit what is asked. Nothing was stored: give another. ``value`` is the answer."""


class ResultNotStorable(AgentCheckpointError):
    """A result would not come back from the store as it went in; ``value`` is the result itself.

    Attributes:
        path: where in the value the trouble is, such as ``$.a[1].b``.
    """

    def __init__(
        self, message: str, *, path: str = "$", run_id: str | None = None, step: str | None = None, value: object = None
    ) -> None:
        super().__init__(message, run_id=run_id, step=step, value=value)
        self.path = path


class StoreError(AgentCheckpointError):
    """The store could not do what was asked."""


class StoreUnavailable(StoreError):
    """The server cannot be reached; nothing was sent, so nothing was applied."""


class StoreRefused(StoreError):
    """The server answered with a refusal (read-only, out of memory, no permission, ...); nothing was applied."""


class LeaseLost(StoreError):
    """Another worker has taken the run over: this one can no longer write, and should stop."""


class CommitUnknown(StoreError):
    """The server went away before it said whether a commit was applied. ``value`` carries the step's result.

    Opening the run again settles the question.
    """


class CheckpointsLost(StoreError):
    """The store no longer has what it had acknowledged: evicted, rolled back, or deleted by somebody else."""


class CheckpointCorrupt(StoreError):
    """What stands under this run's keys is not what this library writes; nothing was overwritten."""


class SchemaTooNew(StoreError):
    """The run was written by a newer version of this library; this one refuses to write to it."""


class Suspended(BaseException):
    """Unwinds the caller's code because the run waits for something; the process may exit.

    Attributes:
        until_ms: when the run goes on by itself, milliseconds since the epoch on the store's clock; ``None``: an
            answer is awaited, and no time is set.
    """

    def __init__(self, message: str = "", *, until_ms: int | None = None) -> None:
        super().__init__(message)
        self.until_ms = until_ms


class StepInDoubt(Suspended):
    """A step that must not happen twice was begun before, and nobody knows whether it has happened. It was not called.

    The run waits until somebody says what to do, by ``ac.answer``.

    Attributes:
        run_id: which run.
        step: the slot of the step.
        idempotency_key: what the call before was known by to the other side, if it was told.
    """

    def __init__(self, message: str, *, run_id: str, step: str, idempotency_key: str) -> None:
        super().__init__(message)
        self.run_id = run_id
        self.step = step
        self.idempotency_key = idempotency_key


class Interrupted(BaseException):
    """Unwinds the caller's code because the attempt is to end: its process is to stop, or the run was cancelled.

    No failure is recorded.
    """


class AgentCheckpointWarning(UserWarning):
    """The base of every warning of this library."""


class NoActiveRunWarning(AgentCheckpointWarning):
    """Something that would be a step runs where no run is active, so it is not recorded."""


class DurabilityWarning(AgentCheckpointWarning):
    """The store's settings weaken the promise; the message says how."""


class UnmetStepsWarning(AgentCheckpointWarning):
    """A run ended without meeting steps that are recorded for it."""


class UnrecordedCallWarning(AgentCheckpointWarning):
    """A call that may cost money is of a kind that is not recorded."""
