"""Draws docs/pictures/terminal.svg from a run that was really killed: python tests/terminal_pictures.py"""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

from faults.servers import Server
from rich.console import Console
from rich.text import Text

import agentcheckpoint as ac
from agentcheckpoint.core.price import Price
from agentcheckpoint.store.server_binary import find_binary

PICTURE = Path(__file__).parent.parent / "docs" / "pictures" / "terminal.svg"
COLUMNS = 92
COMMANDS = (("runs",), ("show", "research"), ("waiting",))
PRICES = {"large": Price(input="2", output="8")}
FONTS = "'DejaVu Sans Mono', Menlo, Consolas, ui-monospace, monospace"


def work(url: str, death: bool) -> None:
    """The agent: its first worker is killed while the model answers, and it fails once before."""
    warnings.simplefilter("ignore")

    def ask(seconds: float) -> str:
        if death and seconds > 0.6:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(seconds)
        return "an answer"

    def fetch(seconds: float, fails: bool) -> str:
        time.sleep(seconds)
        if fails:
            raise TimeoutError("the page took too long")
        return "a page"

    def paid(name: str, tokens: int) -> ac.Step:
        usage = ac.Usage(input_tokens=tokens, output_tokens=tokens // 20)
        return ac.Step(name, model="large", prices=PRICES, usage=lambda _: usage)

    with ac.run("research-42", store=url) as run:
        run.llm(paid("plan", 1_900), ask, 0.3)
        for page in ("harbour", "keeper", "storm"):
            run.step(ac.Step("fetch", key=page), fetch, 0.12, False)
        try:
            run.step("translate", fetch, 0.2, death)
        except TimeoutError:
            run.step("dictionary", fetch, 0.1, False)
        run.llm(paid("summary", 14_000), ask, 0.5)
        run.llm(paid("answer", 21_000), ask, 0.7)
    with Suspending(), ac.run("refund-9", store=url) as run:
        run.wait_for("approve", ac.Approval, prompt="Refund 120 euros?")


class Suspending:
    """A run that waits is left by ``Suspended``."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        return kind is not None and issubclass(kind, ac.Suspended)


def draw() -> str:
    """The picture, made anew."""
    with tempfile.TemporaryDirectory(prefix="ac-") as room, Server(str(find_binary()), Path(room)):
        url = f"unix://{room}/socket"
        for death in (True, False):
            ended = subprocess.run([sys.executable, __file__, url, *(["die"] if death else [])], timeout=100)
            assert ended.returncode == (-signal.SIGKILL if death else 0)
            if death:
                time.sleep(1)  # so long that it is always cut out, however fast the next one starts
        console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor")
        for words in COMMANDS:
            console.print(Text.assemble(("$ ", "dim"), (f"agentcheckpoint {' '.join(words)}", "bold")))
            console.print(Text.from_ansi(said(url, *words)))
            console.print()
    picture = console.export_svg(title="agentcheckpoint", unique_id="terminal")
    picture = re.sub(r"@font-face \{.*?\}\s*", "", picture, flags=re.DOTALL)  # nothing is loaded from elsewhere
    return re.sub(r"font-family: [^;]*;", f"font-family: {FONTS};", picture)


def said(url: str, *words: str) -> str:
    """What a command prints on a terminal with colours."""
    own = {"AGENTCHECKPOINT_URL": url, "COLUMNS": str(COLUMNS), "FORCE_COLOR": "1", "TERM": "xterm-256color"}
    environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"} | own
    command = [sys.executable, "-W", "ignore", "-m", "agentcheckpoint", *words]
    ran = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, timeout=100, check=True)
    return ran.stdout.rstrip()


def likeness(picture: str) -> list[str]:
    """The words of a picture, without what each run has of its own: times, and the lengths of bars."""
    texts = re.findall(r"<text [^>]*>(.*?)</text>", picture)
    joined = re.sub(r"\d+(\.\d+)?(ms|s|m)\b|\d{4}-\d\d-\d\d|\d\d:\d\d", "T", " ".join(texts).replace("&#160;", " "))
    return re.sub(r"[█▒░]+", "█", joined).split()


if __name__ == "__main__":
    if sys.argv[1:]:
        work(sys.argv[1], death=sys.argv[2:] == ["die"])
    else:
        PICTURE.parent.mkdir(exist_ok=True)
        PICTURE.write_text(draw(), "utf-8")
        print(f"{PICTURE}: drawn anew")
