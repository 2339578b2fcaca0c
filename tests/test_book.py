"""The pages that tell how to add something are followed to the letter, the exercises' solutions are run, and what a
page says of results is computed."""

import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

from ucdr_core import paths
from ucdr_core.chapters import load, show
from ucdr_core.chapters.metrics import definitions
from ucdr_core.chapters.systems import DEFAULTS, SYSTEMS
from ucdr_core.chapters.tiers import tier_of
from ucdr_core.data import DataError

BOOK = paths.REPOSITORY / "book"
STEP = re.compile(r"^```\{code-block\} (\w+)\n:caption: ([^\n]+)\n\n(.*?)^```", re.MULTILINE | re.DOTALL)


def steps(page: str) -> list[tuple[str, str, str]]:
    """(language, caption, text) of the blocks that a reader would copy, in order."""
    return STEP.findall((BOOK / f"{page}.md").read_text())


def follow(page: str, where, home) -> list[str]:
    """Does what the page says in the folder, and returns what the commands print.  A caption is a file's name, or
    `shell`."""
    bin_folder = os.path.dirname(sys.executable)
    environment = {
        **os.environ,
        "PATH": f"{bin_folder}:{os.environ['PATH']}",
        "PYTHONPATH": str(where),
        "UCDR_HOME": str(home),
    }
    printed = []
    for language, caption, text in steps(page):
        if language == "diff":
            done = subprocess.run(
                ["git", "apply", "--unidiff-zero", "--recount", "-"],
                input=text,
                cwd=where,
                text=True,
                capture_output=True,
            )
            assert done.returncode == 0, done.stderr
        elif caption == "shell":
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", text], cwd=where, env=environment, capture_output=True, text=True
            )
            assert done.returncode == 0, f"{text}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
            printed.append(done.stdout)
        else:
            file = where / caption
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
    return printed


@pytest.mark.gate  # for the cached maps of the embedded data
def test_a_method_is_added_as_the_page_says(tmp_path):
    shutil.copytree(paths.PACKAGE, tmp_path / "ucdr_core", ignore=shutil.ignore_patterns("__pycache__"))
    home = tmp_path / "home"
    home.mkdir()
    paths.cache().mkdir(parents=True, exist_ok=True)
    (home / "cache").symlink_to(paths.cache())
    printed = follow("add_a_method", tmp_path, home)
    assert "zs_sbir:sketch:unseen" in printed[0] and "1 passed" in printed[1]
    difference = r"CosFace less frozen features: [+-]0\.\d{3} \([+-]0\.\d{3} to [+-]0\.\d{3}\), \d+ queries"
    assert re.search(difference, printed[2])


def test_a_data_set_is_added_as_the_page_says(tmp_path, library):
    printed = follow("add_a_data_set", tmp_path, library)
    assert "144 images, 8 classes" in printed[0] and "unseen classes: moon, tree" in printed[1]
    layout = {}
    exec((tmp_path / "my_layout.py").read_text(), layout)
    (tmp_path / "flat").mkdir()
    (tmp_path / "flat" / "sketch_cat_1.png").touch()
    manifest = layout["flat"](tmp_path / "flat")
    assert manifest.samples.iloc[0].to_dict() == {"path": "sketch_cat_1.png", "class_name": "cat", "domain": "sketch"}


def test_the_exercises_have_solutions_that_run():
    text = (BOOK / "exercises.md").read_text()
    assert len(re.findall(r"^## \d+\.", text, re.MULTILINE)) == text.count(":::{dropdown} Solution") >= 7
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 5
    for block in blocks:
        exec(compile(block, "exercises.md", "exec"), {})


# ------------------------------------------------------------------------------------------------ statements of results

