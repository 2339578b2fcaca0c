"""Guard: nbval passes a notebook whose outputs were stripped, so that each committed notebook is checked to be wholly run."""
import json
import re

import pytest

from ucdr_core.render import figures
from ucdr_core import chapters as papers, paths

NOTEBOOKS = sorted(p for p in (paths.REPOSITORY / "notebooks").rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts)


def guard(notebook: dict) -> list[str]:
    """What is wrong with a committed notebook; nothing where it is whole."""
    problems = []
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    counts = [cell["execution_count"] for cell in code]
    if counts != list(range(1, len(code) + 1)):
        problems.append(f"cells were not run once each from top to bottom: execution counts {counts}")
    if notebook["metadata"].get("kernelspec", {}).get("name") != "python3":
        problems.append("the kernel is not python3")
    if not code or "parameters" not in code[0]["metadata"].get("tags", []):
        problems.append("the first code cell is not tagged 'parameters'")
    text = json.dumps(notebook)
    if re.search(r"/(home|root|Users|work|tmp)/", text):
        problems.append("an absolute path of somebody's machine is in it")
    for number, cell in enumerate(code, 1):
        for output in cell["outputs"]:
            if output["output_type"] == "error" or output.get("name") == "stderr":
                problems.append(f"cell {number} has an error or writes to stderr")
            if "image/png" in output.get("data", {}):
                options = cell["metadata"].get("mystnb", {})
                if not options.get("image", {}).get("alt") or not options.get("figure", {}).get("caption") or not options.get("figure", {}).get("name"):
                    problems.append(f"cell {number} shows a figure without name, caption or alternative text")
        source = "".join(cell["source"])
        shows = source.rstrip().splitlines()[-1] if source.strip() else ""
        shown = "print(" in source or re.match(r"(ucdr_core\.(table|claims|explorer)|status\.|widgets\.|(tables\.)?(against_reference|ranked_real)|\w*figure\w*$|sheet$)", shows)
        if shown and not cell["outputs"]:
            problems.append(f"cell {number} should show something and has no output")
        if re.match(r"\w*figure\w*$|sheet$", shows):
            after = code[number] if number < len(code) else {"source": ""}
            if "fingerprint" not in "".join(after["source"]):
                problems.append(f"cell {number} shows a figure and the next one does not print its fingerprint")
    return problems


def test_there_are_notebooks():
    assert {p.name for p in NOTEBOOKS if p.parent.name == "notebooks"} == {"run.ipynb", "emoji.ipynb", "real.ipynb", "pacs.ipynb", "reproduce.ipynb", "league.ipynb", "audit.ipynb", "story.ipynb", "metrics.ipynb",
                                                                               "search.ipynb", "modern.ipynb", "status.ipynb"}
    for paper in papers.PAPERS:
        walk = {p.name for p in NOTEBOOKS if p.parent.name == paper}
        assert walk == {"1_method.ipynb", "2_tables.ipynb", "3_figures.ipynb", "4_differences.ipynb"}, paper


def test_every_table_and_figure_of_the_papers_is_shown():
    for paper in (*papers.PAPERS, *papers.ACROSS):
        text = "".join(p.read_text() for p in NOTEBOOKS if paper in (p.parent.name, p.stem))
        for name in papers.load(paper).TABLES:
            assert f'table(paper, \\"{name}\\")' in text, (paper, name)
        for name in figures.FIGURES[paper]:
            assert f'figure(paper, \\"{name}\\")' in text, (paper, name)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_every_committed_notebook_is_whole(path):
    assert guard(json.loads(path.read_text())) == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_the_guard_fails_a_stripped_or_partly_run_notebook(path):
    def cells(notebook):
        return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]

    stripped = json.loads(path.read_text())
    for cell in cells(stripped):
        cell.update(outputs=[], execution_count=None)
    assert guard(stripped)
    partly = json.loads(path.read_text())
    cells(partly)[-1].update(outputs=[], execution_count=None)
    assert guard(partly)
    emptied = json.loads(path.read_text())
    shown = [cell for cell in cells(emptied) if cell["outputs"]]
    shown[-1]["outputs"] = []
    assert guard(emptied)
