"""An edition of one's own: every chapter executed on another tier and built as a site (`make book TIER=paper`).

    python -m ucdr_core.apps.edition paper build/edition-paper

papermill executes the notebooks with `tier` as their parameter into a copy of the book's sources.  The pages say on top
which tier they show; nothing is compared with the committed outputs, and the committed notebooks are not touched.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import papermill
import yaml

from ucdr_core import paths
from ucdr_core.apps.folder import EDITION, made
from ucdr_core.apps.notebooks import committed_notebooks, tidied
from ucdr_core.chapters.tiers import Tier, tier_of
from ucdr_core.data import DataError
from ucdr_core.progress import bar

SOURCES = ("book", "notebooks", "_config.yml", "CITATION.cff")


def edition(tier_name: str, folder: Path) -> tuple[Path, list[str]]:
    """Makes the edition of a tier under `folder` and returns (its site, notebooks that failed with why).

    Raises DataError for an unknown tier, and FolderError where the folder holds anything but an earlier edition.
    """
    tier = tier_of(tier_name)
    with made(folder, EDITION) as work:
        failed = _build(tier, work)
    return folder / "_build" / "html", failed


def _build(tier: Tier, folder: Path) -> list[str]:
    source = folder / "source"
    source.mkdir()
    for name in SOURCES:
        path = paths.REPOSITORY / name
        if path.is_dir():
            shutil.copytree(path, source / name, ignore=shutil.ignore_patterns(".ipynb_checkpoints", "__pycache__"))
        elif path.exists():
            shutil.copy(path, source / name)
    failed = []
    for path in bar(committed_notebooks(), desc=f"chapters on tier {tier.name}"):
        target = source / path.relative_to(paths.REPOSITORY)
        if problem := _execute(path, target, tier.name):
            failed.append(f"{path.relative_to(paths.REPOSITORY)}: {problem}")
    _mark(source, tier.name, tier.title)
    command = [str(Path(sys.executable).with_name("jupyter-book")), "build", str(source)]
    command += ["--toc", str(source / "book" / "_toc.yml"), "--path-output", str(folder), "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode or not (folder / "_build" / "html" / "index.html").exists():
        raise DataError(f"the edition's site was not built: {(done.stderr or done.stdout).strip()[-2000:]}")
    return failed


def _execute(path: Path, target: Path, tier: str) -> str:
    """Executes one notebook on the tier; those without the parameter keep their committed outputs.  Returns why it
    failed, or nothing."""
    notebook = nbformat.read(path, as_version=4)
    parameters = next((cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])), None)
    if parameters is None or "tier: str" not in parameters.source:
        return ""
    try:
        # In the notebook's own folder, since some look for files beside them.
        executed = papermill.execute_notebook(
            str(path),
            None,
            parameters={"tier": tier},
            kernel_name="python3",
            cwd=str(path.parent),
            progress_bar=False,
            log_output=False,
        )
    except papermill.PapermillExecutionError as error:
        problem = f"{error.ename}: {error.evalue}"
        for cell in notebook.cells:  # numbers of another tier must not stand in this edition
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = [], None
        notebook.cells.insert(
            1,
            nbformat.v4.new_markdown_cell(
                f":::{{warning}}\nThis page could not be executed on tier {tier}: {problem}\n:::"
            ),
        )
        nbformat.write(notebook, target)
        return problem
    nbformat.write(tidied(_without_parameters_cell(executed)), target)
    return ""


def _without_parameters_cell(notebook: Any) -> Any:
    for cell in notebook.cells:
        if "injected-parameters" in cell.metadata.get("tags", []):
            cell.metadata["tags"].append("remove-cell")
    return notebook


def _mark(source: Path, tier: str, title: str) -> None:
    """Says on every page that this edition is the reader's own."""
    config_path = source / "_config.yml"
    config = yaml.safe_load(config_path.read_text())
    config["title"] = f"{config['title']}: your edition, tier {tier}"
    note = (
        f"An edition of your own on tier {tier} ({title}), made from the runs of this machine. Its numbers "
        f"were not compared with the "
        "published edition's, and the prose around the tables was written for tier embedded."
    )
    config.setdefault("html", {})["announcement"] = note
    sphinx = config.setdefault("sphinx", {})
    sphinx.pop("local_extensions", None)
    extension = source / "book" / "_ext"
    if extension.is_dir():
        sphinx["local_extensions"] = {path.stem: "book/_ext" for path in extension.glob("*.py")}
    statics = sphinx.get("config", {}).get("html_static_path", [])
    sphinx.setdefault("config", {})["html_static_path"] = [name for name in statics if (source / name).exists()]
    config_path.write_text(yaml.safe_dump(config, allow_unicode=True, sort_keys=False))


if __name__ == "__main__":
    try:
        site, problems = edition(sys.argv[1], Path(sys.argv[2]))
    except (DataError, OSError) as error:
        sys.exit(f"edition: {error}")
    for line in problems:
        print(f"not executed: {line}", file=sys.stderr)
    print(f"open {site}/index.html")
    sys.exit(1 if problems else 0)