COUNT = r"none|one|two|three|four|five|six|seven|eight|nine|ten|most|nearly all|all but \w+"
ORDER = (  # words of order, size, count and verdict
    r"above|below|better|best|worse|worst|higher|lower|highest|lowest|larger|largest|smaller|smallest|stronger|weaker|"
    r"faster|purer|further|beats?|exceeds?|outperforms?|leads?|trails?|level with|ahead of|helps?|hurts?|gains?|loses?|"
    r"falls?|rises?|improves?|matters?|brings?|halves|doubles|twice|half|hardly|nothing beats|next to nothing|"
    r"not? told apart|(?:is|are) (?:not )?reproduced|undecided|(?:holds?|excludes?) zero|over zero|as in the paper|"
    rf"as printed|worth (?:more|less|as much|nothing|something|\d\S*)|(?:{COUNT}) of (?:the )?(?:{COUNT}|\d+)"
)
SYSTEM = "|".join(
    {re.escape(re.split(r",| \(", name)[0]) for name in (*SYSTEMS, *(one.label for one in DEFAULTS.values()))}
)
SUBJECT = (
    rf"{SYSTEM}|ours|mAP|P@\d+|printed|training|ablation|analogues?|frozen features|"
    r"(?:the|each|every|no|trained|all) (?:methods?|rows?|systems?|controls?|scores?)"
)
SCORE = r"(?<![\d.])0?\.\d{2,}\b"
WHERE = r"\b(?:tables?|rows?|figures?|lines?|cells?|switches|claims?|page|map) (?:above|below)|\babove (?:it|them)\b"
QUESTION = r"[\W_]*(?:what|which|whether|who|how|where)\b|.*\?[\W_]*$"
NO_RESULT = {  # sentences that hold such words and state no result: page, how they begin
    "how_to_read": (
        "on that side, below the printed one",  # what verdicts mean
        "it holds zero",
        "The *critical difference*",  # a definition
        "Every training keeps the epoch that is best",  # a rule
    ),
    "index": ("frozen features of larger trunks",),  # a title
}


def sentences(markdown: str) -> list[str]:
    """The sentences of a text, without code, formulas, roles and tables."""
    prose = re.sub(r"^(```|~~~).*?^\1", "", markdown, flags=re.MULTILINE | re.DOTALL)
    prose = "\n".join(line for line in prose.splitlines() if not line.lstrip().startswith("|"))
    prose = re.sub(r"\$\$.*?\$\$|\$[^$]*\$|`[^`]*`|\{[\w:]+\}|<[^>]*>", " ", prose, flags=re.DOTALL)
    prose = re.sub(WHERE, " ", prose)
    parts = re.split(r"(?<=[.:;?!])\*{0,2}\s+(?=\S)|\n\s*\n|\n(?=\s*[-:#])", prose)
    return [" ".join(part.split()) for part in parts if part.strip()]


def states_a_result(sentence: str) -> bool:
    """Whether a sentence holds a typed score, or a word of order and a subject of the book, and is no question.

    It knows words, not meanings: a result in other words passes, and what is no result may have to be said otherwise.
    """
    if re.match(QUESTION, sentence, re.IGNORECASE):
        return False
    ordered = re.search(rf"\b(?:{ORDER})\b", sentence, re.IGNORECASE) and re.search(rf"\b(?:{SUBJECT})\b", sentence)
    return bool(ordered or re.search(SCORE, sentence))


def asserts(code: str) -> bool:
    return bool(re.search(r"^\s*assert ", code, re.MULTILINE))


def unasserted(path) -> list[str]:
    """What a page's text, captions and alternative texts state of results that no code after the text asserts."""
    found = []
    if path.suffix == ".md":
        *before, last = re.split(r"^```python\n(.*?)^```", path.read_text(), flags=re.MULTILINE | re.DOTALL)
        texts = [text for text, code in zip(before[::2], before[1::2]) if not asserts(code)] + [last]
    else:
        texts, cells = [], json.loads(path.read_text())["cells"]
        for place, cell in enumerate(cells):
            shown = cell["metadata"].get("mystnb", {})
            texts += [shown.get("figure", {}).get("caption", ""), shown.get("image", {}).get("alt", "")]
            after = [c["cell_type"] == "markdown" for c in cells[place + 1 :]]
            code = cells[place + 1 : place + 1 + (after.index(True) if True in after else len(after))]
            if cell["cell_type"] == "markdown" and not any(asserts("".join(c["source"])) for c in code):
                texts.append("".join(cell["source"]))
    for sentence in filter(states_a_result, (one for text in texts for one in sentences(text))):
        if not sentence.startswith(NO_RESULT.get(path.stem, ("\n",))):
            found.append(sentence)
    return found


