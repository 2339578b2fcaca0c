"""Tables as rows of specs: what they hold, what they print beside the papers, and what they must not mix up."""
import re
from dataclasses import replace

import numpy as np
import pytest

from ucdr_core import data, chapters as papers
from ucdr_core.render import figures, tables
from ucdr_core.evidence import statistics
from ucdr_core.chapters import Cell, Listing, Row, Table, doodle, embedded, printed, stl, strad
from ucdr_core.evidence.store import Store
from ucdr_core.training.spec import TrainSpec

EVERY = [(paper, name) for paper in papers.PAPERS for name in papers.load(paper).TABLES]


@pytest.mark.parametrize("paper, name", EVERY)
def test_every_row_can_be_asked_what_its_cells_say(paper, name):
    built = papers.load(paper).TABLES[name]()
    if isinstance(built, Listing):
        return
    for row in built.rows:
        assert len(row.cells) == len(built.columns)
        for cell in row.cells:
            if cell.specs:
                asked = {e.name for e in cell.specs[0].evaluations()}
                assert cell.evaluation.partition("@")[0] in asked, (row.label, cell.evaluation)
                assert len({spec.seed for spec in cell.specs}) == len(cell.specs)


@pytest.mark.parametrize("paper, name", [e for e in EVERY if e not in (("doodle", "table1"),)])
def test_reference_rows_stand_in_every_table_of_methods(paper, name):
    built = papers.load(paper).TABLES[name]()
    if name in ("switches", "readings") or (paper, name) == ("strad", "table2"):  # compared with a row of their own
        return
    for group in {row.group for row in built.rows}:
        labels = [row.label for row in built.rows if row.group == group]
        assert set(labels) >= {"Chance", "Frozen features", "Frozen, means removed"}, (group, labels)


def test_printed_numbers():
    """A few, read in the papers."""
    def shown(table, label, group="", column=0):
        row = next(r for r in table.rows if r.label == label and r.group == group and r.cells[column].reported is not None)
        return row.cells[column].reported

    assert shown(doodle.table2(), "Doodle to Search", "Sketchy") == 0.3691 and shown(doodle.table2(), "CVAE", "QuickDraw", 1) == 0.006
    assert shown(doodle.table3(), "Triplet + attention + semantic", "QuickDraw") == 0.0693
    assert shown(stl.table3(), "Ranking + semantic: STL, inductive", "TU-Berlin") == 0.138
    assert printed("stl", table="table1", method="stl", dataset="tuberlin", metric="prec_100")[:2] == (0.498, 0.005)
    assert shown(strad.table1(), "STRAD (S)", "TU-Berlin") == 0.301
    assert [cell.reported for cell in strad.table2().rows[2].cells] == [0.472, None, 0.427, 0.461]  # no sketch space without its loss


def test_seeds_are_those_that_the_captions_say():
    def seeds(rows, label, group):
        return [spec.seed for spec in next(r for r in rows if r.label == label and r.group == group).specs]

    assert all(len(cell.specs) in (0, 1, 3, 5) for row in stl.table1().rows for cell in row.cells)
    assert all(seeds(stl.table1().rows, "STL", view) == [0, 1, 2, 3, 4] for view in stl.VIEWS.values())
    rows = strad.table1().rows
    assert all(seeds(rows, label, view) == [1, 2, 3, 4, 5] for label in ("Simple DB", "STRAD (D)", "STRAD (S)") for view in strad.VIEWS.values())
    assert [len(seeds(rows, label, "Sketchy")) for label in ("SaN (own network)", "SAKE (S)", "Doodle to Search (D)")] == [1, 3, 3]
    assert [len(seeds(rows, label, "QuickDraw")) for label in ("SaN (own network)", "SAKE (S)", "Doodle to Search (D)")] == [1, 1, 3]


def test_strad_is_fed_from_the_run_that_stands_in_the_table():
    """Simple DB's row is the first stage of STRAD (D): the same run, not another like it."""
    for backbone in ("db", "sb"):
        fed = strad.strad("sketchy", backbone).features_spec()
        assert fed.key == strad.simple("sketchy", backbone).key
        assert fed.options["shared"] == (backbone == "sb")
        assert replace(strad.strad("sketchy", backbone), seed=3).features_spec().key == replace(strad.simple("sketchy", backbone), seed=3).key


def test_no_row_but_the_marked_one_is_selected_on_test_classes():
    for paper, name in EVERY:
        for row in papers.load(paper).TABLES[name]().rows:
            for spec in getattr(row, "specs", ()):
                assert (spec.recipe["selection"] == "test") == (row.mark == "oracle"), (paper, name, row.label)


def test_first_stages_come_first_in_the_batch():
    keys = [spec.key for spec in papers.specs_of("strad")]
    assert len(set(keys)) == len(keys)
    for spec in papers.specs_of("strad"):
        if spec.features:
            assert keys.index(spec.features_spec().key) < keys.index(spec.key)


