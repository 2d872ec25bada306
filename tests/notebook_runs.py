"""The notebooks of the project, run by real kernels: their outputs written anew, or what a second run pays.

python tests/notebook_runs.py --write        run each and write its outputs into it
python tests/notebook_runs.py --kill         kill the kernel after each cell of each, once
python tests/notebook_runs.py --papermill    run each under papermill
"""

from __future__ import annotations

import argparse
import copy
import os
import re
import signal
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from pages import ROOT

from agentcheckpoint.testing.payments import read_payments

FOLDER = ROOT / "notebooks"
PATHS = sorted(FOLDER.glob("*.ipynb"))
PATIENCE = 120
_TIME = re.compile(r"\b\d+(?:\.\d+)?(?:ms|s)\b|\b\d+m \d\ds\b")
_SIZE = re.compile(r"\b\d[\d,]* K?B\b")
"""Of what is stored: an answer of a provider says how long it took."""
_PICTURE = re.compile(r"<svg.*?</svg>", re.DOTALL)


class Place:
    """Where the runs of notebooks are kept, and what their provider was paid.

    Args:
        url: of the store.
        journal: the provider's, a file.
    """

    def __init__(self, url: str, journal: Path) -> None:
        self.url, self.journal = url, journal

    def paid(self) -> int:
        """How many answers the provider was paid for."""
        return len(read_payments(self.journal)) if self.journal.exists() else 0

    @contextmanager
    def environment(self) -> Iterator[None]:
        """What a kernel inherits."""
        given = {"AGENTCHECKPOINT_URL": self.url, "NOTEBOOK_JOURNAL": str(self.journal), "PYTHONPATH": str(ROOT)}
        given |= {"PYTHONWARNINGS": "ignore", "IPYTHONDIR": str(self.journal.parent / "ipython")}
        before = {name: os.environ.get(name) for name in given}
        os.environ.update(given)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value


def execute(path: Path, place: Place, *, killed_after: int | None = None, times: int = 1) -> list[tuple[Any, int]]:
    """Runs a notebook in a kernel, as *Run all* does.

    Args:
        path: which.
        place: where its runs are kept.
        killed_after: kill the kernel after so many cells, and run all of it again in another one.
        times: how often the same kernel runs all of it.

    Returns:
        The notebook with its outputs, and how many answers were paid for by then: once for each time.

    Raises:
        CellExecutionError: a cell failed that is not marked as one that does.
    """
    if killed_after is not None:
        _run_some(path, place, killed_after)
    results: list[tuple[Any, int]] = []
    with place.environment():
        client = _client(path)
        with client.setup_kernel():
            for _ in range(times):
                client.nb = nbformat.read(path, 4)  # it updates the displays of this one
                client.reset_execution_trackers()
                for index, cell in enumerate(client.nb.cells):
                    client.execute_cell(cell, index)
                results.append((client.nb, place.paid()))
    return results


def _client(path: Path) -> NotebookClient:
    notebook = nbformat.read(path, 4)
    resources = {"metadata": {"path": str(FOLDER)}}
    return NotebookClient(notebook, timeout=PATIENCE, resources=resources, record_timing=False, coalesce_streams=True)


def _run_some(path: Path, place: Place, cells: int) -> None:
    """Runs the first cells, and kills the kernel."""
    with place.environment():
        client = _client(path)
        with client.setup_kernel():
            for index, cell in enumerate(client.nb.cells[:cells]):
                client.execute_cell(cell, index)
            os.kill(client.km.provisioner.pid, signal.SIGKILL)  # type: ignore[union-attr]


def cleaned(notebook: Any) -> Any:
    """The same without what is this machine's: an error keeps its words, and not the way to it."""
    notebook = copy.deepcopy(notebook)
    for number, cell in enumerate((cell for cell in notebook.cells if cell.cell_type == "code"), 1):
        cell.execution_count = number
        for output in cell.outputs:
            if output.output_type == "error":
                output.traceback = [f"{output.ename}: {output.evalue}"]
            if "execution_count" in output:
                output.execution_count = number
            output.get("metadata", {}).clear()
    return notebook


def outputs(notebook: Any) -> list[tuple[str, list[dict[str, Any]]]]:
    """What the cells showed, by cell, without times and pictures of them. A time of 0 is not shown at all."""
    return [
        (cell.id, [_pinned(output) for output in cell.outputs]) for cell in notebook.cells if cell.cell_type == "code"
    ]


def _pinned(value: Any) -> Any:
    if isinstance(value, str):
        # A table's columns are as wide as the times in it.
        told = re.sub(r" +", " ", _SIZE.sub("S", _TIME.sub("", _PICTURE.sub("(picture)", value))))
        return re.sub(r" $", "", told, flags=re.MULTILINE)  # where a time of 0 stood, nothing stands
    if isinstance(value, dict):
        return {name: _pinned(part) for name, part in value.items()}
    return [_pinned(part) for part in value] if isinstance(value, list) else value


@contextmanager
def place() -> Iterator[Place]:
    """An embedded server and a journal that are gone afterwards."""
    from agentcheckpoint.store.embedded import ensure_server, stop_server

    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "server"
        home.mkdir(mode=0o700)
        yield Place(ensure_server(home).url, Path(folder) / "journal")
        stop_server(home)


def code_cells(path: Path) -> list[int]:
    """After how many cells each cell with code has been run."""
    return [n for n, cell in enumerate(nbformat.read(path, 4).cells, 1) if cell.cell_type == "code"]


def check_killed(path: Path, after: int, where: Place, answers: int) -> None:
    """A kernel that is killed after so many cells, and then all of it: no answer is paid for twice.

    Args:
        path, after, where: which notebook, after how many cells, and where its runs are kept.
        answers: how many an undisturbed run pays for.
    """
    [(_, paid)] = execute(path, where, killed_after=after)
    assert paid == answers, f"{path.name}, killed after {after} cells: {paid} paid, not {answers}"


def main() -> None:
    """The tool."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option in ("write", "kill", "papermill"):
        parser.add_argument(f"--{option}", action="store_true")
    given = parser.parse_args()
    for path in PATHS:
        if given.write:
            with place() as where:
                nbformat.write(cleaned(execute(path, where)[0][0]), path)
        if given.kill:
            with place() as where:
                [(_, answers)] = execute(path, where)
        for after in code_cells(path) if given.kill else ():
            with place() as where:
                check_killed(path, after, where, answers)
        if given.papermill:
            with place() as where:
                run_papermill(path, where)
        print(path.name, flush=True)


def run_papermill(path: Path, where: Place) -> None:
    """As papermill runs it, with its parameters."""
    import papermill
    from papermill.exceptions import PapermillExecutionError

    parameters = {"USE_REAL": False}
    with where.environment(), tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / path.name
        with suppress(PapermillExecutionError):  # at the end, if any cell has failed, also one that is to
            papermill.execute_notebook(path, out, parameters, cwd=str(FOLDER), progress_bar=False)
        cells = [cell for cell in nbformat.read(out, 4).cells if cell.cell_type == "code"]
    tags = [cell.metadata.get("tags", []) for cell in cells]
    failed = [any(output.output_type == "error" for output in cell.outputs) for cell in cells]
    assert ["injected-parameters"] in tags
    assert failed == ["raises-exception" in tag for tag in tags], "each cell that is to fail does, and no other"
    assert all(cell.execution_count for cell in cells), "all have been run"


if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parent)]
    warnings.simplefilter("ignore")
    main()
