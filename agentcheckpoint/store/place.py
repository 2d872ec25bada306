"""Where an embedded server lives: its directory, its lock and its socket, and whether the directory will last."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from agentcheckpoint.errors import InvalidStore

HOME_VARIABLE = "AGENTCHECKPOINT_HOME"
_LONGEST_SOCKET = 103 if sys.platform == "darwin" else 107
"""Bytes of a socket's path: the kernel's ``sun_path``, less the NUL at its end."""
_SHORT = Path("/tmp")
"""Fixed, not ``$TMPDIR``: processes of other environments must find the same socket."""
_DATA = "appendonlydir"
"""What servers call the directory of their log, if nobody says otherwise."""
_IN_MEMORY = frozenset({"tmpfs", "ramfs"})
_LAYERED = frozenset({"overlay", "aufs", "fuse.fuse-overlayfs"})


@dataclass(frozen=True, slots=True)
class Place:
    """One state directory and what lies in it."""

    home: Path
    socket: Path

    @property
    def log(self) -> Path:
        return self.home / "log"

    @property
    def pid(self) -> Path:
        return self.home / "pid"


def state_directory() -> Path:
    """Say where the embedded server keeps its data if nothing else is asked for.

    Returns:
        ``$AGENTCHECKPOINT_HOME``; else ``$XDG_DATA_HOME/agentcheckpoint``; else
        ``~/.local/share/agentcheckpoint``, on macOS ``~/Library/Application Support/agentcheckpoint``.

    Raises:
        InvalidStore: the user has no home directory, and the environment names no other.
    """
    try:
        if named := os.environ.get(HOME_VARIABLE):
            return Path(named).expanduser().absolute()
        data = Path(os.environ.get("XDG_DATA_HOME") or ".")
        if data.is_absolute():
            return data / "agentcheckpoint"
        if sys.platform == "darwin":
            return Path.home() / "Library" / "Application Support" / "agentcheckpoint"
        return Path.home() / ".local" / "share" / "agentcheckpoint"
    except RuntimeError as error:
        raise InvalidStore(
            f"There is no home directory to keep checkpoints in ({error}). Set ${HOME_VARIABLE} to a directory that "
            "lasts, or $AGENTCHECKPOINT_URL to a Redis server."
        ) from error


def prepare(home: Path) -> Place:
    """Make the directories of a server, private to this user, or check those that are there.

    Raises:
        InvalidStore: a directory cannot be made, is somebody else's, is open to others and holds files or is used by
            all, or holds files of something else.
    """
    _make_private(home)
    if not _is_ours(home):
        raise InvalidStore(
            f"{home} holds files and is no state directory of agentcheckpoint's: a server there could overwrite them. "
            f"Set ${HOME_VARIABLE} to a directory of its own, such as {home / 'agentcheckpoint'}."
        )
    place = _place(home)
    _make_private(place.socket.parent)
    return place


def find(home: Path) -> Place | None:
    """Find what ``prepare`` has made, without making anything.

    Returns:
        ``None`` if there is no such directory, or no socket in it.

    Raises:
        InvalidStore: a directory is somebody else's, or open to others.
    """
    if not home.is_dir():
        return None
    place = _place(home)
    if not place.socket.exists():
        return None
    for directory in {home, place.socket.parent}:
        if _open_to_others(directory):
            raise _too_open(directory)
    return place


@contextmanager
def locked(home: Path) -> Generator[tuple[int, ...] | None]:
    """Take the right to serve a directory, unless somebody has it.

    The lock belongs to the open files, not to this process: a child that inherits the descriptors keeps it for as
    long as it lives. The directory itself is locked as well as a file in it, so that deleting the file frees nothing.

    Yields:
        The descriptors that hold the lock, closed at the end; ``None`` if a server holds it.

    Raises:
        InvalidStore: the file system has no locks.
    """
    import fcntl  # there is none on Windows

    held: list[int] = []
    try:
        try:
            for path, flags in ((home, os.O_RDONLY | os.O_DIRECTORY), (home / "lock", os.O_RDWR | os.O_CREAT)):
                held.append(os.open(path, flags | os.O_CLOEXEC, 0o600))
                fcntl.flock(held[-1], fcntl.LOCK_EX | fcntl.LOCK_NB)
            lock = tuple(held)
        except BlockingIOError:
            lock = None
        except OSError as error:
            raise InvalidStore(
                f"{home} cannot be locked ({error}), and without a lock two servers could destroy each other's data. "
                f"Set ${HOME_VARIABLE} to a directory on a local disk, or $AGENTCHECKPOINT_URL to a Redis server."
            ) from error
        yield lock
    finally:
        for descriptor in held:
            os.close(descriptor)


def ephemeral_reason(home: Path) -> str | None:
    """Say why a directory will not outlive this machine.

    Returns:
        A clause for people, such as "it lies in memory (tmpfs)"; ``None`` if it will last, or if nobody can tell.
    """
    try:
        mounts = os.fsdecode(Path("/proc/self/mountinfo").read_bytes())
    except OSError:
        return None
    kind = file_system(mounts, PurePosixPath(home.resolve()))
    if kind in _IN_MEMORY:
        return f"it lies in memory ({kind}), and is lost when this machine stops"
    if kind in _LAYERED:
        return f"it lies in the container's own layer ({kind}), and is thrown away with the container"
    return None


def file_system(mounts: str, path: PurePosixPath) -> str | None:
    """Read from the text of ``/proc/self/mountinfo`` on what kind of file system an absolute path lies.

    Returns:
        The kind as the kernel names it, such as ``ext4``; ``None`` if no line covers the path.
    """
    best: tuple[int, str] | None = None
    for line in mounts.split("\n"):
        before, separator, after = line.partition(" - ")
        fields, kind = before.split(" "), after.split(" ")[0]
        if not separator or len(fields) < 5 or not kind:
            continue
        point = PurePosixPath(re.sub(r"\\([0-7]{3})", lambda escape: chr(int(escape[1], 8)), fields[4]))
        # At the same point the later mount hides the earlier one.
        if path.is_relative_to(point) and (best is None or len(point.parts) >= best[0]):
            best = len(point.parts), kind
    return best[1] if best else None


def _place(home: Path) -> Place:
    socket = home / "socket"
    if len(os.fsencode(socket)) > _LONGEST_SOCKET:
        # Named by the directory's identity, so that every path to it finds the same socket.
        facts = home.stat()
        name = hashlib.sha256(f"{facts.st_dev}:{facts.st_ino}".encode()).hexdigest()[:16]
        socket = _SHORT / f"agentcheckpoint-{os.geteuid()}" / name
    return Place(home=home, socket=socket)


def _make_private(directory: Path) -> None:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if _open_to_others(directory):
            # A directory that was made by hand for this, say; one in use stays as it is.
            if any(directory.iterdir()) or _is_for_all(directory):
                raise _too_open(directory)
            directory.chmod(0o700)
    except OSError as error:
        raise InvalidStore(
            f"{directory} cannot be used for checkpoints ({error}). Set ${HOME_VARIABLE} to a directory that this user "
            "can write to, or $AGENTCHECKPOINT_URL to a Redis server."
        ) from error


def _is_ours(home: Path) -> bool:
    """Whether a server of ours was here, or nobody: it leaves a lock, which is empty, and its data."""
    if not any(home.iterdir()):  # looked at first: others may be racing for it, and make the lock before all else
        return True
    lock = home / "lock"
    return (lock.is_file() and not lock.stat().st_size) or (home / _DATA).is_dir()


def _is_for_all(directory: Path) -> bool:
    """Whether others have to get at it: a directory like ``/tmp``, the root, or the user's home."""
    if directory.stat().st_mode & stat.S_ISVTX or directory == directory.parent:
        return True
    try:
        return directory == Path.home().resolve()
    except RuntimeError:  # he has none
        return False


def _open_to_others(directory: Path) -> bool:
    facts = directory.lstat()
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.geteuid():
        raise InvalidStore(
            f"{directory} is no directory of this user's (it belongs to uid {facts.st_uid}, this process is uid "
            f"{os.geteuid()}). Set ${HOME_VARIABLE} to one that is (with a short path, if this one lies in {_SHORT}), "
            "or $AGENTCHECKPOINT_URL to a Redis server."
        )
    return bool(facts.st_mode & 0o077)


def _too_open(directory: Path) -> InvalidStore:
    return InvalidStore(
        f"{directory} is open to other users, who could read or replace the checkpoints in it. Make it private with "
        f"'chmod 700 {directory}', or set ${HOME_VARIABLE} to a directory of its own, such as "
        f"{directory / 'agentcheckpoint'}."
    )
