"""The project's notebooks: their outputs are those of a real run, and a second run pays nothing. All of it with

python tests/notebook_runs.py --kill --papermill
"""

from __future__ import annotations

import copy
import re
from pathlib import Path

import pytest

pytest.importorskip("ipykernel")
nbformat = pytest.importorskip("nbformat", reason="notebooks are an extra of the tests (nbclient, nbformat)")
pytest.importorskip("nbclient")

from notebook_runs import PATHS, Place, check_killed, cleaned, code_cells, execute, outputs  # noqa: E402
from notebook_runs import place as embedded  # noqa: E402
from servers import embedded_url  # noqa: E402

__all__ = ["embedded_url"]
pytestmark = pytest.mark.filterwarnings("ignore::agentcheckpoint.errors.DurabilityWarning")
ANSWERS = {
    "01_quick_start": 2,
    "02_costs_and_budgets": 4,
    "03_retries_with_tenacity": 1,
    "04_cursors_over_documents": 6,
    "05_approval": 1,
    "06_fork_and_compare": 4,
}
"""How many answers each buys."""
SOURCES = re.compile(r"/(?:root|home|tmp|usr|Users)/|site-packages|0x[0-9a-f]{6}")
"""What only one machine has."""


@pytest.fixture
def place(embedded_url: str, tmp_path: Path) -> Place:
    return Place(embedded_url, tmp_path / "journal")


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_its_outputs_are_those_of_a_run_and_a_second_run_pays_nothing(path: Path, place: Place) -> None:
    (first, paid), (second, paid_by_then) = execute(path, place, times=2)
    assert outputs(cleaned(first)) == outputs(nbformat.read(path, 4)), "python tests/notebook_runs.py --write"
    assert paid == ANSWERS[path.stem], "what the provider was paid for"
    assert paid_by_then == paid
    assert "replayed: " in str(outputs(second))


def test_a_kernel_that_is_killed_in_the_middle_pays_for_no_answer_twice(tmp_path: Path) -> None:
    path = next(path for path in PATHS if path.stem == "04_cursors_over_documents")
    with embedded() as where:
        check_killed(path, code_cells(path)[3], where, ANSWERS[path.stem])


def test_all_are_tested_and_none_holds_what_only_one_machine_has() -> None:
    assert {path.stem for path in PATHS} == set(ANSWERS) and len(PATHS) >= 6
    for path in PATHS:
        assert not SOURCES.findall(path.read_text("utf-8"))
        assert ["parameters"] in [cell.metadata.get("tags", []) for cell in nbformat.read(path, 4).cells]


def test_a_changed_output_is_seen() -> None:
    """The negative control of the comparison."""
    notebook = nbformat.read(PATHS[0], 4)
    changed = copy.deepcopy(notebook)
    output = next(o for cell in changed.cells if cell.cell_type == "code" for o in cell.outputs if "data" in o)
    output.data["text/plain"] = output.data["text/plain"].replace("ran 2 steps", "ran 3 steps")
    assert outputs(changed) != outputs(notebook)
