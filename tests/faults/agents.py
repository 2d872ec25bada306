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
    "slept",
    "answered",
    "approved",
    "retried",
    "once",
    "cursor",
    "loop",
    "transact",
)
"""What an agent can do:

plain     a step            keyed     steps of one name, by key       begun     a step in two phases
paid      ``run.llm``       ask       a call of the wrapped client    stream    the same, streamed
refused   ``accept=`` says no to the first answer                     rejected  ``ac.reject`` does
failing   the function raises the first time                          drawn     ``run.now``, ``uuid`` and ``random``
twins     two calls of one key at once      short     a stream that ends without its last event the first time
slept     ``run.sleep``     answered  ``run.wait_for``: the run is suspended, answered from outside, and goes on
approved  ``approve=``      retried   ``Step(retry=)`` of what fails twice        once      ``effect="once", verify=``
cursor    a step with a value cursor, set after each of its items
loop      ``run.cursor`` over items in their order, and over some that come in another order in each pass
transact  ``run.transaction``: the user's own keys are read, and changed with the checkpoint
"""
ALONE = frozenset({"slept", "answered", "approved"})
"""Not beside others: how often a wait that is held for them looks for its answer is up to the clock."""
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
    is_job: bool = False
    """A worker finds it in the list of what is due, and its first attempt fails."""

    def leaves(self) -> list[Op]:
        return [leaf for op in self.ops for leaf in op.leaves()]

    def does(self, kind: str) -> bool:
        """Whether that is one of the things it does."""
        return any(leaf.kind == kind for leaf in self.leaves())

    @property
    def has_threads(self) -> bool:
        """How many connections it opens is then up to how its threads happen to overlap."""
        return not self.is_async and any(op.kind == "parallel" for op in self.ops)

    def __str__(self) -> str:
        how = f"{'async' if self.is_async else 'blocking'}{', a job' if self.is_job else ''}"
        return f"agent {self.seed} ({how}): {', '.join(map(_told, self.ops))}"


def _told(op: Op) -> str:
    return f"{op.kind}({', '.join(map(_told, op.inner))})" if op.inner else op.kind


def generate(seed: int) -> Agent:
    """The agent of that seed. Every other one is async, a third are jobs; any fourteen in a row do all there is."""
    chance = random.Random(f"agent {seed}")
    kinds = [KINDS[(3 * (seed // 2) + i) % len(KINDS)] for i in range(3)]  # they come in turn, those inside by chance
    chance.shuffle(kinds)
    ops = [Op(kind, f"{i}") for i, kind in enumerate(kinds)]
    around = ("parallel", "nested")[(seed // 2) % 2]
    among = [kind for kind in KINDS if kind not in ALONE]
    inner = tuple(Op(kind, f"3.{i}") for i, kind in enumerate(chance.choices(among, k=_LEAVES_AT_ONCE)))
    ops.insert(chance.randrange(len(ops) + 1), Op(around, "3", inner))
    is_job = seed // 2 % 3 == 0  # in step with neither the kinds nor what is around them
    if is_job:
        ops.insert(chance.randrange(1, len(ops)), Op("stumbled", "4"))
    return Agent(seed, bool(seed % 2), tuple(ops), is_job)
