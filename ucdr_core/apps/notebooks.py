"""Executes the committed notebooks in place: `python -m ucdr_core.apps.notebooks [NOTEBOOK ...]` (`make notebooks`).

The outputs are what nbval compares and what the book publishes.  Timings and widget state are not kept: the former
differ at each run, the latter would make the page load scripts from elsewhere for a widget that cannot work without a
kernel.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

from ucdr_core import files, paths
from ucdr_core.progress import bar


def committed_notebooks() -> list[Path]:
    """The notebooks of the repository, in their order."""
    every = sorted((paths.REPOSITORY / "notebooks").rglob("*.ipynb"))
    return [path for path in every if ".ipynb_checkpoints" not in path.parts]


def execute(path: Path) -> None:
    """Runs all cells in a fresh kernel and writes the notebook by rename.  Raises CellExecutionError, leaving the file
    as it was."""
    path = path.resolve()  # one is a link into the package
    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(path.parent)}}
    NotebookClient(notebook, timeout=600, store_widget_state=False, record_timing=False, resources=resources).execute()
    files.write(path, nbformat.writes(tidied(notebook)) + "\n")


def tidied(notebook: Any) -> Any:
    """The notebook without what differs from run to run or loads scripts from elsewhere."""
    notebook.metadata.pop("widgets", None)
    notebook.metadata["language_info"] = {"name": "python"}
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            output.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None)
    return notebook


if __name__ == "__main__":
    for notebook_path in bar([Path(name) for name in sys.argv[1:]] or committed_notebooks(), desc="notebooks"):
        execute(notebook_path)
