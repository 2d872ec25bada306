"""A user's own Redis commands in the EXEC of a step's checkpoint: what his function may read and queue."""

from __future__ import annotations

from agentcheckpoint.attempt import Attempt
from agentcheckpoint.errors import RunMisuse
from agentcheckpoint.store.effects import Argument, Command, Line, Protocol, Reply
from agentcheckpoint.store.watching import check_slot, read_watched

ALL_KEYS = frozenset({"MGET", "EXISTS", "SINTER", "SUNION", "SDIFF", "PFCOUNT"})
"""Reads of which every argument is a key."""
READS = ALL_KEYS | frozenset(
    {"GET", "STRLEN", "GETRANGE", "GETBIT", "BITCOUNT", "TYPE", "TTL", "PTTL", "DUMP", "HGET", "HMGET"}
    | {"HGETALL", "HEXISTS", "HLEN", "HKEYS", "HVALS", "HSTRLEN", "LRANGE", "LLEN", "LINDEX", "LPOS"}
    | {"SMEMBERS", "SISMEMBER", "SMISMEMBER", "SCARD", "ZRANGE", "ZREVRANGE", "ZRANGEBYSCORE"}
    | {"ZREVRANGEBYSCORE", "ZSCORE", "ZMSCORE", "ZCARD", "ZCOUNT", "ZRANK", "ZREVRANK", "XLEN", "XRANGE"}
    | {"XREVRANGE"}
)
"""Commands that change nothing and name their key first."""
REFUSED = frozenset(
    {"MULTI", "EXEC", "DISCARD", "WATCH", "UNWATCH", "SELECT", "AUTH", "HELLO", "RESET", "QUIT", "CLIENT"}
    | {"CONFIG", "FLUSHALL", "FLUSHDB", "SWAPDB", "SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE", "UNSUBSCRIBE"}
    | {"MONITOR", "SHUTDOWN", "DEBUG", "EVAL", "EVALSHA", "FCALL", "SCRIPT", "FUNCTION"}
)
"""Commands that are about the connection or the server, or that hide their keys."""


class TransactionBase:
    """What both colours share. Made by ``run.transaction``."""

    def __init__(self, attempt: Attempt, slot: str) -> None:
        self._attempt = attempt
        self._slot = slot
        self.line = Line()
        self.token = attempt.fence.token
        self.is_cluster = False
        self.queued: list[Command] = []
        self.broken: Exception | None = None
        """What a read met, after which nothing is watched any more."""

    def key(self, name: str) -> str:
        """A key's name that lies in the run's slot: on a cluster, no other can be in its transaction."""
        return f"{{{self._attempt.fence.keys.tag}}}:{name}"

    def queue(self, command: str, key: str, *args: Argument) -> None:
        """Adds a command to the transaction. It is applied with the step's checkpoint, or not at all.

        Raises:
            RunMisuse: it is no command of a transaction's, or its key is the library's, or in another slot.
        """
        verb = command.upper()
        if verb in REFUSED:
            raise self._misuse(f"{verb} cannot be part of it")
        self._check(key)
        self.queued.append((verb, key, *args))

    def _plan_read(self, command: str, key: str, args: tuple[Argument, ...]) -> Protocol[Reply]:
        verb = command.upper()
        if verb not in READS:
            raise self._misuse(f"tx.read takes commands that read a key, and {verb} is none it knows: tx.queue it")
        keys = [str(word) for word in (key, *args)] if verb in ALL_KEYS else [key]
        for each in keys:
            self._check(each)
        return read_watched(self._attempt.fence, self.line, keys, (verb, key, *args), self._slot)

    def _check(self, key: str) -> None:
        if key.startswith("ac:{"):
            raise self._misuse(f"the key {key!r} is agentcheckpoint's own")
        if self.is_cluster:
            check_slot(self._attempt.fence, key, self._slot)

    def _misuse(self, why: str) -> RunMisuse:
        run_id = self._attempt.run_id
        return RunMisuse(f"run {run_id!r}, step {self._slot!r}: {why}.", run_id=run_id, step=self._slot)


class Transaction(TransactionBase):
    """A Redis transaction of a blocking run."""

    def read(self, command: str, key: str, *args: Argument) -> Reply:
        """Reads now, and watches the key: if it is changed before the commit, the function is called again.

        Returns what the server answers: bytes, int, ``None``, or a list of these.

        Raises:
            StoreRefused: nothing of the transaction was applied.
            StoreUnavailable: the connection is gone: whatever is made of it, the function is called again.
            RunMisuse: the command is none that reads.
        """
        assert self._attempt.store is not None
        try:
            return self._attempt.store.run(self._plan_read(command, key, args))
        except Exception as exc:
            self.broken = exc
            raise


class AsyncTransaction(TransactionBase):
    """A Redis transaction of a run on an event loop."""

    async def read(self, command: str, key: str, *args: Argument) -> Reply:
        """Reads now, and watches the key; see ``Transaction.read``."""
        assert self._attempt.store is not None
        try:
            return await self._attempt.store.run_async(self._plan_read(command, key, args))
        except Exception as exc:
            self.broken = exc
            raise
