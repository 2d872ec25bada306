"""Every verb on the store in one small story, and which commands the server took for it."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import redis

import agentcheckpoint as ac
from agentcheckpoint.core.ids import run_tag
from agentcheckpoint.store import wire
from agentcheckpoint.store.effects import Lost
from agentcheckpoint.store.keys import RunKeys

MINE = frozenset({"config|resetstat", "ping", "acl|setuser", "acl|log", "hello"})
"""Commands of the tests' own."""
ASIDE = frozenset({"client|setinfo", "client"})
"""What redis-py says of itself; a refusal is ignored. A server before 7.0 names the command without its word."""
SETTINGS = frozenset({"info", "config|get"})
"""What only the look at the server's settings takes: it may be refused."""


def commands_of_a_life(admin: redis.Redis, url: str) -> set[str]:
    """The commands, in the words of an ACL, that the server has seen during ``live``."""
    admin.execute_command("CONFIG", "RESETSTAT")
    live(admin, url)
    seen: dict[str, Any] = admin.info("commandstats")
    return {name.removeprefix("cmdstat_") for name in seen} - MINE


def live(admin: redis.Redis, url: str) -> None:
    """Open, commit, replay, lose a reply, be taken over, look, count, delete: in both colours."""
    store = ac.connect(url)
    plain, looped, doubtful, taken = (
        f"{name}-{secrets.token_hex(4)}" for name in ("plain", "looped", "doubtful", "taken")
    )

    def buy() -> dict[str, Any]:
        return {"model": "gpt-5-mini", "usage": {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15}}

    step = ac.Step("buy", provider="openai")
    for _ in range(2):
        with ac.run(plain, store=store) as run:
            run.llm(step, buy)
            for _ in run.cursor("loop", ["item"], key=str, ordered=False):
                pass
            run.finish("all")

    async def on_a_loop() -> None:
        async with ac.run(looped, store=store) as run:
            await run.step("now", time.time)

    asyncio.run(on_a_loop())
    with ac.run(doubtful, store=store) as run, reply_lost():
        run.step("now", time.time)
    _be_taken_over(admin, store, taken)
    ac.costs(store=store)
    for run_id in (plain, looped, doubtful, taken):
        ac.get(run_id, store=store)
        ac.delete(run_id, keep_ledger=run_id == plain, store=store)
    ac.delete(plain, store=store)
    with ac.run(f"pruned-{plain}", store=store):
        pass
    ac.prune(completed=timedelta(0), keep_ledger=True, store=store)


def _be_taken_over(admin: redis.Redis, store: ac.Store, run_id: str) -> None:
    def buy() -> dict[str, Any]:
        return {"usage": {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15}}

    def pause_and_buy() -> dict[str, Any]:
        take_over(admin, store, run_id)
        return buy()

    try:
        with ac.run(run_id, store=store) as paused:
            paused.llm("buy", pause_and_buy)
    except ac.LeaseLost:
        return
    raise AssertionError("the paused worker was not told")


def take_over(admin: redis.Redis, store: ac.Store, run_id: str) -> None:
    """Lets a run's lease expire, as time would, and opens the run for another worker."""
    keys = RunKeys(run_tag("default", run_id))
    while True:
        admin.delete(keys.lease(admin.get(keys.head).decode()))
        try:
            with ac.run(run_id, store=store) as heir:
                heir.step("now", time.time)
        except ac.RunBusy:  # its holder was just renewing it
            continue
        return


@contextmanager
def reply_lost() -> Iterator[None]:
    """The reply of the next commit does not arrive."""
    exchange = wire.Wire.exchange
    left = 1

    def losing(self: wire.Wire, commands: Any) -> Any:
        nonlocal left
        replies = exchange(self, commands)
        if left and commands[1][0] == "RPUSH":
            left -= 1
            self.close()
            raise Lost("the reply was lost, for a test")
        return replies

    wire.Wire.exchange = losing  # type: ignore[method-assign]
    try:
        yield
    finally:
        wire.Wire.exchange = exchange  # type: ignore[method-assign]
