"""An async function that notes each time that it really runs, and the slots that a run has recorded."""

from __future__ import annotations

import asyncio
from typing import Any

from memory_runs import logged

from agentcheckpoint.core.models import Done


class Tool:
    """An async function that notes each time that it really runs."""

    def __init__(self) -> None:
        self.ran: list[Any] = []

    async def use(self, x: Any, seconds: float = 0) -> Any:
        self.ran.append(x)
        await asyncio.sleep(seconds)
        return x


def slots(url: str) -> list[str]:
    return [entry.slot for entry in logged(url, "r", Done)]
