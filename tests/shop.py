"""Paid steps of a run, what was bought in them, and what a server has of them."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

from faults.server_agent import paid_step
from faults.server_evidence import read
from faults.servers import Server

import agentcheckpoint as ac


class Shop:
    """Paid steps, and what was bought in them."""

    def __init__(self) -> None:
        self.bought: list[str] = []

    def step(self, run: ac.Run, name: str, during: Callable[[], object] = lambda: None) -> str:
        """Returns the receipt."""

        def buy() -> dict[str, Any]:
            receipt = f"{name}-{secrets.token_hex(4)}"
            self.bought.append(name)
            during()
            return {"receipt": receipt, "model": "m", "usage": {"input_tokens": 1000, "output_tokens": 0}}

        return str(run.llm(paid_step(name), buy)["receipt"])


def slots(server: Server, run_id: str) -> list[str]:
    """The checkpoints that stand."""
    stored = read(server, run_id)
    return sorted(stored.done()) if stored is not None else []
