"""What a search for violations found: how much was tried, what really happened, and what must not have."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Violation:
    """Something that must not be, and the seed that shows it again."""

    engine: str
    seed: str
    what: str

    def __str__(self) -> str:
        return f"--only {self.engine!r} --replay {self.seed!r}: {self.what}"


@dataclass(slots=True)
class Tally:
    """The count of one search, or of several.

    Attributes:
        scenarios: how many were played.
        fired: in how many of them the planned fault really happened.
        deaths: how many processes died by SIGKILL.
        violations: what must not be.
        skipped: what this machine cannot play, and why: never counted as passed.
        notes: figures of an engine's own, for the report.
    """

    scenarios: int = 0
    fired: int = 0
    deaths: int = 0
    violations: list[Violation] = field(default_factory=list[Violation])
    skipped: list[str] = field(default_factory=list[str])
    notes: dict[str, int] = field(default_factory=dict[str, int])

    def add(self, other: Tally) -> None:
        """Count another search in."""
        self.scenarios += other.scenarios
        self.fired += other.fired
        self.deaths += other.deaths
        self.violations += other.violations
        self.skipped += other.skipped
        for name, count in other.notes.items():
            self.notes[name] = self.notes.get(name, 0) + count
