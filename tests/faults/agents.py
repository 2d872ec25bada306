"""Agents, generated from a seed: what they do, in which order, blocking or async. One text runs both."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

KINDS = (
    "plain",
    "paid",
    "keyed",
    "ask",
    "stream",
    "refused",
    "rejected",
    "failing",
    "begun",
    "drawn",
    "twins",
    "short",
)
"""What an agent can do:

plain     a step            keyed     steps of one name, by key       begun     a step in two phases
paid      ``run.llm``       ask       a call of the wrapped client    stream    the same, streamed
refused   ``accept=`` says no to the first answer                     rejected  ``ac.reject`` does
failing   the function raises the first time                          drawn     ``run.now``, ``uuid`` and ``random``
twins     two calls of one key at once      short     a stream that ends without its last event the first time
"""
_LEAVES_AT_ONCE = 3


@dataclass(frozen=True, slots=True)
class Op:
    """One thing that an agent does. ``label`` tells it from all others in the agent's diary."""

    kind: str
    label: str
    inner: tuple[Op, ...] = ()

    def leaves(self) -> Iterator[Op]:
        """The ops in it that are not made of others; itself, if it is one."""
        if not self.inner:
            yield self
        for op in self.inner:
            yield from op.leaves()


@dataclass(frozen=True, slots=True)
class Agent:
    """A generated agent."""

    seed: int
    is_async: bool
    ops: tuple[Op, ...]

    def leaves(self) -> list[Op]:
        return [leaf for op in self.ops for leaf in op.leaves()]

    @property
    def has_threads(self) -> bool:
        """How many connections it opens is then up to how its threads happen to overlap."""
        return not self.is_async and any(op.kind == "parallel" for op in self.ops)

    def __str__(self) -> str:
        return f"agent {self.seed} ({'async' if self.is_async else 'blocking'}): {', '.join(map(_told, self.ops))}"


def _told(op: Op) -> str:
    return f"{op.kind}({', '.join(map(_told, op.inner))})" if op.inner else op.kind


def generate(seed: int) -> Agent:
    """The agent of that seed. Every other one is async; any dozen in a row do all that an agent can do."""
    chance = random.Random(f"agent {seed}")
    kinds = [KINDS[(2 * (seed // 2) + i) % len(KINDS)] for i in range(2)]  # these come in turn, the others by chance
    kinds += chance.choices(KINDS, k=1)
    chance.shuffle(kinds)
    ops = [Op(kind, f"{i}") for i, kind in enumerate(kinds)]
    around = ("parallel", "nested")[(seed // 2) % 2]
    inner = tuple(Op(kind, f"3.{i}") for i, kind in enumerate(chance.choices(KINDS, k=_LEAVES_AT_ONCE)))
    ops.insert(chance.randrange(len(ops) + 1), Op(around, "3", inner))
    return Agent(seed, bool(seed % 2), tuple(ops))
