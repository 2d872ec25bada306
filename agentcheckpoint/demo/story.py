"""The demo told to a person, line by line, on a terminal or in a pipe."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from agentcheckpoint.core.ledger import money
from agentcheckpoint.demo.life import Event, Life
from agentcheckpoint.demo.play import Chapter, Ending, Outcome
from agentcheckpoint.demo.real import LiveOutcome
from agentcheckpoint.show.layout import plain

_COLUMN = 44
_EVERY = 5
"""Steps for each line of progress where no line can stand still."""


class Story:
    """Tells on a console how the demo goes, with a line of progress below, or one every few steps in a pipe.

    Args:
        console: where to; all that comes from documents is escaped.
        progress: where the line of progress stands: a console on stderr.
    """

    def __init__(self, console: Console, progress: Console) -> None:
        self._console = console
        self._progress = progress
        self._status = progress.status("starting")
        self._said = ""

    def __enter__(self) -> Story:
        self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._status.stop()

    def begins(self, documents: int, question: str, store: str, provider: str) -> None:
        """What is about to be done."""
        files = "1 document" if documents == 1 else f"{documents} documents"
        self._say((f"An agent reads {files}: ", ""), (plain(question), "bold"))
        self._say((f"checkpoints in {plain(store)} · {plain(provider)}", "dim"))

    def timed(self, chapter: Chapter) -> None:
        life = chapter.life
        calls = f"{_calls(chapter.calls)}, {_steps(len(life.checkpoints))}, {money(chapter.paid)}, {life.seconds:.1f} s"
        self._say((f"timed once without a kill: {calls} (a run of its own, not counted below)", "dim"))
        self._console.print()

    def hears(self, number: int, life: Life, event: Event) -> None:
        if event["event"] == "text":
            self._said += event["text"]
            self._status.update(Text(f"answers: …{plain(self._said[-60:])}"))
            return
        self._said = ""
        name = f"life {number}" if number else "timing"
        doing = plain(life.last.get("slot") or event["event"])
        line = f"{name} · {_steps(life.done)} checkpointed · {doing}"
        self._status.update(Text(line))
        if not self._progress.is_terminal and event.get("kind") == "done" and life.done % _EVERY == 0:
            self._progress.print(Text(line, "dim"), soft_wrap=True)

    def lived(self, number: int, chapter: Chapter) -> None:
        life = chapter.life
        saved = money(None if chapter.paid is None and not life.saved else life.saved)
        again = f"replayed {_steps(life.replayed)} ({saved})" if life.replayed else "replayed nothing"
        paid = f"paid {money(chapter.paid)} for {_calls(chapter.calls)}" if chapter.calls else "paid nothing"
        end = (f"killed {_where(life)}", "red") if life.killed else ("finished", "bold green")
        self._say(
            (f"life {number}  ", "bold"),
            (again.ljust(_COLUMN - 10), "green" if life.replayed else "dim"),
            (paid.ljust(28), "yellow"),
            end,
        )

        self._status.update(f"starting life {number + 1}" if life.killed else "settling the account")

    def ends(self, outcome: Outcome) -> None:
        """What came of it."""
        accounts = outcome.accounts
        self._answer(outcome)
        self._amount("paid", accounts.billed, f"{_calls(accounts.provider_calls)} in the provider's journal", "yellow")
        if accounts.repaid_in_window:
            calls = f"{_calls(accounts.repaid_in_window)} bought again: the kill came before the answer could be stored"
            self._amount("  unresolved in it", accounts.in_window, calls, "")
        replayed = f"{_steps(outcome.replayed)} replayed"
        self._amount("would have been paid again without replay", outcome.saved, replayed, "green")
        self._say((f"{'paid twice for a stored answer':<{_COLUMN}}", ""), (f"{accounts.paid_twice}", "bold"))
        if outcome.problems:
            for problem in outcome.problems:
                self._say(("✗ ", "red"), (plain(problem), ""))
        else:
            agreed = (
                f"ledger {money(accounts.spent)} + unresolved {money(accounts.in_window)} = {money(accounts.billed)}"
            )
            self._say(("✓ ", "green"), (f"ledger and journal agree: {agreed}", ""))

    def ends_live(self, outcome: LiveOutcome) -> None:
        """What came of it with a real provider, as far as the run's ledger knows."""
        self._answer(outcome)
        cost = outcome.cost
        self._amount("paid", outcome.spent, _calls(cost.attempts), "yellow")
        if cost.unresolved:
            why = "the kill came before the answer could be stored: it may have been billed"
            self._say((f"{'  unresolved':<{_COLUMN}}", ""), (f"{cost.unresolved:<10}", ""), (why, "dim"))
        self._amount("saved by replaying", outcome.saved, f"{_steps(outcome.replayed)} replayed", "green")
        self._say((f"{'paid twice for a stored answer':<{_COLUMN}}", ""), (f"{outcome.bought_twice}", "bold"))
        self._say(("by the run's own ledger: a real provider shows no journal, and its invoice counts", "dim"))

    def _answer(self, outcome: Ending) -> None:
        if outcome.kills < outcome.asked:
            missed = outcome.asked - outcome.kills
            commits = outcome.chapters[-1].life.commits
            why = f"the run ended first, after {commits} commits in its last life"
            self._say((f"{missed} of {outcome.asked} kills did not happen: {why}", "yellow"))
        self._console.print()
        self._say((plain(outcome.answer), ""))
        self._console.print()

    def _amount(self, what: str, nano: int | None, detail: str, style: str) -> None:
        self._say((f"{what:<{_COLUMN}}", ""), (f"{money(nano):<10}", style), (detail, "dim"))

    def _say(self, *parts: tuple[str, str]) -> None:
        self._console.print(Text.assemble(*parts), soft_wrap=True)


def _where(life: Life) -> str:
    """Where a kill came, in words."""
    slot = plain(str(life.last.get("slot", "")).partition("[")[0])
    match life.last.get("kind"):
        case "intent" | "located":
            return f"while {slot} was under way"
        case "done":
            return f"after {slot} was stored"
        case "closed":
            return "after its end"
        case _:
            return "as it began"


def _steps(n: int) -> str:
    return "1 step" if n == 1 else f"{n} steps"


def _calls(n: int) -> str:
    return "1 call" if n == 1 else f"{n} calls"
