"""Where an embedded server lives: which directories will do, and whether they last."""

from __future__ import annotations

import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest

from agentcheckpoint.errors import InvalidStore
from agentcheckpoint.store import place
from agentcheckpoint.store.place import ephemeral_reason, file_system, find, locked, prepare, state_directory


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_state_directory_comes_from_the_environment_or_the_users_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    monkeypatch.setenv("AGENTCHECKPOINT_HOME", "~/mine")
    assert state_directory() == tmp_path / "mine"
    monkeypatch.delenv("AGENTCHECKPOINT_HOME")
    assert state_directory() == Path("/data/agentcheckpoint")
    monkeypatch.setenv("XDG_DATA_HOME", "relative")
    monkeypatch.setattr(sys, "platform", "linux")
    assert state_directory() == tmp_path / ".local/share/agentcheckpoint"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert state_directory() == tmp_path / "Library/Application Support/agentcheckpoint"


def test_a_user_without_a_home_is_asked_for_a_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTCHECKPOINT_HOME", "~no-such-user/state")
    with pytest.raises(InvalidStore, match="Set \\$AGENTCHECKPOINT_HOME"):
        state_directory()


def test_a_directory_is_made_private_with_all_that_leads_to_it(tmp_path: Path) -> None:
    home = tmp_path / "a" / "b"
    assert prepare(home) == place.Place(home, home / "socket")
    assert mode(home) == 0o700


def test_an_empty_directory_that_others_can_read_is_made_private(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    prepare(tmp_path)
    assert mode(tmp_path) == 0o700


def test_a_directory_in_use_that_others_can_read_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "letter").write_text("mine")
    with pytest.raises(InvalidStore, match="open to other users"):
        prepare(tmp_path)
    assert mode(tmp_path) == 0o755


@pytest.mark.parametrize("name", ["pid", "socket", "log", "lock"])
def test_a_directory_with_files_of_something_else_is_refused_and_left_as_it_is(tmp_path: Path, name: str) -> None:
    tmp_path.chmod(0o700)
    (tmp_path / name).write_text("mine")
    with pytest.raises(InvalidStore, match="no state directory of agentcheckpoint's"):
        prepare(tmp_path)
    assert (tmp_path / name).read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("left", ["lock", "appendonlydir"])
def test_a_directory_that_a_server_has_left_is_taken_again(tmp_path: Path, left: str) -> None:
    tmp_path.chmod(0o700)
    (tmp_path / "log").write_text("its log")
    (tmp_path / left).touch() if left == "lock" else (tmp_path / left).mkdir()
    assert prepare(tmp_path).home == tmp_path


@pytest.mark.parametrize("kind", ["sticky", "home"])
def test_a_directory_that_others_need_is_not_made_private(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    tmp_path.chmod(0o1777 if kind == "sticky" else 0o755)
    before = mode(tmp_path)
    if kind == "home":
        monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(InvalidStore, match="open to other users"):
        prepare(tmp_path)
    assert mode(tmp_path) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make another user's directory")
def test_a_directory_of_another_user_is_refused(tmp_path: Path) -> None:
    os.chown(tmp_path, 12345, 12345)
    with pytest.raises(InvalidStore, match="belongs to uid 12345"):
        prepare(tmp_path)


def test_a_file_in_the_place_of_the_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    with pytest.raises(InvalidStore, match="AGENTCHECKPOINT_HOME"):
        prepare(tmp_path / "state")


def test_looking_makes_nothing(tmp_path: Path) -> None:
    assert find(tmp_path / "state") is None
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(("spare", "fits"), [(0, True), (-1, False)])
def test_a_socket_whose_path_is_too_long_moves_to_a_short_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spare: int, fits: bool
) -> None:
    monkeypatch.setattr(place, "_SHORT", tmp_path)
    monkeypatch.setattr(place, "_LONGEST_SOCKET", len(os.fsencode(tmp_path / "é" / "socket")) + spare)
    found = prepare(tmp_path / "é")
    if fits:
        assert found.socket == tmp_path / "é" / "socket"
    else:
        assert found.socket.parent == tmp_path / f"agentcheckpoint-{os.geteuid()}"
        assert mode(found.socket.parent) == 0o700


