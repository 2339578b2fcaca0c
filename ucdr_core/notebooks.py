"""Executes the committed notebooks in place: `python -m ucdr_core.notebooks [NOTEBOOK ...]` (`make notebooks`).

The outputs are what nbval compares and what the book publishes.  Timings and widget state are not kept: the former differ at
each run, the latter would make the page load scripts from elsewhere for a widget that cannot work without a kernel.
"""
from __future__ import annotations

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from tqdm import tqdm

from . import paths


def execute(path: Path) -> None:
    """Runs all cells in a fresh kernel and writes the notebook by rename.  Raises CellExecutionError, leaving the file as it was."""
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=600, store_widget_state=False, record_timing=False,
                   resources={"metadata": {"path": str(path.parent)}}).execute()
    notebook.metadata.pop("widgets", None)
    notebook.metadata["language_info"] = {"name": "python"}
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            output.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None)
    partial = path.with_suffix(".partial")
    nbformat.write(notebook, partial)
    partial.replace(path)


if __name__ == "__main__":
    chosen = [Path(name) for name in sys.argv[1:]] or sorted((paths.REPOSITORY / "notebooks").rglob("*.ipynb"))
    for path in tqdm([p for p in chosen if ".ipynb_checkpoints" not in p.parts], desc="notebooks"):
        execute(path.resolve())
