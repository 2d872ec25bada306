"""Steps a protocol generator by hand: a test of a race needs no server, it sends the reply that is feared."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from agentcheckpoint.core.models import Birth, Done, Inputs, Opened, Payload, line_of
from agentcheckpoint.store.claim import Opening
from agentcheckpoint.store.commit import Change, commit
from agentcheckpoint.store.effects import Packet, Pause, Refusal
from agentcheckpoint.store.fence import Fence
from agentcheckpoint.store.keys import RunKeys
from agentcheckpoint.store.loading import LOAD_REPLIES

LOOK = ["LLEN", "WATCH", "GET", "EXISTS"]
"""How a claim looks at what is there."""
META_OF_R = [b"@", b"birth", b"schema", b"1", b"state", b"running", b"attempt", b"1", b"due", b""]
"""What a claim finds beside the log of such a run: birth mark, schema, state, attempt, due."""
ALIVE = b'{"host":"h","boot":"elsewhere","pidns":"n","pid":1,"start":1,"note":"x"}'


class Hand:
    """Drives one generator; what it ends with is in ``outcome``."""

    def __init__(self, protocol: Generator[Any, Any, Any]) -> None:
        self._protocol = protocol
        self.outcome: Any = None
        self.ended = False
        self.effect: Any = None
        self._go(lambda: next(protocol))

    def _go(self, step: Any) -> None:
        try:
            self.effect = step()
            while isinstance(self.effect, Pause):
                self.effect = self._protocol.send(None)
        except StopIteration as stop:
            self.ended, self.outcome, self.effect = True, stop.value, None

    @property
    def commands(self) -> list[tuple[Any, ...]]:
        assert isinstance(self.effect, Packet), self.effect
        return list(self.effect.commands)

    @property
    def words(self) -> list[str]:
        return [str(command[0]) for command in self.commands]

    def reply(self, *replies: Any) -> Hand:
        """Answers the packet that is out."""
        self._go(lambda: self._protocol.send(list(replies)))
        return self

    def answer(self, value: Any) -> Hand:
        """Answers what is no packet."""
        self._go(lambda: self._protocol.send(value))
        return self

    def throw(self, error: Exception) -> Hand:
        """The network fails the packet that is out."""
        self._go(lambda: self._protocol.throw(error))
        return self

    def close(self) -> None:
        """Leaves the generator where it stands, as a process that is ending does."""
        self._protocol.close()

    def executed(self, *inside: Any) -> Hand:
        """Answers a MULTI/EXEC packet whose commands gave these replies."""
        return self.reply(b"OK", *[b"QUEUED"] * (len(self.commands) - 2), list(inside))


def same(entry: Any) -> bool:
    """Whether an heir's record is of the step that ``begin`` commits."""
    return bool(entry.slot == "s")


def begin(mine: Fence, entry_id: str = "e1", value: object = "paid", **options: Any) -> Hand:
    """A commit of the step ``s``, whose first packet is out."""
    return Hand(commit(mine, change(entry_id), tokens(), step="s", value=value, **options))


def settle(hand: Hand, head: str, *entries: Any, token: str = "2.t1") -> Hand:
    """Answers a claim by which the worker settles its doubts."""
    assert hand.words == LOOK
    hand.reply(1, b"OK", head.encode(), 0)
    assert hand.words[:2] == ["MULTI", "SET"] and hand.commands[1][2] == token
    return hand.executed(*[b"OK"] * (len(hand.commands) - 2 - LOAD_REPLIES), *a_load(token, *entries))


def swept(hand: Hand, head: bytes | None = b"2.heir") -> Hand:
    """Answers the sweep by which a worker that was replaced takes away what it wrote to dead names."""
    assert hand.words == ["WATCH", "GET", "EXISTS"]
    hand.reply(b"OK", head, int(head is None))
    assert hand.words == ["MULTI", "DEL", "EXEC"] and hand.effect.held
    assert not any(f":{head.decode()}:" in str(name) for name in hand.commands[1]) if head else True
    return hand.executed(2)


def meta_of(state: bytes, attempt: bytes = b"1") -> list[bytes]:
    """The same of a run in another state."""
    return [b"@", b"birth", b"schema", b"1", b"state", state, b"attempt", attempt, b"due", b""]


def gave_back(hand: Hand) -> Hand:
    """Answers the giving back of a lease by a worker that cannot go on with what it has opened."""
    (command,) = hand.commands
    assert command[0] == "DEL" and str(command[1]).endswith(":lease")
    return hand.reply(1)


def tokens() -> Any:
    """Makes tokens that a test can foresee: 1.t1, 2.t2, ..."""
    made = iter(range(1, 1000))
    return lambda epoch: f"{epoch}.t{next(made)}"


def fence(token: str = "1.a", log: int = 2, results: int = 1) -> Fence:
    """A worker that has the run, loaded with so many entries."""
    made = Fence(RunKeys("tag"), "default", "r")
    made.holder = ALIVE
    if token:
        made.issue(token)
        made.loaded(token, log, results, set())
    return made


def done(entry_id: str = "e1", slot: str = "s") -> Done:
    return Done(id=entry_id, at=1, slot=slot, inputs=Inputs(digest="d"), payload=Payload(size=3))


def change(entry_id: str = "e1", slot: str = "s") -> Change:
    return Change(done(entry_id, slot), b"abc")


def opening() -> Opening:
    return Opening(
        Birth(id="birth", at=1, namespace="default", run="r"),
        lambda holder: False,
        lambda n: Opened(id=f"o{n}", at=1, attempt=n, worker="w"),
    )


def a_load(token: str, *entries: Any, meta: dict[str, str] | None = None, results: int | None = None) -> list[Any]:
    """What a load of such a run answers."""
    birth = Birth(id="birth", at=1, namespace="default", run="r")
    log = [birth, Opened(id="o1", at=1, attempt=1, worker="w"), *entries]
    fields = {
        "@": "birth",
        "schema": "1",
        "state": "running",
        "attempt": "1",
        "due": "",
        "begun": "birth",
        "agent": "",
        "conversation": "",
    }
    stored = 1 + sum(isinstance(entry, Done) for entry in log) if results is None else results
    return [
        [line_of(entry).encode() for entry in log],
        [word.encode() for pair in (fields | (meta or {})).items() for word in pair],
        stored,
        b"birth",
        [],
        [b"1", b"0"],
        token.encode(),
    ]


REFUSED = {
    "OOM": Refusal("OOM", "command not allowed when used memory > 'maxmemory'"),
    "READONLY": Refusal("READONLY", "You can't write against a read only replica."),
    "NOPERM": Refusal("NOPERM", "this user has no permissions"),
    "MISCONF": Refusal("MISCONF", "Redis is configured to save RDB snapshots"),
    "NOREPLICAS": Refusal("NOREPLICAS", "Not enough good replicas to write."),
}
ABORT = Refusal("EXECABORT", "Transaction discarded because of previous errors.")
