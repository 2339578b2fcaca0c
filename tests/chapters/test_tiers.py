"""Tier paper on trees with the true layouts: runs made there stand in the papers' tables, in the papers' metric, the
missing ones counted."""

import io
import json
import struct

import nbformat
import numpy as np
import pytest
from PIL import Image

import ucdr_core
from ucdr_core import chapters, paths
from ucdr_core.apps import edition
from ucdr_core.chapters.paper_recipes import GLOVE, WORD2VEC
from ucdr_core.chapters.stl.rows import READINGS, generalised
from ucdr_core.chapters.tiers import TIERS, tier_of
from ucdr_core.data import DataError, splits
from ucdr_core.evidence.store import Store
from ucdr_core.methods import backbones, semantics

PAPER = tier_of("paper")
TRIAL = {"weights": "random", "size_px": 32, "precision": "float32", "recipe": {"epochs": 1, "selection": "last"}}
LAYOUTS = {  # domain: class folder, suffix
    "sketchy": {"sketch": ("256x256/sketch/tx_000000000000", "png"), "photo": ("EXTEND_image_sketchy", "jpg")},
    "tuberlin": {"sketch": ("png", "png"), "photo": ("ImageResized", "jpg")},
    "domainnet": {name: (name, "jpg") for name in ("clipart", "infograph", "painting", "quickdraw", "real", "sketch")},
}
SPLITS = {"sketchy": "sketchy_yelamarthi", "tuberlin": "tuberlin_random30", "domainnet": "domainnet"}