def test_data_statistics_are_counted():
    rows = {row[0]: row[1:] for row in doodle.table1().rows}
    task = data.zs_sbir(data.emoji("quickdraw"), data.splits.load("emoji"), "sketch", "photo")
    labels = task.training.manifest.samples.class_name.to_numpy()
    assert rows["Comparisons in test, every pair"][5] == f"{len(task.query) * len(task.gallery):,}"
    same = sum((labels[task.gallery] == labels[q]).sum() for q in task.query)
    assert rows["Comparisons in test, as printed: pairs of one class"][4:] == ("166,000,000", f"{same:,}")


# ----------------------------------------------------------------------------------------------------------- rendering

@pytest.fixture
def records(small, tmp_path, monkeypatch):
    monkeypatch.setenv("UCDR_HOME", str(tmp_path))
    specs = tuple(TrainSpec.from_mapping({**small, "method": "frozen", "recipe": {}, "seed": seed}) for seed in range(2))
    return specs, [Store().make(spec, progress=False) for spec in specs]


def test_a_table_prints_mean_spread_quotation_and_dash(records):
    specs, made = records
    asked = "zs_sbir:sketch:unseen"
    rows = (Row("run", (Cell(specs, asked, "map_all", 0.5, 0.01),)), Row("quoted", (Cell((), asked, "map_all", 0.25),)))
    text = tables.render(Table("paper", "name", "Caption.", (("Paper", "Ours"),), rows), Store()).text
    own = np.mean([record.scores(asked)["map_all"] for record in made])
    assert f"|run|0.500 ± 0.010|{own:.3f} ± 0.000|" in text and "|quoted|0.250|—|" in text
    assert ":name: paper-name" in text and "2 runs" in text
    assert "†" not in text  # a legend only for the marks that stand in the table


def test_bootstrap_agrees_with_the_textbook():
    """Interval of a mean of 400 independent normal values per seed: about 1.96 standard errors on each side."""
    values = np.random.default_rng(0).normal(0.1, 1, (1, 400))
    low, high, error = statistics.bootstrap(values, 4000)
    assert error == pytest.approx(values.std() / 20, rel=0.05)
    assert (high - low) / 2 == pytest.approx(1.96 * error, rel=0.05) and low < values.mean() < high


def test_runs_of_different_numbers_of_seeds_are_not_paired(records):
    _, made = records
    with pytest.raises(ValueError, match="cannot be paired"):
        statistics.over_queries(made * 2, [*made, made[0]], "zs_sbir:sketch:unseen", "map_all")


def test_the_readme_and_the_book_name_every_paper():
    from ucdr_core import paths

    index = (paths.REPOSITORY / "book" / "index.md").read_text()
    for paper in papers.PAPERS:
        assert re.search(rf"/notebooks/{paper}/2_tables", index)


def test_defaults_are_complete():
    from ucdr_core.methods import METHODS

    for method in METHODS:
        for real in (False, True):
            TrainSpec.from_mapping({"method": method, **embedded.defaults(method, real)})
        assert method in embedded.DEFAULTS


def test_later_results_stand_beside_their_own_definition_only():
    from ucdr_core.chapters import modern

    rows = papers.reported("later")
    assert rows.value.between(0, 1).all() and rows.quoted_from.notna().all()
    assert set(rows[rows.metric.str.startswith("mAP")].variant) <= set(modern.VARIANTS)
    for name, build in modern.TABLES.items():
        if not name.startswith("later"):
            continue
        groups = [row[:2] for row in build().rows]
        assert len(groups) >= 7 and [g for i, g in enumerate(groups) if i == 0 or groups[i - 1] != g] == list(dict.fromkeys(groups)), name  # each group once
        assert not build().specs  # no number of ours


def test_not_strict_is_said_only_of_rows_above_their_own_precision():
    rows = papers.reported("later")
    assert len(own := rows[rows.variant == "?, not strict"])
    for _, row in own.iterrows():
        beside = rows[(rows.method == row.method) & (rows.backbone.fillna("") == (row.backbone if isinstance(row.backbone, str) else "")) & (rows.dataset == row.dataset)
                      & (rows.split == row.split) & (rows.metric == "P@200")]
        assert (row.value > beside.value).any()


def test_the_definitions_of_the_metrics_chapter_are_the_librarys(random):
    from ucdr_core.render.figures import definitions
    from ucdr_core.retrieval import evaluate

    for count, share in ((900, 0.4), (300, 0.1), (250, 0.9)):
        relevant = random.random(count) < share
        scores = evaluate(np.ones((1, 1)), ["x"], np.linspace(1, 0, count)[:, None], np.where(relevant, "x", "y"), "euclidean")
        for name, (terms, divisor, _) in definitions(relevant, 200).items():
            assert abs(terms.sum() / divisor - scores[name]) < 1e-9, name


@pytest.mark.gate
@pytest.mark.parametrize("paper, name", [("stl", "figure5"), ("strad", "fusion"), ("snmpnet", "figure4"), ("doodle", "ramp")])
def test_no_curve_is_cut_off_by_its_axes(paper, name):
    for axis in figures.FIGURES[paper][name](Store()).figure.axes:
        (low, high), lines = axis.get_ylim(), axis.get_lines()
        assert lines and all(low <= np.nanmin(line.get_ydata()) and np.nanmax(line.get_ydata()) <= high for line in lines)
