"""Tables as rows of specs: what they hold, what they print beside the papers, and what they must not mix up."""

import re

import numpy as np
import pytest

from ucdr_core import chapters, data
from ucdr_core.chapters.doodle import rows as doodle
from ucdr_core.chapters.reported import printed
from ucdr_core.chapters.snmpnet import rows as snmpnet
from ucdr_core.chapters.stl import rows as stl
from ucdr_core.chapters.strad import rows as strad
from ucdr_core.chapters.systems import DEFAULTS, frozen_defaults
from ucdr_core.chapters.tiers import TIERS, TITLES, tier_of
from ucdr_core.evidence import statistics
from ucdr_core.evidence.rows import Cell, Computed, Listing, Row, Table
from ucdr_core.evidence.store import Store
from ucdr_core.render import tables
from ucdr_core.training.spec import TrainSpec

EMBEDDED = tier_of("embedded")
EVERY = [(paper, name) for paper in chapters.PAPERS for name in chapters.load(paper).TABLES]


@pytest.mark.parametrize("paper, name", EVERY)
def test_every_row_can_be_asked_what_its_cells_say(paper, name):
    built = chapters.load(paper).TABLES[name](EMBEDDED)
    if isinstance(built, (Listing, Computed)):
        return
    for row in built.rows:
        assert len(row.cells) == len(built.columns)
        for cell in row.cells:
            if cell.runs:
                asked = {e.name for e in cell.runs[0].evaluations()}
                assert cell.evaluation.partition("@")[0] in asked, (row.label, cell.evaluation)
                assert len({spec.seed for spec in cell.runs}) == len(cell.runs)


@pytest.mark.parametrize("paper, name", [e for e in EVERY if e not in (("doodle", "table1"), ("doodle", "confusions"))])
def test_reference_rows_stand_in_every_table_of_methods(paper, name):
    built = chapters.load(paper).TABLES[name](EMBEDDED)
    if name in ("switches", "readings") or (paper, name) == ("strad", "table2"):  # compared with a row of their own
        return
    for group in {row.group for row in built.rows}:
        labels = [row.label for row in built.rows if row.group == group]
        assert set(labels) >= {"Chance", "Frozen features", "Frozen, means removed"}, (group, labels)


def test_printed_numbers():
    """A few, read in the papers."""

    def shown(table, label, group="", column=0):
        row = next(
            r for r in table.rows if r.label == label and r.group == group and r.cells[column].reported is not None
        )
        return row.cells[column].reported

    assert (
        shown(doodle.table2(EMBEDDED), "Doodle to Search", "Sketchy") == 0.3691
        and shown(doodle.table2(EMBEDDED), "CVAE", "QuickDraw", 1) == 0.006
    )
    assert shown(doodle.table3(EMBEDDED), "Triplet + attention + semantic", "QuickDraw") == 0.0693
    assert shown(stl.table3(EMBEDDED), "Ranking + semantic: STL, inductive", "TU-Berlin") == 0.138
    assert printed("stl", table="table1", method="stl", dataset="tuberlin", metric="prec_100")[:2] == (0.498, 0.005)
    assert shown(strad.table1(EMBEDDED), "STRAD (S)", "TU-Berlin") == 0.301
    assert [cell.reported for cell in strad.table2(EMBEDDED).rows[2].cells] == [
        0.472,
        None,
        0.427,
        0.461,
    ]  # no sketch space without its loss


def test_seeds_are_those_that_the_captions_say():
    def seeds(rows, label, group):
        return [spec.seed for spec in next(r for r in rows if r.label == label and r.group == group).runs]

    assert all(len(cell.runs) in (0, 1, 3, 5) for row in stl.table1(EMBEDDED).rows for cell in row.cells)
    assert all(seeds(stl.table1(EMBEDDED).rows, "STL", view) == [0, 1, 2, 3, 4] for view in map(TITLES.get, stl.VIEWS))
    rows = strad.table1(EMBEDDED).rows
    assert all(
        seeds(rows, label, view) == [1, 2, 3, 4, 5]
        for label in ("Simple DB", "STRAD (D)", "STRAD (S)")
        for view in map(TITLES.get, strad.VIEWS)
    )
    assert [
        len(seeds(rows, label, "Sketchy")) for label in ("SaN (own network)", "SAKE (S)", "Doodle to Search (D)")
    ] == [1, 3, 3]
    assert [
        len(seeds(rows, label, "QuickDraw")) for label in ("SaN (own network)", "SAKE (S)", "Doodle to Search (D)")
    ] == [1, 1, 3]


