"""Servers that are full, crowded, loading, put back to a backup, or that hang up: waited out, settled, or named."""

from __future__ import annotations

import re
import resource
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import redis
from faults.server_agent import Diary, live
from faults.server_evidence import read, wrongs
from faults.server_fuse import MOMENTS, Fuse, Moment, armed
from faults.servers import Server, ServerEnded, until
from servers import REAL
from shop import Shop, slots

import agentcheckpoint as ac
from agentcheckpoint.store import patience

pytestmark = pytest.mark.filterwarnings("ignore::agentcheckpoint.errors.DurabilityWarning")


@pytest.fixture(params=REAL)
def binary(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is waited for may take its time to come back, on a slow machine."""
    monkeypatch.setattr(patience, "PAUSES", (*patience.PAUSES, *(3.2,) * 12))


@pytest.fixture
def shop() -> Shop:
    return Shop()


@contextmanager
def meanwhile(work: Callable[[], None]) -> Iterator[None]:
    """Runs it in a thread, and waits for its end."""
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(work)
        yield
        done.result()


# -- a disk that is full -------------------------------------------------------------------------------------------


def fill_disk(server: Server, spare: int) -> None:
    """The server's files may grow by so many bytes, and no more."""
    size = max(log.stat().st_size for log in server.logs())
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (size + spare, resource.RLIM_INFINITY))


def free_disk(server: Server) -> None:
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def writes(server: Server) -> str:
    """How the server's last write of its log went."""
    info = server.ask("INFO", "persistence").decode()
    return str(re.search(r"aof_last_write_status:(\w+)", info)[1])  # type: ignore[index]


def test_a_full_disk_with_everysec_is_a_refusal_that_carries_the_result(
    binary: str, tmp_path: Path, shop: Shop
) -> None:
    with Server(binary, tmp_path, {"appendfsync": "everysec"}) as server:

        def fill() -> None:
            fill_disk(server, 100)
            server.ask("SET", "other", "x" * 200)  # taken, and not written
            until(lambda: writes(server) == "err", "the server sees that its disk is full")

        with ac.run("full", store=server.url) as run:
            shop.step(run, "a")
            with pytest.raises(ac.StoreRefused, match="MISCONF") as caught:
                shop.step(run, "b", fill)
            assert caught.value.value["receipt"].startswith("b-") and slots(server, "full") == ["a[k]"]
            free_disk(server)
            until(lambda: writes(server) == "ok", "the server writes again")
            shop.step(run, "c")
        server.restart()
        assert slots(server, "full") == ["a[k]", "c[k]"] and run.cost.unresolved == 1


def test_a_full_disk_with_always_ends_the_server_and_the_commit_is_settled(
    binary: str, tmp_path: Path, shop: Shop
) -> None:
    with Server(binary, tmp_path) as server:

        def come_back() -> None:
            until(server.ended, "the server ends")
            server.start()

        with ac.run("full", store=server.url) as run:
            shop.step(run, "a")
            with meanwhile(come_back):
                shop.step(run, "b", lambda: fill_disk(server, 100))
            assert run._attempt.fence.doubtful, "its reply was lost"
        assert shop.bought == ["a", "b"] and slots(server, "full") == ["a[k]", "b[k]"]


# -- connections ---------------------------------------------------------------------------------------------------


@contextmanager
def crowded(server: Server) -> Iterator[redis.Redis]:
    """One connection may be open, and it is taken: by the client that can end this."""
    with server.client() as only:
        only.config_set("maxclients", 1)
        only.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        try:
            yield only
        finally:
            only.config_set("maxclients", 100)


def test_a_server_with_too_many_clients_is_waited_for(binary: str, tmp_path: Path, shop: Shop) -> None:
    with Server(binary, tmp_path) as server, ac.run("crowded", store=server.url) as run:
        shop.step(run, "a")
        with crowded(server) as only:

            def make_room() -> None:
                time.sleep(0.2)
                only.config_set("maxclients", 100)

            with meanwhile(make_room):
                shop.step(run, "b")
        assert slots(server, "crowded") == ["a[k]", "b[k]"]


