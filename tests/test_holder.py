"""Who holds a lease, and whether he is provably dead: with real processes, and what ``/proc`` says of them."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from agentcheckpoint.store.holder import Holder, _was_replaced, describe, provably_dead, this_process

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")

FORK = multiprocessing.get_context("fork")


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """Another process, alive until it is killed; nobody waits for it before the end."""
    process = subprocess.Popen(["sleep", "600"])
    yield process
    process.kill()
    process.wait()


def start_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


def holder_of(pid: int) -> Holder:
    return this_process().model_copy(update={"pid": pid, "start": start_of(pid)})


def wait_until_zombie(pid: int) -> None:
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def test_this_process_is_known_and_never_dead() -> None:
    own = this_process("job 7")
    assert (own.pid, own.note) == (os.getpid(), "job 7")
    assert own.boot == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert own.pidns.startswith("pid:[")
    assert own.start == start_of(os.getpid())
    assert not provably_dead(own)
    assert this_process() == own.model_copy(update={"note": ""})


def test_a_holder_comes_back_from_its_json_as_it_was() -> None:
    own = this_process("é")
    assert Holder.model_validate_json(own.model_dump_json()) == own


@pytest.mark.parametrize("pid", [0, -1, 2**31])
def test_a_pid_that_means_a_group_or_nothing_is_refused(pid: int) -> None:
    with pytest.raises(ValidationError):
        Holder(host="h", boot="b", pidns="n", pid=pid, start=1)


def test_a_live_process_is_not_dead(sleeper: subprocess.Popen[bytes]) -> None:
    assert not provably_dead(holder_of(sleeper.pid))


def test_a_stopped_process_is_not_dead(sleeper: subprocess.Popen[bytes]) -> None:
    sleeper.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, sleeper.pid, os.WSTOPPED | os.WNOWAIT)
    assert not provably_dead(holder_of(sleeper.pid))


def test_a_killed_process_is_dead_as_a_zombie_and_after_it_was_waited_for(sleeper: subprocess.Popen[bytes]) -> None:
    holder = holder_of(sleeper.pid)
    sleeper.kill()
    wait_until_zombie(sleeper.pid)
    assert Path(f"/proc/{sleeper.pid}/stat").exists()
    assert provably_dead(holder)
    sleeper.wait()
    assert not Path(f"/proc/{sleeper.pid}").exists()
    assert provably_dead(holder)


def test_a_later_process_of_the_same_pid_does_not_stand_in_for_it(sleeper: subprocess.Popen[bytes]) -> None:
    holder = holder_of(sleeper.pid)
    assert holder.start is not None
    assert provably_dead(holder.model_copy(update={"start": holder.start - 1}))
    # As when a container is started again: the same pid, the same namespace number, another process.
    own = this_process()
    assert own.start is not None
    assert provably_dead(own.model_copy(update={"start": own.start - 1}))


@pytest.mark.parametrize("field", ["boot", "pidns"])
@pytest.mark.parametrize("value", ["", "another"])
def test_a_process_of_another_boot_or_namespace_is_never_provably_dead(
    sleeper: subprocess.Popen[bytes], field: str, value: str
) -> None:
    holder = holder_of(sleeper.pid)
    sleeper.kill()
    sleeper.wait()
    assert provably_dead(holder)
    assert not provably_dead(holder.model_copy(update={field: value}))


def test_where_the_own_boot_and_namespace_are_unknown_nobody_is_provably_dead(
    sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    unknown = {"boot": "", "pidns": ""}
    holder = holder_of(sleeper.pid).model_copy(update=unknown)
    own = this_process().model_copy(update=unknown)
    monkeypatch.setattr("agentcheckpoint.store.holder._own", lambda _: own)
    sleeper.kill()
    sleeper.wait()
    assert not provably_dead(holder)


def test_an_unknown_start_proves_nothing_while_the_pid_lives(sleeper: subprocess.Popen[bytes]) -> None:
    holder = holder_of(sleeper.pid).model_copy(update={"start": None})
    assert not provably_dead(holder)
    assert not provably_dead(this_process().model_copy(update={"start": None}))
    sleeper.kill()
    sleeper.wait()
    assert provably_dead(holder)


def test_a_name_that_looks_like_the_rest_of_the_line_confuses_nobody(tmp_path: Path) -> None:
    odd = tmp_path / ") Z 1 1"
    shutil.copy(shutil.which("sleep") or "", odd)
    process = subprocess.Popen([odd, "600"])
    try:
        assert not provably_dead(holder_of(process.pid))
    finally:
        process.kill()
        process.wait()


ENDED_FIRST_THREAD = """
import ctypes, threading, time
threading.Thread(target=time.sleep, args=(600,)).start()
print("ready", flush=True)
ctypes.CDLL(None).pthread_exit(None)
"""


def test_a_process_whose_first_thread_ended_is_not_dead() -> None:
    process = subprocess.Popen([sys.executable, "-c", ENDED_FIRST_THREAD], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        stat = Path(f"/proc/{process.pid}/stat")
        while stat.read_text().rpartition(")")[2].split()[0] != "Z":
            assert process.poll() is None
        assert not provably_dead(holder_of(process.pid))
    finally:
        process.kill()
        process.communicate()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_live_process_of_another_user_is_not_dead(sleeper: subprocess.Popen[bytes]) -> None:
    holder = holder_of(sleeper.pid)
    answer = FORK.SimpleQueue()

    def ask() -> None:
        os.setuid(12345)
        answer.put(provably_dead(holder))

    asker = FORK.Process(target=ask)
    asker.start()
    asker.join(60)
    assert asker.exitcode == 0
    assert answer.get() is False


def test_a_process_that_cannot_be_looked_at_is_not_dead() -> None:
    # As with hidepid: it answers to kill(2), and /proc does not show it.
    assert not _was_replaced(this_process().model_copy(update={"pid": 2**31 - 1}))


def test_a_forked_child_is_itself_and_sees_its_parent_alive() -> None:
    parent = this_process()
    answer = FORK.SimpleQueue()
    child = FORK.Process(target=lambda: answer.put((this_process(), provably_dead(parent))))
    child.start()
    child.join(60)
    seen, parent_dead = answer.get()
    assert (seen.pid, seen.boot, seen.pidns) == (child.pid, parent.boot, parent.pidns)
    assert seen.start is not None
    assert parent.start is not None
    assert seen.start >= parent.start
    assert parent_dead is False
    assert provably_dead(seen)


IN_ANOTHER_NAMESPACE = """
import sys
from agentcheckpoint.store.holder import Holder, provably_dead, this_process
other = Holder.model_validate_json(sys.argv[1])
own = this_process()
print(own.pidns != other.pidns, bool(own.pidns), provably_dead(other))
"""


@pytest.mark.parametrize(("mount", "known"), [("--mount-proc", "True"), ("--mount", "False")])
def test_a_process_in_another_pid_namespace_judges_nobody_outside(
    sleeper: subprocess.Popen[bytes], mount: str, known: str
) -> None:
    start = ["unshare", "--pid", "--fork", mount]
    if subprocess.run([*start, "true"], capture_output=True).returncode:
        pytest.skip("this user cannot make PID namespaces")
    holder = holder_of(sleeper.pid)
    asked = subprocess.run(
        [*start, sys.executable, "-c", IN_ANOTHER_NAMESPACE, holder.model_dump_json()],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert asked.stdout.split() == ["True", known, "False"], asked.stderr


def test_people_are_told_which_process_and_where(sleeper: subprocess.Popen[bytes]) -> None:
    own = this_process("job 7")
    other = holder_of(sleeper.pid).model_copy(update={"host": "box"})
    assert describe(own) == f"pid {own.pid} on {own.host}, this process (job 7)"
    assert describe(other) == f"pid {other.pid} on box, this machine"
    assert describe(other.model_copy(update={"pidns": "x"})).endswith(" on box, another container on this machine")
    assert describe(other.model_copy(update={"boot": "x"})).endswith(" on box, another machine")
    rebooted = own.model_copy(update={"boot": "x", "note": ""})
    assert describe(rebooted).endswith(", this machine before it restarted, or another of its name")
    assert describe(rebooted.model_copy(update={"boot": ""})).endswith(", perhaps this machine")


def test_what_people_are_told_holds_no_control_characters() -> None:
    assert describe(this_process("a\x1b[31m\nb")).endswith("(a?[31m?b)")
