"""Writes what the README and the docs show of real runs: python tests/transcripts.py

Each part stands between two comments in its page; ``test_readme.py`` makes them anew and compares.
"""

from __future__ import annotations

import inspect
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cli_page import commands
from faults.figures import controls, searched
from faults.servers import Server, binaries
from pages import ROOT, page
from whole_life import SETTINGS, commands_of_a_life

import agentcheckpoint as ac
from agentcheckpoint.core.models import Usage
from agentcheckpoint.core.pricing import price_usage
from agentcheckpoint.store import wire
from agentcheckpoint.testing.brain import Answer, Request
from agentcheckpoint.testing.provider import Provider

HERE = Path(__file__).parent
NOVEMBER_2026 = 1_795_000_000_000
PRICED_LIKE_THIS = {("openai", "gpt-5-mini"): 2_250_000, ("anthropic", "claude-sonnet-4-5"): 18_000_000}
"""Nano-dollars that a thousand input and a thousand output tokens cost when the pages were written."""

REPORTS = {
    "april": "Sales rose by 4 %, most of it in Turin.",
    "june": "A strike at the port cost nine days of deliveries.",
    "may": "Two of three suppliers have changed their prices.",
}


def prices_are_as_written() -> bool:
    """Whether amounts can be compared: published prices change."""
    thousand = Usage(input_tokens=1000, output_tokens=1000)
    costs = {
        (provider, model): price_usage(thousand, model=model, provider=provider, at_ms=NOVEMBER_2026).nano
        for provider, model in PRICED_LIKE_THIS
    }
    return costs == PRICED_LIKE_THIS


# -- README: the example, killed and started again --------------------------------------------------------------------


def write_reports(folder: Path) -> None:
    """Long reports, each of which begins with what matters."""
    folder.mkdir()
    for name, first in REPORTS.items():
        rest = "".join(f"Page {n} of the report of {name} goes into the details.\n" for n in range(500))
        (folder / f"{name}.txt").write_text(f"{first}\n{rest}")


def summarise(request: Request, /) -> Answer:
    """The model: it answers with a report's first line."""
    return Answer(text=str(request.messages[-1]["content"]).removeprefix("Sum up: ").splitlines()[0])


def transcript(room: Path) -> str:
    """The README's first example in a terminal: killed after its 7th commit, then started again."""
    (room / "reports.py").write_text(page("README.md").blocks("python")[0].text)
    write_reports(room / "reports")
    with Provider(summarise) as provider:
        lives = [_run_script(room, provider.url, kill) for kill in (["7"], [])]
        payments = len(provider.journal)
    assert payments == len(REPORTS), f"the provider was paid {payments} times"
    return "```console\n" + "".join(lives) + "```\n"


def _run_script(room: Path, url: str, kill: list[str]) -> str:
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "AGENTCHECKPOINT_HOME": str(room / "home")}
    environment.pop("AGENTCHECKPOINT_URL", None)
    command = [sys.executable, "-W", "ignore", str(HERE / "stage.py"), "reports.py", url, *kill]
    done = subprocess.run(command, cwd=room, env=environment, capture_output=True, text=True, timeout=250)
    assert done.returncode == (-signal.SIGKILL if kill else 0), done.stderr
    return f"$ python reports.py\n{done.stdout}{'Killed' + chr(10) if kill else ''}"


# -- docs/guarantees.md: what is left after a kill at each point ------------------------------------------------------


