"""docs/notebook.ipynb runs, and the outputs that it shows are those of its cells."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
NOTEBOOK = REPOSITORY / "docs" / "notebook.ipynb"


def code(notebook: Path) -> list[dict[str, Any]]:
    return [cell for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == "code"]


def shown(cell: dict[str, Any]) -> str:
    return json.dumps(cell["outputs"])


def test_it_is_executed_small_and_without_errors_but_the_one_it_explains() -> None:
    cells = code(NOTEBOOK)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert NOTEBOOK.stat().st_size < 400_000
    for cell in cells:
        expected = "raises-exception" in cell["metadata"].get("tags", [])
        assert ('"output_type": "error"' in shown(cell)) == expected, cell["source"]
        assert "stderr" not in shown(cell) and "/tmp/" not in shown(cell)
    assert "Traceback" not in NOTEBOOK.read_text()


@pytest.mark.slow
def test_it_runs(tmp_path: Path) -> None:
    made = tmp_path / "made.ipynb"
    script = [sys.executable, REPOSITORY / "scripts" / "notebook.py", "--small", made]
    done = subprocess.run(script, capture_output=True, text=True, timeout=290)
    assert done.returncode == 0, done.stderr
    kinds = [[output["output_type"] for output in cell["outputs"]] for cell in code(made)]
    kept = [[output["output_type"] for output in cell["outputs"]] for cell in code(NOTEBOOK)]
    assert [kind[-1:] for kind in kinds] == [kind[-1:] for kind in kept]
    assert sum("image/png" in shown(cell) for cell in code(made)) == 2, "two figures"