def test_strad_is_fed_from_the_run_that_stands_in_the_table():
    """Simple DB's row is the first stage of STRAD (D): the same run, not another like it."""
    for backbone in ("db", "sb"):
        for fed, first in zip(strad.strad(EMBEDDED, "sketchy", backbone), strad.simple(EMBEDDED, "sketchy", backbone)):
            assert fed.features_spec().key == first.key
            assert fed.features_spec().options["shared"] == (backbone == "sb")


def test_no_row_but_the_marked_one_is_selected_on_test_classes():
    for paper, name in EVERY:
        for row in getattr(chapters.load(paper).TABLES[name](EMBEDDED), "rows", ()):
            for spec in getattr(row, "runs", ()):
                assert (spec.recipe["selection"] == "test") == (row.mark == "oracle"), (paper, name, row.label)


def test_first_stages_come_first_in_the_batch():
    keys = [spec.key for spec in chapters.runs_of("embedded", "strad")]
    assert len(set(keys)) == len(keys)
    for spec in chapters.runs_of("embedded", "strad"):
        if spec.features:
            assert keys.index(spec.features_spec().key) < keys.index(spec.key)


def test_data_statistics_are_counted():
    rows = {row[0]: row[1:] for row in doodle.table1(EMBEDDED).rows}
    task = data.zs_sbir(data.emoji("quickdraw"), data.splits.load("emoji"), "sketch", "photo")
    labels = task.training.manifest.samples.class_name.to_numpy()
    assert rows["Comparisons in test, every pair"][5] == f"{len(task.query) * len(task.gallery):,}"
    same = sum((labels[task.gallery] == labels[q]).sum() for q in task.query)
    assert rows["Comparisons in test, as printed: pairs of one class"][4:] == ("166,000,000", f"{same:,}")


# ----------------------------------------------------------------------------------------------------------- rendering


@pytest.fixture
def records(small, tmp_path, monkeypatch):
    monkeypatch.setenv("UCDR_HOME", str(tmp_path))
    specs = tuple(
        TrainSpec.from_mapping({**small, "method": "frozen", "recipe": {}, "seed": seed}) for seed in range(2)
    )
    return specs, [Store().make(spec, progress=False) for spec in specs]


def test_a_table_prints_mean_spread_quotation_and_dash(records):
    specs, made = records
    asked = "zs_sbir:sketch:unseen"
    rows = (Row("run", (Cell(specs, asked, "map_all", 0.5, 0.01),)), Row("quoted", (Cell((), asked, "map_all", 0.25),)))
    text = tables.render(Table("paper", "name", "Caption.", (("Paper", "Ours"),), rows), Store(), "embedded").text
    own = np.mean([record.scores(asked)["map_all"] for record in made])
    assert f"|run|0.500 ± 0.010|{own:.3f} ± 0.000|" in text and "|quoted|0.250|—|" in text
    assert ":name: paper-name" in text and "2 runs" in text
    assert "†" not in text  # a legend only for the marks that stand in the table


def test_runs_of_different_numbers_of_seeds_are_not_paired(records):
    _, made = records
    with pytest.raises(ValueError, match="cannot be paired"):
        statistics.over_classes([(made * 2, [*made, made[0]], "zs_sbir:sketch:unseen")], "map_all")


def test_the_readme_and_the_book_name_every_paper():
    from ucdr_core import paths

    index = (paths.REPOSITORY / "book" / "index.md").read_text()
    for paper in chapters.PAPERS:
        assert re.search(rf"/notebooks/{paper}/2_tables", index)


