"""What a server's settings mean for the promise. Pure: it judges what ``INFO`` and ``CONFIG GET`` answered."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

Persistence: TypeAlias = Literal["always", "everysec", "no", "rdb", "none", "unknown"]

CONFIG_NAMES = ("appendonly", "appendfsync", "save", "maxmemory-policy", "maxmemory")
"""What ``assess`` reads of ``CONFIG GET``. Managed servers often refuse the command."""

OLDEST = (6, 2)
"""The version of Redis since which each command that is used, and each of its options, is known."""

_FSYNC: Mapping[str, Persistence] = {"always": "always", "everysec": "everysec", "no": "no"}
_PERSISTENCE: Mapping[Persistence, str] = {
    "everysec": "appendfsync is everysec: when the server's machine goes down, the steps of about the last second, at "
    "times of three, are lost and would be paid again; set appendfsync always.",
    "no": "appendfsync is no: when the server's machine goes down, every step that the kernel had not written yet is "
    "lost and would be paid again; set appendfsync always.",
    "rdb": "Only snapshots are kept (appendonly is no): when the server dies, every step since the last snapshot is "
    "lost and would be paid again; set appendonly yes and appendfsync always.",
    "none": "Nothing is written to disk: when the server stops, every step is lost and would be paid again; set "
    "appendonly yes and appendfsync always.",
}


@dataclass(frozen=True, slots=True)
class Health:
    """What is known of a server, and what it means for the promise.

    Attributes:
        server: its name and version, such as ``Valkey 9.1.2``, or ``unknown``.
        persistence: how commits reach the disk.
        eviction: its ``maxmemory-policy``, or ``unknown``.
        maxmemory: bytes it may use; 0 for no limit, ``None`` if unknown.
        role: ``master``, ``slave``, or ``unknown``.
        findings: what weakens the promise or could not be read, each with what to set.
        refuse: why this server must not be used; ``None`` if it may be.
        for_good: ``allow_eviction`` does not lift that.
        about: the findings by what they are about: persistence, disk, eviction, role or replicas.
    """

    server: str
    persistence: Persistence
    eviction: str
    maxmemory: int | None
    role: str
    findings: tuple[str, ...]
    refuse: str | None
    for_good: bool = False
    about: Mapping[str, str] = field(default_factory=dict[str, str], hash=False)


def assess(
    info: Mapping[str, str] | None, config: Mapping[str, str] | None, *, replicas: int = 0, failover: bool = False
) -> Health:
    """Judge a server by its own words. What could not be read is unknown, and said to be.

    Args:
        info: the sections server, memory, persistence and replication of ``INFO``, merged; ``None`` if refused.
        config: what ``CONFIG GET`` says of ``CONFIG_NAMES``, as far as it is allowed; ``None`` if refused.
        replicas: how many of its replicas each write is to wait for.
        failover: whether a replica takes its place by itself when it dies.
    """
    info, config = info or {}, config or {}
    persistence, disk = _persistence(info, config)
    eviction = config.get("maxmemory-policy") or info.get("maxmemory_policy") or "unknown"
    maxmemory = _number(config.get("maxmemory") or info.get("maxmemory"))
    role = info.get("role") or "unknown"
    found = {"persistence": disk, "disk": _write_finding(info)}
    found |= {"eviction": _eviction_finding(eviction, maxmemory), "role": _role_finding(role)}
    found["replicas"] = _replica_finding(_number(info.get("connected_slaves")), replicas, failover)
    about = {subject: finding for subject, finding in found.items() if finding is not None}
    unfit = _unfit(info, role)
    return Health(
        server=_server(info),
        persistence=persistence,
        eviction=eviction,
        maxmemory=maxmemory,
        role=role,
        findings=tuple(about.values()),
        refuse=unfit or _evicts(eviction, maxmemory),
        for_good=unfit is not None,
        about=about,
    )


def merged(each: Sequence[Health]) -> Health:
    """What is known of several servers as one: the worst of them, with what is found of any."""
    worst = max(each, key=lambda one: (one.for_good, one.refuse is not None, len(one.findings)))
    servers = " and ".join(dict.fromkeys(one.server for one in each))
    findings = tuple(dict.fromkeys(finding for one in each for finding in one.findings))
    return replace(worst, server=servers, findings=findings)


def parse_info(raw: bytes | str) -> dict[str, str]:
    """Read the text that ``INFO`` answers into one flat mapping, every value a string."""
    text = raw.decode("utf-8", "replace") if isinstance(raw, bytes) else raw
    pairs = (line.rstrip("\r").partition(":") for line in text.split("\n") if not line.startswith("#"))
    return {name: value for name, colon, value in pairs if colon}


def _server(info: Mapping[str, str]) -> str:
    # Valkey also reports the version of Redis that it answers like.
    for name, version in (("Valkey", "valkey_version"), ("Redis", "redis_version")):
        if info.get(version):
            return f"{name} {info[version]}"
    return "unknown"


def _persistence(info: Mapping[str, str], config: Mapping[str, str]) -> tuple[Persistence, str | None]:
    appendonly = config.get("appendonly") or {"1": "yes", "0": "no"}.get(info.get("aof_enabled", ""))
    found: Persistence = "unknown"
    if appendonly == "yes":
        found = _FSYNC.get(config.get("appendfsync", ""), "unknown")
    elif appendonly == "no" and "save" in config:
        found = "rdb" if config["save"].strip() else "none"
    if found != "unknown":
        return found, _PERSISTENCE.get(found)
    known = {
        "yes": "Commits are appended to a file, but how soon that reaches the disk is unknown",
        "no": "Commits are not appended to a file (appendonly is no); whether snapshots are kept is unknown",
    }.get(appendonly or "", "Whether commits are written to disk is unknown")
    return found, (
        f"{known}, since the server does not show its configuration: what it loses when it dies would be paid again. "
        "See to it that appendonly is yes and appendfsync is always."
    )


def _write_finding(info: Mapping[str, str]) -> str | None:
    if info.get("aof_last_write_status", "ok") == "ok" and info.get("rdb_last_bgsave_status", "ok") == "ok":
        return None
    return (
        "The server's last write to its disk failed, so it may refuse commits: what a step has bought could then not "
        "be recorded. Look at its log and its free disk space."
    )


def _eviction_finding(eviction: str, maxmemory: int | None) -> str | None:
    if eviction == "unknown":
        return (
            "Whether the server evicts keys when its memory is full is unknown: an evicted step is lost and would be "
            "paid again. See to it that maxmemory-policy is noeviction, or allow INFO so that it can be checked."
        )
    if eviction == "noeviction" or (maxmemory != 0 and eviction.startswith("allkeys-")):
        return None
    if maxmemory == 0:
        return (
            f"maxmemory-policy is {eviction}: it does nothing as long as maxmemory is 0, but with a limit it could "
            "evict steps, which would be paid again; set maxmemory-policy noeviction."
        )
    return (
        f"maxmemory-policy is {eviction}: when memory is full, keys that expire are evicted, so leases and runs with a "
        "time to live may go early; set maxmemory-policy noeviction."
    )


def _role_finding(role: str) -> str | None:
    if role != "unknown":
        return None
    return (
        "Whether the server is a primary or a read-only replica is unknown: a replica would refuse every commit. See "
        "to it that the URL names the primary, or allow INFO so that it can be checked."
    )


def _replica_finding(connected: int | None, wanted: int, failover: bool) -> str | None:
    if connected is not None and connected < wanted:
        return (
            f"Each write is to wait for {wanted} replica(s), and {connected} are connected: so long each takes "
            "longer, and a failover could lose it. Connect more replicas."
        )
    if failover and connected and not wanted:
        return (
            "A replica takes the primary's place when that dies, and lags behind it: the last steps could be lost and "
            'would be paid again; use ac.connect(url, durability="replicated").'
        )
    return None


def _unfit(info: Mapping[str, str], role: str) -> str | None:
    # Valkey reports the version of Redis that it answers like.
    version = re.match(r"(\d+)\.(\d+)", info.get("redis_version", ""))
    if version is not None and (int(version[1]), int(version[2])) < OLDEST:
        return (
            f"{_server(info)} is too old: it does not know every command that is used. Use Redis 6.2 or newer, or "
            "Valkey."
        )
    if role == "slave":
        return "The server is a read-only replica, which refuses every commit: name its primary in the URL."
    return None


def _evicts(eviction: str, maxmemory: int | None) -> str | None:
    if eviction.startswith("allkeys-") and maxmemory != 0:
        return (
            f"The server drops any key when its memory is full (maxmemory-policy is {eviction}): recorded steps would "
            "vanish silently and be paid again. Set maxmemory-policy noeviction, or use another server."
        )
    return None


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() else None
