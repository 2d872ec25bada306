"""What an import costs, beside the same without the package."""

from __future__ import annotations

import subprocess
import sys

from .core import Goal, Row, Scale, compare, median_time

GOAL = Goal("at most", 1.15)
HELP = "import sys; sys.argv = ['agentcheckpoint', '--help']; from agentcheckpoint.cli.main import main; main()"


def package(scale: Scale) -> Row:
    """``import agentcheckpoint`` against importing what it imports."""
    return _beside("import agentcheckpoint / what it imports", "import agentcheckpoint", scale)


def command_help(scale: Scale) -> Row:
    """``agentcheckpoint --help`` against importing what it imports."""
    return _beside("agentcheckpoint --help / what it imports", HELP, scale)


def _beside(name: str, code: str, scale: Scale) -> Row:
    others = f"import {', '.join(_foreign(code))}"
    times = scale.size(5, 2)
    return compare(
        name,
        lambda: median_time(lambda: _run(code), times),
        lambda: median_time(lambda: _run(others), times),
        GOAL,
        scale.rounds,
    )


def _foreign(code: str) -> list[str]:
    """The modules of others that the code loads, beyond those of a bare interpreter, in the order of their loading."""
    show = "print('\\n' + ' '.join(name for name, module in sys.modules.items() if hasattr(module, '__file__')))"
    loaded = _run(f"import sys, atexit; atexit.register(lambda: {show})\n{code}").splitlines()[-1].split()
    bare = _run(f"import sys\n{show}").splitlines()[-1].split()
    new = [name for name in loaded if name not in bare and name.partition(".")[0] != "agentcheckpoint"]
    return new or ["sys"]


def _run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60).stdout


ROWS = (package, command_help)
