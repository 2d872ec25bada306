"""Every key name, in one place.

All keys of a run share one hash tag. The keys that hold its data carry the fencing token in their names, so that a
worker whose token is no longer current writes into names that nothing points to.

    ac:{tag}:head            string   the current token
    ac:{tag}:tokens          list     every token that was issued
    ac:{tag}:waste           hash     attempt id -> ledger entry of a worker that was fenced off
    ac:{tag}:cancel          string   somebody has asked for the run's end
    ac:{tag}:answers         hash     id of a wait -> the answer to it
    ac:{tag}:tomb            string   the run was deleted
    ac:{tag}:kept            hash     attempt id -> what is kept of a deleted run; field "@" says whose it is
    ac:{tag}:<token>:log     list     what happened, in order; its first entry is the birth mark
    ac:{tag}:<token>:results hash     entry id -> result bytes; field "@" is the birth mark
    ac:{tag}:<token>:meta    hash     state and totals; field "@" is the birth mark
    ac:{tag}:<token>:lease   string   who works on the run; expires
    ac:{tag}:<token>:marks:* hash     digest of an item's key -> the pass that did it; for each unordered loop

A shared budget has a hash tag of its own, and one key for each window.

    ac:{tag}:budget:<window> hash     attempt id -> reservation; field "@" says whose it is, and the sums of the others

Lists of runs lie in a slot of their own: hints for whoever looks, and no part of any run.

    ac:{runs-<namespace>}:opened  sorted set  run id -> when it was last opened, milliseconds on the server's clock
    ac:{runs-<namespace>}:due     sorted set  run id -> when somebody should look whether there is work on it
    ac:{runs-<namespace>}:kept    sorted set  the same of deleted runs whose ledgers are kept -> when they were deleted
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

BIRTH = "@"

_TOKEN = re.compile(r"[0-9]{1,15}\.[0-9A-Za-z]{1,64}")
_LAST_EPOCH = 10**15 - 1


def is_token(text: str) -> bool:
    """Whether this is a fencing token, ``epoch.nonce``, after which there can be another."""
    return _TOKEN.fullmatch(text) is not None and epoch_of(text) < _LAST_EPOCH


def epoch_of(token: str) -> int:
    """The epoch of a fencing token; 0 if there is none yet."""
    return int(token.partition(".")[0] or 0)


def budget_key(tag: str, window: str) -> str:
    """The name of a shared budget's key."""
    return f"ac:{{{tag}}}:budget:{window}"


def index_key(namespace: str) -> str:
    """The name of the list of a namespace's runs."""
    return f"ac:{{runs-{namespace}}}:opened"


def due_key(namespace: str) -> str:
    """The name of the list of the runs of a namespace that may want work."""
    return f"ac:{{runs-{namespace}}}:due"


def kept_index_key(namespace: str) -> str:
    """The name of the list of a namespace's deleted runs whose ledgers are kept."""
    return f"ac:{{runs-{namespace}}}:kept"


@dataclass(frozen=True, slots=True)
class RunKeys:
    """The names of one run's keys."""

    tag: str

    @property
    def head(self) -> str:
        return f"ac:{{{self.tag}}}:head"

    @property
    def tokens(self) -> str:
        return f"ac:{{{self.tag}}}:tokens"

    @property
    def waste(self) -> str:
        return f"ac:{{{self.tag}}}:waste"

    @property
    def cancel(self) -> str:
        return f"ac:{{{self.tag}}}:cancel"

    @property
    def answers(self) -> str:
        return f"ac:{{{self.tag}}}:answers"

    @property
    def tomb(self) -> str:
        return f"ac:{{{self.tag}}}:tomb"

    @property
    def kept(self) -> str:
        return f"ac:{{{self.tag}}}:kept"

    @property
    def beside(self) -> tuple[str, ...]:
        """What a deletion takes away beside the tokens' keys. Tombstone and kept ledger outlive the run."""
        return self.head, self.tokens, self.waste, self.cancel, self.answers

    def log(self, token: str) -> str:
        return f"ac:{{{self.tag}}}:{token}:log"

    def results(self, token: str) -> str:
        return f"ac:{{{self.tag}}}:{token}:results"

    def meta(self, token: str) -> str:
        return f"ac:{{{self.tag}}}:{token}:meta"

    def lease(self, token: str) -> str:
        return f"ac:{{{self.tag}}}:{token}:lease"

    def marks(self, token: str, slot: str) -> str:
        return f"ac:{{{self.tag}}}:{token}:marks:{hashlib.sha256(slot.encode()).hexdigest()[:16]}"

    def data(self, token: str) -> tuple[str, ...]:
        """The keys that a claim renames: all that hold the run's data, but the marks of unordered loops."""
        return self.log(token), self.results(token), self.meta(token)
