"""What a scenario is: an agent, and the faults that it meets one after the other. Its seed is its text."""

from __future__ import annotations

import re
from dataclasses import dataclass

WIRE_FATES = ("cut-before", "cut-inside", "cut-after", "delay", "late", "kill-before", "kill-after", "cancel")
"""What can happen to a command: the line is cut before it, in its middle, or when it was applied and not answered; its
answer comes too late, or it itself does, after its sender has given it up; the worker dies before or after it; somebody
else asks for the run's end just before it."""
HTTP_FATES = ("cut-before", "cut-inside", "cut-after", "kill-before", "kill-inside", "kill-after")
"""The same for a request to the provider; ``inside`` is the middle of the answer."""
POINT_FATES = ("kill",)
FATES = {"r": WIRE_FATES, "h": HTTP_FATES, "p": POINT_FATES}

_FAULT = re.compile(r"([rhp])(\d+)\.([a-z-]+)")


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: at the n-th Redis command (``r``), provider request (``h``) or point of the agent's own (``p``).

    It is counted from the beginning of a life that follows a death or a failure, not from that of one that goes on
    after a wait; or from the fault before it where the life went on.
    """

    place: str
    n: int
    fate: str

    @property
    def deadly(self) -> bool:
        return self.fate.startswith("kill")

    @property
    def waits(self) -> bool:
        """It happens to who has waited in vain for an answer."""
        return self.fate in ("delay", "late")

    def __str__(self) -> str:
        return f"{self.place}{self.n}.{self.fate}"


@dataclass(frozen=True, slots=True)
class Scenario:
    """One agent, by the seed that it is generated from, and its faults."""

    agent: int
    faults: tuple[Fault, ...]

    def __str__(self) -> str:
        return f"a{self.agent}:{'+'.join(map(str, self.faults))}"

    @staticmethod
    def parse(seed: str) -> Scenario:
        """Raises ``ValueError``: the text is no scenario."""
        agent, colon, rest = seed.partition(":")
        found = [_FAULT.fullmatch(part) for part in rest.split("+")] if rest else []
        if not colon or not re.fullmatch(r"a\d+", agent) or not all(found):
            raise ValueError(f"{seed!r} is no scenario: it looks like a3:r41.cut-after or a3:h2.kill-after+r7.delay")
        faults = tuple(Fault(match[1], int(match[2]), match[3]) for match in found if match is not None)
        for fault in faults:
            if fault.fate not in FATES[fault.place]:
                raise ValueError(f"{fault}: the fates of {fault.place!r} are {', '.join(FATES[fault.place])}")
        return Scenario(int(agent[1:]), faults)