@pytest.mark.parametrize("trap", ["symlink", "open", "foreign"])
def test_a_short_directory_that_somebody_else_prepared_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trap: str
) -> None:
    planted = tmp_path / f"agentcheckpoint-{os.geteuid()}"
    if trap == "symlink":
        (tmp_path / "target").mkdir(mode=0o700)
        planted.symlink_to(tmp_path / "target")
    else:
        planted.mkdir(mode=0o700)
        (planted / "socket").touch()
    if trap == "open":
        planted.chmod(0o777)
    if trap == "foreign":
        if os.geteuid() != 0:
            pytest.skip("only root can make another user's directory")
        os.chown(planted, 12345, 12345)
    monkeypatch.setattr(place, "_SHORT", tmp_path)
    with pytest.raises(InvalidStore):
        prepare(tmp_path / ("d" * 120))


def test_the_lock_has_one_holder_at_a_time_and_is_free_afterwards(tmp_path: Path) -> None:
    with locked(tmp_path) as first:
        assert first is not None
        assert not any(os.get_inheritable(descriptor) for descriptor in first)
        with locked(tmp_path) as second:
            assert second is None
        (tmp_path / "lock").unlink()
        with locked(tmp_path) as third:
            assert third is None
    with locked(tmp_path) as fourth:
        assert fourth is not None


def test_a_directory_that_cannot_be_locked_is_refused(tmp_path: Path) -> None:
    (tmp_path / "lock").mkdir()
    with pytest.raises(InvalidStore, match="cannot be locked"), locked(tmp_path):
        pass


MOUNTS = r"""22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime shared:1 master:2 - overlay overlay rw,lowerdir=/a - b
25 27 0:23 / /dev/shm rw - tmpfs tmpfs rw
40 27 8:1 / /mnt/my\040disk\134x rw,relatime - ext4 /dev/sda1 rw
41 27 8:1 / /stacked rw - tmpfs tmpfs rw
42 41 8:1 / /stacked rw - xfs /dev/sdb1 rw
43 27 8:1 / /data rw
truncated
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/home/me", "overlay"),
        ("/dev/shm", "tmpfs"),
        ("/dev/shm/x/y", "tmpfs"),
        ("/dev/shmoo", "overlay"),
        (r"/mnt/my disk\x/z", "ext4"),
        ("/stacked/x", "xfs"),
        ("/data/x", "overlay"),
    ],
)
def test_the_file_system_of_a_path_is_that_of_the_longest_mount(path: str, kind: str) -> None:
    assert file_system(MOUNTS, PurePosixPath(path)) == kind


def test_a_text_that_names_no_mount_tells_nothing() -> None:
    assert file_system("", PurePosixPath("/home")) is None


@pytest.mark.parametrize(
    ("kind", "says"),
    [("tmpfs", "in memory (tmpfs)"), ("ramfs", "in memory"), ("overlay", "container's own layer"), ("ext4", "None")],
)
def test_a_file_system_that_does_not_last_is_a_reason(monkeypatch: pytest.MonkeyPatch, kind: str, says: str) -> None:
    monkeypatch.setattr(place, "file_system", lambda *_: kind)
    assert says in str(ephemeral_reason(Path("/")))


@pytest.fixture
def in_memory() -> Iterator[Path]:
    shared = Path("/dev/shm")
    mounts = Path("/proc/self/mountinfo")
    if not mounts.exists() or file_system(mounts.read_text(), PurePosixPath(shared)) != "tmpfs":
        pytest.skip("no /dev/shm in memory here")
    directory = Path(tempfile.mkdtemp(dir=shared))
    yield directory
    shutil.rmtree(directory)


def test_a_directory_that_does_not_exist_yet_is_judged_by_where_it_will_lie(in_memory: Path) -> None:
    assert "memory" in str(ephemeral_reason(in_memory / "not" / "there"))


def test_a_link_into_memory_is_judged_by_where_it_leads(in_memory: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(in_memory)
    assert "memory" in str(ephemeral_reason(tmp_path / "link"))


@pytest.mark.parametrize("look", ["iterdir", "is_file"])
def test_a_new_directory_that_another_process_begins_to_use_at_this_moment_is_ours(
    look: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, looks = tmp_path / "state", getattr(Path, look)

    def then_another_comes(path: Path) -> object:
        seen = list(looks(path)) if look == "iterdir" else looks(path)
        if home in (path, path.parent) and not (home / "log").exists():
            (home / "lock").touch()
            (home / "log").write_text("started")
        return seen

    monkeypatch.setattr(Path, look, then_another_comes)
    assert prepare(home).home == home
