"""Guard: nbval passes a notebook whose outputs were stripped, so each committed one is checked to be wholly run."""

import ast
import json
import re

import pytest

import ucdr_core
from ucdr_core import chapters, paths

NOTEBOOKS = sorted(p for p in (paths.REPOSITORY / "notebooks").rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts)
PAGES = set("audit emoji league metrics modern pacs real reproduce run search status story tolerance".split())
WALK = ("1_method", "2_tables", "3_figures", "4_differences")
# Of one tier, or of none.
WITHOUT_TIER = {"emoji", "metrics", "pacs", "real", "reproduce", "run", "tolerance"}
# What cells import besides the public surface and the methods.
IMPORTED = {
    "ucdr_core.chapters": {"show", "status"},
    "ucdr_core.chapters.metrics": {"definitions"},
    "ucdr_core.chapters.tiers": {"tier_of"},
    "ucdr_core.render.drawing": {"contact_sheet", "results"},
    "ucdr_core.apps.sketchbook": {"sketchbook"},
}
SHOWN = "against_reference|findings|compared"
SHOWS_TABLE = rf"(ucdr_core\.(table|claims|explorer)\(|status\.|show\.({SHOWN})\(|sketchbook\()"
SHOWS_FIGURE = r"(\w*figure\w*|sheet)$"

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: f"{p.parent.name}/{p.stem}")


def guard(notebook: dict) -> list[str]:
    """What is wrong with a committed notebook; nothing where it is whole."""
    problems = []
    code = code_cells(notebook)
    counts = [cell["execution_count"] for cell in code]
    if counts != list(range(1, len(code) + 1)):
        problems.append(f"cells were not run once each from top to bottom: execution counts {counts}")
    if notebook["metadata"].get("kernelspec", {}).get("name") != "python3":
        problems.append("the kernel is not python3")
    if not code or "parameters" not in code[0]["metadata"].get("tags", []):
        problems.append("the first code cell is not tagged 'parameters'")
    if re.search(r"/(home|root|Users|work|tmp)/", json.dumps(notebook)):
        problems.append("an absolute path of somebody's machine is in it")
    for number, cell in enumerate(code, 1):
        for output in cell["outputs"]:
            if output["output_type"] == "error" or output.get("name") == "stderr":
                problems.append(f"cell {number} has an error or writes to stderr")
            if "image/png" in output.get("data", {}):
                options = cell["metadata"].get("mystnb", {})
                figure = options.get("figure", {})
                if not (options.get("image", {}).get("alt") and figure.get("caption") and figure.get("name")):
                    problems.append(f"cell {number} shows a figure without name, caption or alternative text")
        source = "".join(cell["source"])
        last = source.rstrip().splitlines()[-1] if source.strip() else ""
        shows = "print(" in source or re.match(f"{SHOWS_TABLE}|{SHOWS_FIGURE}", last)
        if shows and not cell["outputs"]:
            problems.append(f"cell {number} should show something and has no output")
        if re.match(SHOWS_FIGURE, last):
            after = code[number] if number < len(code) else {"source": ""}
            if "fingerprint" not in "".join(after["source"]):
                problems.append(f"cell {number} shows a figure and the next one does not print its fingerprint")
    return problems


def code_cells(notebook: dict) -> list[dict]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def code_of(path) -> str:
    """All code of a notebook."""
    return "\n".join("".join(cell["source"]) for cell in code_cells(json.loads(path.read_text())))


def parameters_of(path) -> str:
    return "".join(code_cells(json.loads(path.read_text()))[0]["source"])


def test_there_are_notebooks():
    assert {p.stem for p in NOTEBOOKS if p.parent.name == "notebooks"} == PAGES
    for paper in chapters.PAPERS:
        assert tuple(p.stem for p in NOTEBOOKS if p.parent.name == paper) == WALK, paper


def test_every_table_claim_and_figure_is_shown():
    everywhere = "\n".join(map(code_of, NOTEBOOKS))
    for paper in chapters.CHAPTERS:
        page = {"cost": "reproduce"}.get(paper, paper)
        own_pages = "\n".join(code_of(p) for p in NOTEBOOKS if page in (p.parent.name, p.stem))
        module = chapters.load(paper)
        for verb, names in (("table", module.TABLES), ("claims", module.CLAIMS), ("figure", module.FIGURES)):
            for name in names:
                here = re.search(rf'ucdr_core\.{verb}\(paper, "{name}"[,)]', own_pages)
                elsewhere = re.search(rf'ucdr_core\.{verb}\("{paper}", "{name}"[,)]', everywhere)
                assert here or elsewhere, (paper, verb, name)


@each_notebook
def test_a_chapter_is_of_the_tier_that_it_is_given(path):
    tier = re.search(r'^tier: str = "embedded"', parameters_of(path), re.MULTILINE)
    assert bool(tier) == (path.stem not in WITHOUT_TIER)
    if tier:
        of_a_tier = r"ucdr_core\.(?:table|claims|figure)|show\.(?!printed)\w+|explorer"
        asked = re.findall(rf"(?:{of_a_tier})\(([^()]*)\)", code_of(path))
        assert all(re.search(r'\btier\b|"real"', arguments) for arguments in asked), asked


@each_notebook
def test_notebooks_use_the_public_surface(path):
    for node in ast.walk(ast.parse(code_of(path))):
        if isinstance(node, ast.Import):
            for name in (one.name for one in node.names):
                assert not name.startswith("ucdr_core.") or name.startswith("ucdr_core.methods"), name
        if isinstance(node, ast.ImportFrom) and (module := node.module or "").startswith("ucdr_core"):
            allowed = set(ucdr_core.__all__) if module == "ucdr_core" else IMPORTED.get(module, set())
            names = {one.name for one in node.names}
            assert names <= allowed or module.split(".")[:2] == ["ucdr_core", "methods"], (module, names - allowed)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "ucdr_core":
            assert node.attr in ucdr_core.__all__, node.attr


def test_no_two_tables_or_figures_of_the_book_share_a_label():
    labels: dict[str, str] = {}
    for path in NOTEBOOKS:
        for cell in code_cells(json.loads(path.read_text())):
            texts = ["".join(output.get("data", {}).get("text/markdown", "")) for output in cell["outputs"]]
            names = [name for text in texts for name in re.findall(r"^:name: (\S+)$", text, re.MULTILINE)]
            names += [cell["metadata"].get("mystnb", {}).get("figure", {}).get("name")]
            for name in filter(None, names):
                assert name not in labels, (name, labels[name], path.stem)
                labels[name] = path.stem
    assert len(labels) > 50


@each_notebook
def test_every_committed_notebook_is_whole(path):
    assert guard(json.loads(path.read_text())) == []


@each_notebook
def test_the_guard_fails_a_stripped_or_partly_run_notebook(path):
    stripped = json.loads(path.read_text())
    for cell in code_cells(stripped):
        cell.update(outputs=[], execution_count=None)
    assert guard(stripped)
    partly = json.loads(path.read_text())
    code_cells(partly)[-1].update(outputs=[], execution_count=None)
    assert guard(partly)
    emptied = json.loads(path.read_text())
    shown = [cell for cell in code_cells(emptied) if cell["outputs"]]
    shown[-1]["outputs"] = []
    assert guard(emptied)
