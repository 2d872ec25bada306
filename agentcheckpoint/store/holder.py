"""Who holds a lease, and whether he is provably dead.

Written and read on Linux. On macOS, which this was not tested on, only a process that no longer exists is provably
dead; elsewhere none is, and a lease has to expire.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

from pydantic import Field

from agentcheckpoint.core.models import Record


class Holder(Record):
    """The process that holds a lease. What could not be learnt is empty or ``None``."""

    host: str
    boot: str
    """Identifies this start of the machine."""
    pidns: str
    """Identifies the PID namespace, within which a pid means something: a container has its own."""
    pid: int = Field(gt=0, lt=2**31)
    start: int | None
    """When the process started, in clock ticks since the boot: tells it from a later one of the same pid."""
    note: str = ""


def this_process(note: str = "") -> Holder:
    """Describe the calling process.

    Args:
        note: anything that helps people to recognise it, such as a job's name.
    """
    found = _own(os.getpid())
    return found.model_copy(update={"note": note}) if note else found


def provably_dead(holder: Holder) -> bool:
    """Tell whether the process is certainly gone. What cannot be known counts as alive.

    Only a process of this boot and this PID namespace can be judged: it is dead if its pid is free, belongs to a
    process that started at another time, or is a zombie's.
    """
    own = this_process()
    if not (own.boot and own.pidns) or (holder.boot, holder.pidns) != (own.boot, own.pidns):
        return False
    if holder.pid == own.pid:
        # This very process lives; but one before it may have had the same pid, as in a container's restart.
        return None not in (holder.start, own.start) and holder.start != own.start
    try:
        os.kill(holder.pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass  # it exists, and is somebody else's
    return _was_replaced(holder)


def describe(holder: Holder) -> str:
    """Name a process for people: ``pid 123 on host, this machine``."""
    own = this_process()
    if (holder.boot, holder.pidns, holder.pid, holder.start) == (own.boot, own.pidns, own.pid, own.start):
        where = "this process"
    elif own.boot and holder.boot == own.boot:
        where = "this machine" if holder.pidns == own.pidns else "another container on this machine"
    elif holder.host != own.host:
        where = "another machine"
    elif own.boot and holder.boot:
        where = "this machine before it restarted, or another of its name"
    else:
        where = "perhaps this machine"
    note = f" ({holder.note})" if holder.note else ""
    shown = f"pid {holder.pid} on {holder.host}, {where}{note}"
    return "".join(letter if letter.isprintable() else "?" for letter in shown)


@lru_cache(maxsize=1)
def _own(pid: int) -> Holder:
    # Asked for by pid, so that a forked child (whose namespace may be new) looks again.
    boot, pidns = _macos() if sys.platform == "darwin" else _linux(pid)
    fields = _stat_fields(pid)
    return Holder(
        host=socket.gethostname(), boot=boot, pidns=pidns, pid=pid, start=int(fields[19]) if pidns and fields else None
    )


def _linux(pid: int) -> tuple[str, str]:
    try:
        if os.readlink("/proc/self") != str(pid):
            return "", ""  # /proc is that of another namespace: its pids are not ours
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip(), os.readlink("/proc/self/ns/pid")
    except OSError:
        return "", ""


def _macos() -> tuple[str, str]:
    try:
        asked = subprocess.run(
            ["sysctl", "-n", "kern.bootsessionuuid"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=5,
        )
    except (OSError, subprocess.SubprocessError):
        return "", ""
    return asked.stdout.strip(), "macos"


def _was_replaced(holder: Holder) -> bool:
    fields = _stat_fields(holder.pid)
    if fields is None:
        return False
    state, threads, start = fields[0], int(fields[17]), int(fields[19])
    # A first thread that ended is shown as a zombie while others of its process live on.
    return (holder.start is not None and start != holder.start) or (state in "ZXx" and threads <= 1)


def _stat_fields(pid: int) -> list[str] | None:
    """The fields of a process's ``stat`` from its state on: the name before it may hold anything."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].decode("ascii").split()
    except OSError:
        return None
    return fields if len(fields) > 19 else None