def test_a_server_that_stays_crowded_leaves_the_result_in_the_error(
    binary: str, tmp_path: Path, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "PAUSES", (0.01,) * 3)
    with Server(binary, tmp_path) as server, ac.run("crowded", store=server.url) as run:
        shop.step(run, "a")
        with ExitStack() as crowd:
            with pytest.raises(ac.StoreUnavailable) as caught:
                shop.step(run, "b", lambda: crowd.enter_context(crowded(server)))
            assert caught.value.value["receipt"].startswith("b-")
        assert slots(server, "crowded") == ["a[k]"]
        shop.step(run, "c")


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("agent", ["blocking", "looped"])
def test_a_connection_that_the_server_kills_is_replaced_and_what_it_carried_settled(
    binary: str, tmp_path: Path, agent: str, moment: Moment
) -> None:
    with Server(binary, tmp_path) as server:
        for n in (1, 4, 7, 13):
            run_id = f"killed-{n}"
            diary = Diary(tmp_path / run_id)
            with armed(Fuse(diary, n, moment, lambda: server.ask("CLIENT", "KILL", "TYPE", "normal"))):
                assert live(agent, run_id, server.url, diary)
            account = diary.account()
            assert account.struck is not None and list(wrongs(read(server, run_id), account)) == []


# -- loading, and another day's data -------------------------------------------------------------------------------


def test_a_server_that_loads_its_data_is_waited_for(binary: str, tmp_path: Path, shop: Shop) -> None:
    slow = {"key-load-delay": 5000, "loading-process-events-interval-bytes": 1024}  # five seconds for what is there
    try:
        made = Server(binary, tmp_path, slow)
    except ServerEnded:
        pytest.skip("a server before 7.0 cannot be slowed down so")
    with made as server, ac.run("loading", store=server.url) as run:
        shop.step(run, "a")
        with server.client() as client, client.pipeline(transaction=False) as fill:
            for n in range(1000):
                fill.set(f"other:{n}", "x" * 20)
            fill.execute()
        server.ask("BGREWRITEAOF")
        until(lambda: b"aof_rewrite_in_progress:0" in server.ask("INFO", "persistence"), "the log is rewritten")
        server.kill()
        server.start(loaded=False)
        with pytest.raises(redis.exceptions.BusyLoadingError):
            server.ask("GET", "other:1")

        def hasten() -> None:
            time.sleep(0.2)
            server.ask("CONFIG", "SET", "key-load-delay", "0")

        with meanwhile(hasten):
            shop.step(run, "b")
        assert slots(server, "loading") == ["a[k]", "b[k]"] and shop.bought == ["a", "b"]


def back_up(server: Server) -> Path:
    """A copy of the server's data."""
    backup = server.directory / "backup"
    return Path(shutil.copytree(server.directory, backup, ignore=shutil.ignore_patterns("socket", "backup")))


def put_back(server: Server, backup: Path) -> None:
    """The server is restored from a backup."""
    server.kill()
    shutil.copytree(backup, server.directory, dirs_exist_ok=True)
    server.start()


def test_an_old_backup_under_a_worker_is_named(binary: str, tmp_path: Path, shop: Shop) -> None:
    with Server(binary, tmp_path) as server:
        with pytest.raises(ac.CheckpointsLost) as caught, ac.run("backup", store=server.url) as run:
            shop.step(run, "a")
            backup = back_up(server)
            shop.step(run, "b")
            shop.step(run, "c", lambda: put_back(server, backup))
        assert caught.value.value["receipt"].startswith("c-") and shop.bought == ["a", "b", "c"]


def test_an_old_backup_at_rest_is_resumed_from_and_only_what_came_after_it_is_bought_again(
    binary: str, tmp_path: Path, shop: Shop
) -> None:
    """Not promised: nobody alive remembers what came after the backup."""
    with Server(binary, tmp_path) as server:
        with ac.run("backup", store=server.url) as run:
            first = shop.step(run, "a")
        backup = back_up(server)
        with ac.run("backup", store=server.url) as run:
            shop.step(run, "a"), shop.step(run, "b")
        put_back(server, backup)
        with ac.run("backup", store=server.url) as run:
            assert shop.step(run, "a") == first
            shop.step(run, "b")
        assert shop.bought == ["a", "b", "b"] and run.cost.paid == 2_000_000