PAGES = [*sorted(BOOK.glob("*.md")), *sorted((paths.REPOSITORY / "notebooks").rglob("*.ipynb"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.parent.name}/{page.stem}")
def test_what_a_page_says_of_results_is_printed_or_asserted_by_a_cell(page):
    assert unasserted(page) == []


@pytest.mark.parametrize(
    "sentence",
    [
        "On the analogue of TU-Berlin nothing beats them at all.",
        "The order of the ablation is reproduced up to the last step.",
        "In the papers' tables each of them is above Simple DB.",
        "The single backbone is worth more than the method.",
        "For unseen classes from an unseen domain, no method's interval excludes zero.",
        "Two trained methods on the smallest trunk lie above every untrained row.",
        "STRAD over the plain backbone is reproduced in one case of six.",
        "On one and the same ranking it is 0.03 or 0.14.",
        "Each of the three trained methods lies below the frozen features that it starts from.",
    ],
)
def test_statements_of_results_are_found(sentence):
    assert states_a_result(sentence)


@pytest.mark.parametrize(
    "sentence",
    [
        "Does training help on unseen classes?",
        "What the unlabelled photos bring, three seeds, on the fixed split:",
        "The runs of the tables stop by themselves.",
        "One network retrieves photographs for a query.",
    ],
)
def test_questions_and_descriptions_are_not(sentence):
    assert not states_a_result(sentence)


def test_a_statement_is_allowed_where_a_cell_asserts_it(tmp_path):
    def cell(kind: str, source: str) -> dict:
        return {"cell_type": kind, "metadata": {}, "source": [source]}

    page, text = tmp_path / "page.ipynb", cell("markdown", "SnMpNet lies above CuMix.")
    for following, stated in (("print(1)", 1), ("assert 2 > 1", 0)):
        cells = [text, cell("code", "x = 1"), cell("code", following), cell("markdown", "Then.")]
        page.write_text(json.dumps({"cells": cells}))
        assert len(unasserted(page)) == stated


def test_the_definitions_are_the_same_on_every_page():
    named = re.findall(r"^\| `(\w+)`(?:, `\w+`)? \|", (BOOK / "how_to_read.md").read_text(), re.MULTILINE)
    defined = list(definitions(np.ones(300, bool), 200))
    assert named == [name.replace("prec_200", "prec_100") for name in defined] and len(named) == 7


# ----------------------------------------------------------------------------------------------- what cells print


def listed(text: str) -> dict[str, tuple[int, int, str]]:
    """{verdict: (how many got it, of how many, which)}"""
    lines = re.findall(r"^- \*\*([^*]+)\*\*, (\d+) of (\d+)(.*)$", text, re.MULTILINE)
    return {kind: (int(count), int(total), which) for kind, count, total, which in lines}


def test_findings_count_each_claim_once_by_its_verdict():
    claims = [line.split("|") for line in show.claims("strad", "table1").text.splitlines() if "−" in line]
    found = listed(show.findings("strad").text)
    assert sum(count for count, *_ in found.values()) == len(claims) == next(iter(found.values()))[1]
    for _, text, *_, verdict, _ in claims:
        if verdict:
            assert f"{text} (" in found[verdict.partition(" (")[0]][2]
    assert not set(found) & {"higher", "lower"}  # all of them are printed


def test_findings_of_the_audit_are_its_switches():
    measured = sum(row.measured is not None for row in load("audit").TABLES["differences"](tier_of("embedded")).rows)
    assert {total for _, total, _ in listed(show.findings("audit").text).values()} == {measured}


def test_rows_are_compared_in_every_group_that_has_both():
    pairs = [("STL", "STL ‡"), ("STL, inductive", "Frozen features")]
    assert {total for _, total, _ in listed(show.compared("stl", "table1", pairs).text).values()} == {4}
    one = show.compared("stl", "table1", pairs[:1], groups=["Sketchy"]).text
    assert {total for _, total, _ in listed(one).values()} == {1}
    with pytest.raises(DataError, match="no group with the rows 'STL' and 'Nobody'; it has Chance, "):
        show.compared("stl", "table1", [("STL", "Nobody")])


def test_a_difference_of_rows_is_that_of_their_runs():
    """Two rows without seeds, in each group of a table: the difference of the scores that the table prints."""
    text = show.compared("doodle", "table2", [("Frozen, means removed", "Frozen features")]).text
    names = ("Frozen features", "Frozen, means removed †")
    rows = [line.split("|") for line in show.table("doodle", "table2").text.splitlines()]
    frozen, centred = ([float(row[5]) for row in rows if row[2:3] == [name]] for name in names)
    differences = re.findall(r"(\S+): Frozen, means removed − Frozen features \(([+-]\d\.\d+),", text)
    assert [view for view, _ in differences] and len(differences) == len(frozen) == 3
    for view, difference in differences:
        place = ("Sketchy", "TU-Berlin", "QuickDraw").index(view)
        assert abs(float(difference) - (centred[place] - frozen[place])) < 0.0016


def test_printed_numbers_are_by_method():
    printed = show.printed("strad", "table1", "prec_200", dataset="sketchy")
    assert printed["strad_db"] == 0.502 and printed["simple_sb"] == 0.497 and len(printed) == 17
    with pytest.raises(LookupError, match="several numbers of .*strad_db"):
        show.printed("strad", "table1", "prec_200")
