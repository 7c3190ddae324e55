"""Execute docs/notebook.ipynb in a new folder, and keep its outputs without what changes from time to time.

Run: python scripts/notebook.py                    writes docs/notebook.ipynb (two minutes on a 2-core CPU)
     python scripts/notebook.py --small OUT.ipynb  a quick version, written elsewhere
"""

import argparse
import re
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).resolve().parent.parent / "docs" / "notebook.ipynb"
SMALL = {"epochs=10": "epochs=1", "range(3)": "range(2)"}
PROGRESS = re.compile(r"^postcards: prepar.*\n|^\w+: preparing.*\n", re.MULTILINE)


def execute(notebook: Any, small: bool = False) -> None:
    """Run a notebook's cells in a new folder. Raises CellExecutionError for an error that it does not expect."""
    for cell in notebook.cells:
        if small and cell.cell_type == "code":
            for given, less in SMALL.items():
                cell.source = cell.source.replace(given, less)
    with tempfile.TemporaryDirectory() as folder:
        place = {"metadata": {"path": folder}}
        client = NotebookClient(notebook, timeout=1800, resources=place, coalesce_streams=True, kernel_name="python3")
        client.execute()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.metadata.pop("execution", None)  # times
            cell.outputs = [clean(output) for output in cell.outputs if is_kept(output)]
    notebook.metadata.pop("widgets", None)
    notebook.metadata["language_info"] = {"name": "python"}


def is_kept(output: Any) -> bool:
    """Tell whether a reader needs an output: bars of progress, on standard error or as widgets, are left out."""
    widget = "application/vnd.jupyter.widget-view+json" in output.get("data", {})
    return output.get("name") != "stderr" and not widget and bool(PROGRESS.sub("", output.get("text", "x")).strip())


def clean(output: Any) -> Any:
    """Return an output without lines of preparation."""
    if "text" in output:
        output.text = PROGRESS.sub("", output.text)
    return output


def main() -> None:
    """Execute the notebook and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", metavar="OUT", type=Path, help="a quick version, written to OUT")
    given = parser.parse_args()
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    execute(notebook, small=given.small is not None)
    nbformat.write(notebook, given.small or NOTEBOOK)


if __name__ == "__main__":
    main()