def failure_points(room: Path) -> str:
    command = [sys.executable, str(HERE / "failure_points.py"), str(room)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    lines = [
        "| killed | replayed by the next start | function called | provider paid | unresolved | paid twice |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for found in map(json.loads, done.stdout.splitlines()):
        assert found["died"] and found["resumed"] and not found["problems"], found
        assert found["repaid_in_window"] <= found["unresolved"], found
        paid = f"{found['provider_calls']}" + (" (one again)" if found["repaid_in_window"] else "")
        shown = (found["replayed"], found["function_calls"], paid, found["unresolved"], found["paid_twice"])
        lines.append(f"| {found['what']}, {found['at']} | " + " | ".join(map(str, shown)) + " |")
    return "\n".join(lines) + "\n"


# -- docs/protocol.md: what is sent, and what is stored ---------------------------------------------------------------


@contextmanager
def packets() -> Iterator[list[tuple[Any, ...]]]:
    """The commands of each packet that leaves while this is entered."""
    exchange = wire.Wire.exchange
    seen: list[tuple[Any, ...]] = []

    def watched(self: wire.Wire, commands: Any) -> Any:
        seen.append(commands)
        return exchange(self, commands)

    wire.Wire.exchange = watched  # type: ignore[method-assign]
    try:
        yield seen
    finally:
        wire.Wire.exchange = exchange  # type: ignore[method-assign]


def sent(_room: Path) -> str:
    """The packets of a run with a plain step and a paid one."""
    store = ac.connect(f"memory://{os.urandom(8).hex()}")

    def answer() -> dict[str, Any]:
        return {"model": "gpt-5-mini", "usage": {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}}

    paid = ac.Step("ask", provider="openai")
    lines: list[str] = []
    for title, replayed in (("open a new run", ""), ("open it again", ", replayed")):
        with packets() as seen:
            opener = ac.run("packets", store=store)
            run = opener.__enter__()
        lines += _told(title, seen)
        with packets() as seen:
            run.step("plain", float, 1)
        lines += _told(f"a step{replayed}", seen)
        with packets() as seen:
            run.llm(paid, answer)
        lines += _told(f"a paid step{replayed}", seen)
        with packets() as seen:
            opener.__exit__(None, None, None)
        lines += [] if replayed else _told("close", seen)
    return "```text\n" + "\n".join(lines) + "\n```\n"


def _told(title: str, seen: list[tuple[Any, ...]]) -> list[str]:
    count = "no packet" if not seen else "1 packet" if len(seen) == 1 else f"{len(seen)} packets"
    lines = [f"{title}: {count}"]
    for packet in seen:
        keys = ((command[0], command[1:] if command[0] == "WATCH" else command[1:2]) for command in packet)
        words = [" ".join((str(word), *map(_key, names))) for word, names in keys]
        text, prefix = "", "  > "
        for word in words:
            if len(prefix + text + word) > 112:
                lines.append(prefix + text.rstrip())
                text, prefix = "", "    "
            text += word + " · "
        lines.append(prefix + text.rstrip(" ·"))
    return lines


def _key(name: object) -> str:
    return re.sub(r"^ac:\{\w+\}:(\d+\.\w+:)?", lambda found: "<token>:" if found[1] else "", str(name))


def stored(_room: Path) -> str:
    """The keys of a run, and of what type they are."""
    import fakeredis

    server = fakeredis.FakeServer()
    with ac.run("keys", store=fakeredis.FakeRedis(server=server)) as run:
        run.step("plain", float, 1)
        admin = fakeredis.FakeRedis(server=server)
        kinds = {key.decode(): admin.type(key).decode() for key in admin.scan_iter()}
    lines = [f"{_full(name):<28}{kind}" for name, kind in sorted(kinds.items(), key=lambda pair: _full(pair[0]))]
    return "```text\n" + "\n".join(lines) + "\n```\n"


def _full(name: str) -> str:
    return re.sub(r"^ac:\{\w+\}:(\d+\.\w+:)?", lambda found: "ac:{tag}:" + ("<token>:" if found[1] else ""), name)


# -- docs/store.md: the ACL user --------------------------------------------------------------------------------------


def acl_words(room: Path) -> tuple[list[str], list[str]]:
    """The commands that a run's whole life takes, and those that only the look at the settings takes."""
    known = binaries()
    with Server(known.get("redis", known["embedded"]), room) as server, server.client() as admin:
        words = commands_of_a_life(admin, f"unix://{room}/socket")
    words -= {"client|setinfo"}  # sent by redis-py where the server knows it; a refusal is ignored
    return sorted(words - SETTINGS), sorted(words & SETTINGS)


def acl(room: Path) -> str:
    needed, settings = acl_words(room)
    start = "ACL SETUSER agentcheckpoint reset on >CHANGE-ME resetchannels ~ac:* -@all"
    lines = [start]
    for word in (f"+{word}" for word in needed):
        if len(lines[-1]) + len(word) > 110:
            lines[-1] += " \\"
            lines.append("   ")
        lines[-1] += f" {word}"
    also = " ".join(f"+{word}" for word in settings)
    return "```text\n" + "\n".join(lines) + f"\nACL SETUSER agentcheckpoint {also}\n```\n"


# -- docs/api.md ------------------------------------------------------------------------------------------------------

KINDS = ("functions", "decorators", "classes", "errors", "warnings", "signals")


def kind_of(name: str) -> str:
    thing = getattr(ac, name)
    if inspect.isclass(thing) and issubclass(thing, BaseException):
        if issubclass(thing, Warning):
            return "warnings"
        return "errors" if issubclass(thing, Exception) else "signals"
    if inspect.isclass(thing):
        return "classes"
    return "decorators" if thing.__module__ == "agentcheckpoint.decorators" else "functions"


def names(_room: Path) -> str:
    """Every public name with the first line of its docstring."""
    lines: list[str] = []
    for kind in KINDS:
        lines += [f"## {kind.capitalize()}", "", "| name | |", "| --- | --- |"]
        for name in (name for name in ac.__all__ if kind_of(name) == kind):
            shown = (
                f"`ac.{name}`"
                if kind not in ("errors", "warnings", "signals")
                else f"[`ac.{name}`](errors.md#{name.lower()})"
            )
            lines.append(f"| {shown} | {_first_sentence(getattr(ac, name))} |")
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _first_sentence(thing: object) -> str:
    paragraph = (inspect.getdoc(thing) or "").split("\n\n")[0]
    return " ".join(paragraph.replace("``", "`").replace("|", "\\|").split())


PARTS: dict[str, dict[str, Callable[[Path], str]]] = {
    "README.md": {"transcript": transcript},
    "docs/guarantees.md": {"failure-points": failure_points},
    "docs/protocol.md": {"packets": sent, "keys": stored},
    "docs/store.md": {"acl": acl},
    "docs/reliability.md": {"searched": searched, "controls": controls},
    "docs/api.md": {"names": names},
    "docs/cli.md": {"commands": commands},
}


def make(name: str, part: str) -> str:
    """A part, made anew. What was started for it is stopped."""
    with tempfile.TemporaryDirectory(prefix="ac-") as room:
        try:
            return PARTS[name][part](Path(room))
        finally:
            home = Path(room, "home")
            if home.exists():
                from agentcheckpoint.store.embedded import stop_server

                stop_server(home)


def main() -> None:
    for name, parts in PARTS.items():
        old = page(name).text
        new = page(name).with_parts({part: make(name, part) for part in parts})
        if new != old:
            (ROOT / name).write_text(new, "utf-8")
            print(f"{name}: written anew")


if __name__ == "__main__":
    main()