def test_defaults_are_complete():
    from ucdr_core.methods import METHODS

    for method in METHODS:
        for real in (False, True):
            TrainSpec.from_mapping({"method": method, **frozen_defaults(method, real)})
        assert method in DEFAULTS


@pytest.mark.parametrize("tier", TIERS)
def test_sakes_rows_are_its_authors_recipe_and_snmpnets_rerun(tier):
    """The rerun has the Euclidean margin and inverted sketches; w/o label it lacks the indicator, and nothing else."""
    published, rerun, no_label, small = (
        tier_of(tier).runs("sake", "sketchy", **snmpnet.SAKE[key][1])[0].mapping()
        for key in ("sake_512", "sake_512_eval", "sake_512_nolabel", "sake_300_nolabel")
    )
    assert published["options"]["classifier"] == "linear" and published["options"]["weight_similarity"] == 0.3
    assert not published["invert_domains"] and rerun["invert_domains"] == ["sketch"]

    def changed(one: dict, other: dict) -> dict:
        return {name: value for name, value in other.items() if value != one[name]}

    assert changed(published["options"], rerun["options"]) == {"classifier": "margin"}
    assert changed(rerun["options"], no_label["options"]) == {"indicator": False}
    assert changed(no_label["options"], small["options"]) == {"dim": 300}
    assert set(changed(rerun, no_label)) == set(changed(no_label, small)) == {"options"}
    for label, row in (("SAKE", published), ("SAKE, w/o label", no_label), ("SAKE, 300, w/o label", small)):
        assert tier_of(tier).system(label, "sketchy", (0,))[0].mapping() == row


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("chapter", [*chapters.PAPERS, *chapters.ACROSS])
def test_every_table_and_claim_can_be_asked_of_every_tier(chapter, tier):
    """A tier without data for a row gives an empty cell, never an error."""
    module = chapters.load(chapter)
    for name, build in module.TABLES.items():
        built = build(tier_of(tier))
        for row in getattr(built, "rows", ()):
            if isinstance(row, Row) and isinstance(built, Table):
                assert len(row.cells) == len(built.columns), (name, row.label)
    for build in module.CLAIMS.values():
        for claim in build(tier_of(tier)):
            assert claim.pairs or tier == "real"


def test_a_missing_run_is_an_empty_cell_with_a_count(records):
    specs, made = records
    asked = "zs_sbir:sketch:unseen"
    absent = TrainSpec.from_mapping({**specs[0].mapping(), "seed": 7})
    rows = (Row("some", (Cell((*specs, absent), asked, "map_all"),)), Row("none", (Cell((absent,), asked, "map_all"),)))
    text = tables.render(Table("paper", "name", "Caption.", (("", "Ours"),), rows), Store(), "paper").text
    mean = np.mean([record.scores(asked)["map_all"] for record in made])
    assert f"|some|{mean:.3f} ± 0.000 (2 of 3 runs)|" in text and "|none|0 of 1 runs|" in text
    assert "2 of 3 runs are there" in text


def test_a_number_on_the_papers_terms_gets_a_verdict(records):
    from ucdr_core.evidence.rows import Terms

    specs, made = records
    asked = "zs_sbir:sketch:unseen"
    mean = float(np.mean([record.scores(asked)["map_200"] for record in made]))
    rows = tuple(
        Row(label, (Cell(specs, asked, "map_200", value, None, Terms("a", variant)),))
        for label, value, variant in (
            ("equal", mean + 0.009, "map_200"),
            ("above", mean + 0.1, "map_200"),
            ("otherwise", mean, "map_200_k"),
        )
    )
    table = Table("paper", "name", "Caption.", (("Paper", "Ours"),), rows, same_terms=True)
    lines = tables.render(table, Store(), "paper").text.splitlines()
    verdicts = {line.split("|")[1]: line.split("|")[4] for line in lines if line.count("|") == 5}
    assert verdicts["equal"] == "as printed" and verdicts["above"] == "lower by 0.100" and verdicts["otherwise"] == ""