def encoded(random, suffix: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(random.integers(0, 255, (8, 8, 3), np.uint8)).save(buffer, "jpeg" if suffix == "jpg" else suffix)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def data_root(tmp_path_factory):
    """$UCDR_DATA with all classes of three data sets in their true layouts, two pictures each, and word vectors of all
    their words."""
    root, random = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    words: set[str] = set()
    pictures = {suffix: [encoded(random, suffix) for _ in range(20)] for suffix in ("png", "jpg")}
    for dataset, layout in LAYOUTS.items():
        split = splits.load(SPLITS[dataset])
        for name in (*split.train, *split.val, *split.test):
            words |= set(semantics.words_of(split.words.get(name, name)))
            for folder, suffix in layout.values():
                path = root / dataset / folder / name
                path.mkdir(parents=True)
                for number in range(2):
                    (path / f"{name}_{number}.{suffix}").write_bytes(pictures[suffix][random.integers(20)])
    (root / "vectors").mkdir()
    vectors = {word: random.standard_normal(300).astype(np.float32) for word in sorted(words)}
    lines = (f"{word} {' '.join(f'{value:.4f}' for value in vector)}\n" for word, vector in vectors.items())
    (root / "vectors" / GLOVE).write_text("".join(lines))
    with open(root / "vectors" / WORD2VEC, "wb") as file:
        file.write(f"{len(vectors)} 300\n".encode())
        for word, vector in vectors.items():
            file.write(word.encode() + b" " + struct.pack("<300f", *vector) + b"\n")
    return root


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(autouse=True)
def workstation(data_root, home, monkeypatch):
    monkeypatch.setenv("UCDR_DATA", str(data_root))
    monkeypatch.setenv("UCDR_HOME", str(home))
    monkeypatch.setenv("UCDR_TRIAL", json.dumps(TRIAL))


def cells_of(text: str, label: str, group: str = "") -> list[str]:
    """Cells of the first row with this label, below the first row of its group."""
    lines = [line.split("|")[1:-1] for line in text.splitlines() if line.startswith("|")]
    start = next((place for place, line in enumerate(lines) if line[0] == group), 0) if group else 0
    return next(line for line in lines[start:] if label in line[:3])


def make(method: str, view: str, seeds=(0,), **row):
    runs = PAPER.runs(method, view, **row)[: len(seeds)]
    return [Store().make(spec, progress=False) for spec in runs]


def test_snmpnets_table_1_shows_its_mean_average_precision_at_200(data_root):
    (record,) = make("snmpnet", "sketchy")
    make("frozen", "sketchy")
    text = ucdr_core.table("snmpnet", "table1", "paper").text
    scores = record.scores("zs_sbir:sketch:unseen")
    cells = cells_of(text, "SnMpNet")
    assert f"{scores['map_200']:.3f} (1 of 3 runs)" in cells and f"{scores['prec_200']:.3f} (1 of 3 runs)" in cells
    assert (
        "Ours, mAP@200" in text
        and "Verdict" in text
        and any(cell.startswith(("lower by", "higher by", "as printed")) for cell in cells)
    )
    assert cells_of(text, "CVAE")[3:] and "0 of 3 runs" in cells_of(text, "CVAE")
    assert "2 of" in text.splitlines()[-1] and "are there" in text and "trial values" in text


def test_the_ablation_shows_the_same_run_and_counts_the_others():
    text = ucdr_core.table("snmpnet", "table5", "paper").text
    assert "(1 of 3 runs)" in " ".join(cells_of(text, "SnMpNet (all)")) and "0 of 3 runs" in cells_of(text, "Base N/W")


def test_the_generalisation_over_domains_is_asked_of_the_true_layout():
    make("frozen", "domainnet", held_out="sketch")
    text = ucdr_core.table("snmpnet", "table2", "paper").text
    cells = cells_of(text, "Frozen features", "sketch")
    assert sum(cell.replace(".", "").isdigit() for cell in cells) == 4  # both metrics in both galleries
    assert "0 of 3 runs" in cells_of(text, "SnMpNet", "sketch")
    udcdr = ucdr_core.table("snmpnet", "table4", "paper").text
    assert sum(cell.replace(".", "").isdigit() for cell in cells_of(udcdr, "Frozen features", "sketch")) == 2


def test_two_data_sets_of_one_table_fill_apart():
    """Sketchy on the split of that table, which has 25 unseen classes."""
    make("frozen", "tuberlin")
    make("frozen", "sketchy", paper_split="sketchy_random25")
    text = ucdr_core.table("snmpnet", "table6", "paper").text
    for view in ("tuberlin", "sketchy"):
        assert any(cell.replace(".", "").isdigit() for cell in cells_of(text, "Frozen features", view)), view
    assert "Ours, P@100" in text


def test_doodles_stls_and_strads_tables_stand_on_the_same_runs():
    make("frozen", "sketchy", **READINGS["samples"])
    for paper, name, evaluation, metrics, values in (
        ("doodle", "table2", "zs_sbir:sketch:unseen", ("map_all", "map_200", "prec_200"), {}),
        ("stl", "table1", generalised(), ("map_all", "prec_100"), READINGS["samples"]),
        ("strad", "table1", "zs_sbir:sketch:unseen", ("prec_200", "map_200_k"), {}),
    ):
        scores = Store().need(PAPER.runs("frozen", "sketchy", **values)[0]).scores(evaluation)
        cells = cells_of(ucdr_core.table(paper, name, "paper").text, "Frozen features", "Sketchy")
        printed = [float(cell) for cell in cells if cell.replace(".", "").isdigit()]
        # Half of the last digit, and a little: a score of 0.0585 is rounded either way.
        assert printed == pytest.approx([scores[metric] for metric in metrics], abs=0.00051), paper


def test_strads_own_rows_are_by_its_own_definition():
    """mAP@200 divided by 200: the metric of the printed number, not of the column's name."""
    table = chapters.load("strad").TABLES["table1"](PAPER)
    row = next(row for row in table.rows if row.label == "STRAD (D)")
    assert (
        [cell.metric for cell in row.cells] == ["prec_200", "map_200_k"] == [cell.terms.variant for cell in row.cells]
    )


def test_claims_and_figures_of_a_tier_that_is_not_there_say_so():
    text = ucdr_core.claims("snmpnet", "table5", "paper").text
    assert "of 6 runs" in text or "of 4 runs" in text
    figure = ucdr_core.figure("snmpnet", "figure2", "paper")
    assert "there is no run" in figure.fingerprint and figure.png()[:4] == b"\x89PNG"


def test_a_figure_is_drawn_from_a_users_own_run():
    figure = ucdr_core.figure("doodle", "figure4_sketchy", "paper")
    assert "there is no run of doodle" in figure.fingerprint
    sheet = ucdr_core.figure("doodle", "figure1", "embedded")
    assert "6 classes" in sheet.fingerprint


def test_a_chapter_executes_on_the_tier_through_papermill(tmp_path):
    path = paths.REPOSITORY / "notebooks" / "snmpnet" / "2_tables.ipynb"
    assert edition._execute(path, tmp_path / "out.ipynb", "paper") == ""
    notebook = nbformat.read(tmp_path / "out.ipynb", as_version=4)
    shown = "".join(
        str(output.get("data", {}).get("text/markdown", ""))
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
    )
    assert ":name: snmpnet-table1-paper" in shown and "(1 of 3 runs)" in shown and "Tier paper" in shown
    assert "Tier embedded" not in shown


def test_a_notebook_that_fails_on_the_tier_shows_no_numbers_of_another(tmp_path):
    notebook = nbformat.v4.new_notebook(
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    )
    cells = [
        nbformat.v4.new_markdown_cell("# Page"),
        nbformat.v4.new_code_cell('tier: str = "embedded"', metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell("1 / 0", outputs=[nbformat.v4.new_output("stream", text="0.123")]),
    ]
    notebook.cells = cells
    nbformat.write(notebook, tmp_path / "page.ipynb")
    assert "ZeroDivisionError" in edition._execute(tmp_path / "page.ipynb", tmp_path / "out.ipynb", "paper")
    text = (tmp_path / "out.ipynb").read_text()
    assert "0.123" not in text and "could not be executed on tier paper" in text


def test_an_edition_keeps_out_of_folders_that_it_did_not_make(tmp_path):
    (tmp_path / "mine.txt").write_text("keep me")
    with pytest.raises(DataError, match="no earlier edition"):
        edition.edition("paper", tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "keep me"


def test_an_unknown_tier_is_one_line():
    with pytest.raises(DataError, match="unknown tier 'P'; known: embedded, real, paper"):
        ucdr_core.table("snmpnet", "table1", "P")
    assert list(TIERS) == ["embedded", "real", "paper"]


def test_every_row_of_every_paper_has_its_run_on_the_papers_data():
    for paper in chapters.PAPERS:
        for spec in chapters.runs_of("paper", paper):
            assert spec.dataset in ("sketchy", "tuberlin", "quickdraw", "domainnet")
            assert spec.backbone in backbones.BACKBONES


def test_trial_values_are_checked(monkeypatch):
    monkeypatch.setenv("UCDR_TRIAL", "[1]")
    with pytest.raises(DataError, match="UCDR_TRIAL: it must be a mapping"):
        PAPER.runs("snmpnet", "sketchy")
