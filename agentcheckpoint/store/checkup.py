"""All that can be told of a store, fact by fact, and what each means for the promise. Pure, but for one packet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias
from urllib.parse import urlsplit

from agentcheckpoint.errors import StoreUnavailable
from agentcheckpoint.store.effects import Lost, NotSent, Packet, Pause, Protocol, Refusal, Reply, ms_of
from agentcheckpoint.store.health import Health, Persistence, parse_info
from agentcheckpoint.store.patience import Patience

Verdict: TypeAlias = Literal["ok", "note", "weak", "unknown"]
"""Whether the promise holds as far as this goes: yes; yes, but know this; no; or it could not be looked at."""

_PERSISTENCE: Mapping[Persistence, str] = {
    "always": "appended to a file, synced at each commit",
    "everysec": "appended to a file, synced every second",
    "no": "appended to a file, synced when the kernel likes",
    "rdb": "snapshots alone",
    "none": "none",
    "unknown": "unknown",
}
_SKEW_MS = 2000
"""How far two clocks may be apart without a word."""


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing that is known of a store, or is not.

    Attributes:
        about: what it is about, in a word or two.
        value: what was found; ``unknown`` where nobody was allowed to look.
        verdict: what that makes of the promise.
        means: the same in words.
    """

    about: str
    value: str
    verdict: Verdict
    means: str


@dataclass(frozen=True, slots=True)
class Told:
    """What a server says of itself beside its settings. ``None``: it does not say."""

    info: Mapping[str, str] | None
    user: str | None
    now_ms: int | None


def ask_server() -> Protocol[Told]:
    """Asks a server; what this user may not ask is unknown.

    Raises:
        StoreUnavailable.
    """
    trouble: Exception | None = None
    patience = Patience()
    for times, pause in patience.tries():
        try:
            time, info, user = yield Packet((("TIME",), ("INFO",), ("ACL", "WHOAMI")), patience=times)
        except (NotSent, Lost) as exc:
            trouble = exc
            patience.note(exc)
            yield Pause(pause)
            continue
        return Told(
            info=parse_info(info) if isinstance(info, bytes) else None,
            user=_text(user),
            now_ms=None if isinstance(time, Refusal) else ms_of(time),
        )
    raise StoreUnavailable(f"the server could not be asked about itself in several tries: {trouble}.")


def _text(reply: Reply) -> str | None:
    return reply.decode("utf-8", "replace") if isinstance(reply, bytes) else None


def memory_facts() -> list[Fact]:
    """Of fakeredis, which has no settings."""
    means = "it lives in this process: nothing survives it. Use it for tests."
    return [Fact("server", "fakeredis, in memory", "ok", ""), Fact("persistence", "none", "weak", means)]


def server_facts(health: Health, told: Told, name: str, local_ms: int, within_ms: int) -> list[Fact]:
    """The facts about a server.

    Args:
        health: its settings.
        told: what else it says.
        name: its URL, without the password.
        local_ms, within_ms: this machine's clock when it said so, milliseconds since the epoch, give or take.
    """
    is_known = told.info is not None
    return [
        Fact("server", health.server, "ok" if health.server != "unknown" else "unknown", ""),
        _judged("persistence", _PERSISTENCE[health.persistence], health, "a commit that was acknowledged stays."),
        _judged("disk", "its last write succeeded" if is_known else "unknown", health, "commits can be written."),
        _eviction(health),
        _judged("role", {"master": "primary"}.get(health.role, health.role), health, "it takes commits."),
        _replicas(told.info),
        _clock(told.now_ms, local_ms, within_ms),
        _user(told.user),
        _transport(name),
    ]


def _judged(about: str, value: str, health: Health, fine: str) -> Fact:
    finding = health.about.get(about)
    if value == "unknown":
        return Fact(about, value, "unknown", finding or "nobody may look.")
    if about == "disk" and finding:
        value = "its last write failed"
    return Fact(about, value, "ok" if finding is None else "weak", finding or fine)


def _eviction(health: Health) -> Fact:
    if health.refuse is not None and not health.for_good:
        return Fact("eviction", health.eviction, "weak", health.refuse)
    if health.eviction != "noeviction" and health.maxmemory == 0 and "eviction" in health.about:
        return Fact("eviction", health.eviction, "note", health.about["eviction"])
    return _judged("eviction", health.eviction, health, "no step is thrown away when memory is full.")


def _replicas(info: Mapping[str, str] | None) -> Fact:
    count = (info or {}).get("connected_slaves", "unknown")
    if count == "unknown":
        return Fact("replicas", count, "unknown", "whether there are any is not shown.")
    if count == "0":
        return Fact("replicas", "none", "note", "there is one copy of the runs: what its disk loses is lost.")
    means = "they lag: if one of them takes the primary's place, the last steps may be lost and would be paid again."
    return Fact("replicas", count, "note", means)


def _clock(now_ms: int | None, local_ms: int, within_ms: int) -> Fact:
    if now_ms is None:
        return Fact("clock", "unknown", "unknown", "the server does not tell its time.")
    skew = now_ms - local_ms
    value = f"{skew:+d} ms from this machine's, give or take {within_ms}"
    if abs(skew) - within_ms <= _SKEW_MS:
        return Fact("clock", value, "ok", "")
    return Fact("clock", value, "note", "ages are shown by this machine's clock, and are off by as much.")


def _user(user: str | None) -> Fact:
    if user is None:
        return Fact("user", "unknown", "unknown", "whether others may change what is stored cannot be seen.")
    if user == "default":
        means = "it may do everything, and so may whoever reaches the server; docs/store.md has an ACL that suffices."
        return Fact("user", user, "note", means)
    return Fact("user", user, "ok", "it has a user of its own.")


def _transport(name: str) -> Fact:
    parts = urlsplit(name)
    if parts.scheme.startswith("rediss"):
        return Fact("transport", "TLS", "ok", "nobody on the way can read it.")
    if parts.scheme == "unix":
        return Fact("transport", "a socket on this machine", "ok", "it leaves no machine.")
    if parts.hostname in ("localhost", "127.0.0.1", "::1"):
        return Fact("transport", "loopback", "ok", "it leaves no machine.")
    return Fact("transport", "no TLS", "note", "prompts, results and the password can be read on the way: rediss://.")


def weakened(facts: Sequence[Fact]) -> bool:
    """Whether the promise is known to be weaker than it could be."""
    return any(fact.verdict == "weak" for fact in facts)
