"""Run a notebook from top to bottom without a browser, leave it as HTML, and print its closing table.

``python notebooks/run.py notebooks/01_quickstart.ipynb out`` fails if a cell fails.
"""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbconvert import HTMLExporter


def closing_table(notebook: nbformat.NotebookNode) -> str:
    """Text of the last output of the last cell that has one."""
    for cell in reversed(notebook.cells):
        for output in reversed(cell.get("outputs", [])):
            text = output.get("text") or output.get("data", {}).get("text/plain")
            if text:
                return str(text)
    return ""


def main(path: Path, out: Path) -> int:
    """Execute, write ``out/<name>.html``, print the closing table; 1 if a cell failed."""
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook, timeout=1200, kernel_name="python3", store_widget_state=False, resources={"metadata": {"path": path.parent}}
    )
    failure = ""
    try:
        client.execute()
    except CellExecutionError as error:
        failure = str(error)
    out.mkdir(parents=True, exist_ok=True)
    page = out / f"{path.stem}.html"
    body, _ = HTMLExporter().from_notebook_node(notebook)
    page.write_text(body, encoding="utf-8")
    print(f"{page}\n")
    print(failure or closing_table(notebook))
    return 1 if failure else 0


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python notebooks/run.py NOTEBOOK FOLDER")
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
