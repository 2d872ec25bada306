"""Each command that the library sends, and each option, is known since Redis 6.2, by a server's own documentation.

What is sent is read off real servers' MONITOR; that nothing is missing there, off the code.
"""

from __future__ import annotations

import ast
import io
import re
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from faults.clusters import Cluster
from faults.sentinels import Watched
from faults.servers import Server
from pages import ROOT
from typer.testing import CliRunner
from whole_life import live

import agentcheckpoint as ac
from agentcheckpoint.cli.main import app
from agentcheckpoint.store.health import OLDEST
from agentcheckpoint.store.index import rebuild
from agentcheckpoint.store.server_binary import find_binary
from agentcheckpoint.transaction import READS

pytestmark = pytest.mark.filterwarnings("ignore::agentcheckpoint.errors.DurabilityWarning")

SINCE_7_2 = {"CLIENT SETINFO LIB-NAME", "CLIENT SETINFO LIB-VER"}
"""redis-py sends it at each connection, and takes a refusal."""
UNHEARD = {"CONFIG GET", "SENTINEL GET-MASTER-ADDR-BY-NAME"}
"""MONITOR keeps what administrators ask to itself, and a Sentinel has none. These two are read off the code alone."""
LINE = re.compile(rb'^\S+ \[[^\]]*\] (".*")$')
WORD = re.compile(r'"((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True)
class Known:
    """What a server documents of one command.

    Attributes:
        since: its version of Redis or Valkey.
        options: the words of its syntax, each with the version since which it is one.
    """

    since: str
    options: Mapping[str, str]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(str(find_binary()), tmp_path_factory.mktemp("since")) as made:
        yield made


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    with Watched(str(find_binary()), tmp_path_factory.mktemp("watched")) as made:
        yield made


@pytest.fixture(scope="module")
def documented(server: Server, watched: Watched) -> dict[str, Known]:
    """What a server and a Sentinel know, by name; a subcommand's is its command's and its own."""
    told = [one.ask("COMMAND", "DOCS") for one in (watched.sentinels[0], server)]
    known = dict(pair for docs in told for pair in _documented(_pairs(docs)))
    if "WAITAOF" not in known:
        pytest.skip("it takes the documentation of a server of 7.2 or newer")
    return known


def _pairs(flat: list[Any]) -> dict[str, Any]:
    return {name.decode(): value for name, value in zip(flat[::2], flat[1::2], strict=True)}


def _documented(docs: Mapping[str, Any]) -> Iterator[tuple[str, Known]]:
    for name, told in docs.items():
        about = _pairs(told)
        if "since" not in about:  # a module's
            continue
        since = about["since"].decode()
        yield name.replace("|", " ").upper(), Known(since, dict(_options(about.get("arguments", ()), since)))
        yield from _documented(_pairs(about.get("subcommands", [])))


def _options(arguments: list[Any], since: str) -> Iterator[tuple[str, str]]:
    for argument in map(_pairs, arguments):
        here = argument["since"].decode() if "since" in argument else since
        if "token" in argument:
            yield argument["token"].decode().upper(), here
        yield from _options(argument["arguments"] if argument["type"] in (b"oneof", b"block") else [], here)


def form(words: list[str], documented: Mapping[str, Known]) -> str | None:
    """A command with its options, without what is the user's; ``None``: it is none."""
    name = " ".join(words[:2]).upper()
    if name not in documented:
        name = words[0].upper()
    if name not in documented:
        return None
    rest = (word.upper() for word in words[len(name.split()) :])
    return " ".join([name, *(word for word in rest if word in documented[name].options)])


def too_new(forms: set[str], documented: Mapping[str, Known]) -> set[str]:
    """Those that Redis 6.2 does not know."""

    def newest(words: str) -> tuple[int, ...]:
        name = next(name for name in (" ".join(words.split()[:2]), words.split()[0]) if name in documented)
        known = documented[name]
        options = (known.options[word] for word in words.removeprefix(name).split())
        return max(tuple(map(int, version.split(".")[:2])) for version in (known.since, *options))

    return {words for words in forms if newest(words) > OLDEST}


class Monitor:
    """What a server hears from others than its owner, from now on."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._monitor = server.client().monitor().__enter__()

    def heard(self) -> list[list[str]]:
        """All until now, each in words."""
        last = secrets.token_hex(8)
        self._server.ask("ECHO", last)
        heard: list[list[str]] = []
        while True:
            line = LINE.match(self._monitor.connection.read_response(disable_decoding=True))
            assert line is not None
            words = WORD.findall(line[1].decode())
            if words == ["ECHO", last]:
                return heard
            heard.append(words)


def greet(store: ac.Store) -> None:
    with ac.run("greeted", store=store) as run:
        run.step("greet", str.upper, "x")


def lead_the_rest(url: str) -> None:
    """The library's verbs that a run's life does not take."""
    store = ac.connect(url)

    @ac.agent
    def agent() -> str:
        return ac.current_run().step("one", str.upper, "x")

    agent.using(store=store).submit("submitted")
    ac.sweep(all=True, store=store)
    agent.using(store=store).submit("cancelled")
    ac.cancel("cancelled", store=store)
    with pytest.raises(ac.Suspended), ac.run("asked", store=store) as run:
        run.wait_for("yes", hold=0)
    ac.answer("asked", "yes", True, store=store)
    file = io.StringIO()
    ac.export_run("asked", file, store=store)
    ac.import_run(io.StringIO(file.getvalue()), as_="imported", store=store)
    with ac.run("mine", store=store) as run:
        run.transaction("count", lambda tx: tx.queue("INCR", "n"))
    rebuild(store)
    assert CliRunner().invoke(app, ["doctor", "--store", url]).exit_code == 0


@pytest.fixture(scope="module")
def sent(
    server: Server, watched: Watched, documented: dict[str, Known], tmp_path_factory: pytest.TempPathFactory
) -> set[str]:
    """What one server, a primary under Sentinel and the nodes of a cluster hear from the library."""
    with Cluster(str(find_binary()), tmp_path_factory.mktemp("cluster")) as cluster, server.client(db=1) as admin:
        monitors = [Monitor(each) for each in (server, watched.primary, *cluster.nodes)]
        live(admin, f"{server.url}?db=1&client_name=since")
        lead_the_rest(server.url)
        greet(ac.connect(watched.url, durability="replicated"))
        greet(ac.connect(cluster.url))
        heard = [words for monitor in monitors for words in monitor.heard()]
    forms = [form(words, documented) for words in heard]
    assert None not in forms
    return {known for known in forms if known}


def in_code(documented: Mapping[str, Known]) -> set[str]:
    """The commands that stand in the code, where each is a tuple."""
    tuples = (
        node.elts
        for file in sorted((ROOT / "agentcheckpoint").rglob("*.py"))
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Tuple) and node.elts
    )
    words = ([str(getattr(word, "value", "")) for word in each] for each in tuples)
    return {known for each in words if each[0].isupper() and (known := form(each, documented))}


def test_all_that_stands_in_the_code_is_heard(sent: set[str], documented: dict[str, Known]) -> None:
    assert in_code(documented) - sent == UNHEARD


def test_all_that_is_sent_is_known_since_redis_6_2(sent: set[str], documented: dict[str, Known]) -> None:
    assert too_new(sent | UNHEARD, documented) == SINCE_7_2


def test_what_a_transaction_may_read_by_is_known_since_redis_6_2(documented: dict[str, Known]) -> None:
    assert set(documented) >= READS and too_new(set(READS), documented) == set()


@pytest.mark.parametrize(
    ("command", "is_new"),
    [
        ("ZADD key GT 1 a", False),
        ("XADD key NOMKSTREAM * a b", False),
        ("WAITAOF 1 0 0", True),
        ("EXPIRE key 1 NX", True),
        ("EXPIRE key 1", False),
        ("client no-touch on", True),
        ("SINTERCARD 1 key", True),
    ],
)
def test_a_newer_command_or_option_would_be_noticed(command: str, is_new: bool, documented: dict[str, Known]) -> None:
    words = form(command.split(), documented)
    assert words is not None and bool(too_new({words}, documented)) is is_new
