"""Rankings across papers: standings against the textbook, comparability computed from terms and specs, and every method
above chance."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from ucdr_core import chapters, paths
from ucdr_core.chapters.audit import rows as audit
from ucdr_core.chapters.league import rows as league
from ucdr_core.chapters.snmpnet import rows as snmpnet
from ucdr_core.chapters.stl import rows as stl
from ucdr_core.chapters.strad import rows as strad
from ucdr_core.chapters.systems import IN_THE_SPIRIT, SEEDED, SYSTEMS, mark_of_system
from ucdr_core.chapters.tiers import tier_of
from ucdr_core.evidence import statistics
from ucdr_core.evidence.rows import Cell, Row, Table, Terms, not_comparable
from ucdr_core.evidence.store import Store
from ucdr_core.methods import METHODS
from ucdr_core.methods.doodle import semantic_negatives
from ucdr_core.render import tables

EMBEDDED = tier_of("embedded")

# ---------------------------------------------------------------------------------------------------------- statistics


def each_a_class(values: dict[str, np.ndarray]) -> dict[str, statistics.Answers]:
    """Independent queries: each is the only one of its class."""
    return {name: statistics.Answers(own, np.arange(own.shape[1]).astype(str)) for name, own in values.items()}


def test_the_critical_difference_is_tukeys_for_independent_normal_values():
    """k methods, n queries, no interaction: q(k, inf) sigma / sqrt(n)."""
    values = {f"method {i}": np.random.default_rng(i).standard_normal((1, 2000)) for i in range(6)}
    found = statistics.standings(each_a_class(values), 4000)
    assert found.critical == pytest.approx(stats.studentized_range.ppf(0.95, 6, np.inf) / np.sqrt(2), rel=0.05)
    assert found.typical == pytest.approx(stats.studentized_range.ppf(0.95, 6, np.inf) / np.sqrt(2000), rel=0.08)


def test_what_queries_share_does_not_widen_the_critical_difference():
    """Paired over queries: hard and easy queries are so for all methods."""
    random = np.random.default_rng(0)
    values = {f"method {i}": 0.1 * random.standard_normal((1, 500)) for i in range(4)}
    shared = {name: own + 5 * np.linspace(-1, 1, 500) for name, own in values.items()}
    found = statistics.standings(each_a_class(shared))
    assert found.typical == pytest.approx(statistics.standings(each_a_class(values)).typical, rel=1e-6)
    assert found.methods[0].high - found.methods[0].low > 10 * found.typical


def test_standings_are_sorted_and_name_who_is_not_told_apart():
    noise = 0.01 * np.random.default_rng(0).standard_normal((3, 200))
    values = {
        "middle": 0.5 + noise,
        "low": 0.2 + noise[:, ::-1],
        "middle too": 0.5001 + noise[::-1],
        "high": 0.9 + noise,
    }
    found = statistics.standings(each_a_class(values)).methods
    assert [own.name for own in found] == ["high", "middle too", "middle", "low"]
    assert [own.ranks for own in found] == [(1,), (2, 3), (2, 3), (4,)]
    assert (
        found[0].deviation == pytest.approx(np.std((0.9 + noise).mean(1), ddof=1))
        and found[0].low < found[0].mean < found[0].high
    )
    with pytest.raises(ValueError, match="b was asked 3 queries, others 2"):
        statistics.standings(each_a_class({"a": np.zeros((1, 2)), "b": np.zeros((1, 3))}))


def test_a_method_of_restless_seeds_widens_its_own_differences_alone():
    random = np.random.default_rng(0)
    values = {
        name: mean + 0.05 * random.standard_normal((3, 300)) for name, mean in (("a", 0.5), ("b", 0.4), ("c", 0.3))
    }
    assert [own.ranks for own in statistics.standings(each_a_class(values)).methods] == [(1,), (2,), (3,)]
    values["b"] = values["b"] + np.array([[-0.2], [0], [0.2]])
    found = {own.name: own.ranks for own in statistics.standings(each_a_class(values)).methods}
    assert found == {"a": (1, 2), "b": (1, 2, 3), "c": (2, 3)}


def test_ranks_are_printed_as_ranges():
    assert tables._ranges((1, 2, 3, 7, 9, 10)) == "1–3, 7, 9–10"


@pytest.mark.parametrize("relevant, gallery", [(1, 1), (1, 10), (4, 10), (10, 10), (3, 60)])
def test_the_expected_precision_of_a_random_ranking(relevant, gallery):
    from sklearn.metrics import average_precision_score

    random = np.random.default_rng(0)
    labels = np.arange(gallery) < relevant
    drawn = [average_precision_score(labels, random.random(gallery)) for _ in range(2000)]
    assert statistics.random_average_precision(relevant, gallery) == pytest.approx(
        np.mean(drawn), abs=4 * np.std(drawn) / np.sqrt(2000) + 1e-9
    )


# -------------------------------------------------------------------------------------------------------- comparability


def cell(
    split="a", variant="map_200", quoted="", reported=0.5, runs=(), evaluation="zs_sbir:sketch:unseen", metric="map_all"
):
    return Cell(runs, evaluation, metric, reported, None, Terms(split, variant, quoted))


@pytest.mark.parametrize(
    "other, reasons",
    [
        (cell(), []),
        (cell(split="b"), ["split b instead of a"]),
        (cell(variant="map_200_k"), ["map_200_k instead of map_200"]),
        (cell(variant="?"), ["which definition of the metric is not stated"]),
        (cell(quoted="somebody"), []),
        (cell(split="b", reported=None), []),
        (cell(split="b", variant="map_200_voc"), ["split b instead of a", "map_200_voc instead of map_200"]),
    ],
)
def test_a_printed_number_is_compared_on_equal_terms_alone(other, reasons):
    assert not_comparable(other, cell())[0] == reasons


def test_two_random_splits_are_one_only_where_one_drew_them():
    own = cell(split="random_220_30")
    assert not_comparable(cell(split="random_220_30", quoted="others"), own)[0] == ["another draw of random_220_30"]
    assert not_comparable(cell(split="random_220_30"), own)[0] == []


def test_ours_is_compared_where_data_split_question_and_metric_agree():
    spec = EMBEDDED.runs("snmpnet", "sketchy")[0]
    own = cell(runs=(spec,))
    assert not_comparable(cell(runs=(EMBEDDED.runs("sake", "sketchy")[0],)), own)[1] == []
    assert not_comparable(cell(runs=(replace(spec, dataset="emoji-tuberlin"),)), own)[1] == [
        "data emoji-tuberlin instead of emoji-sketchy"
    ]
    assert not_comparable(cell(runs=(replace(spec, split="emoji_fold0"),)), own)[1] == [
        "split emoji_fold0 instead of emoji"
    ]
    assert not_comparable(cell(runs=(spec,), metric="map_all_voc"), own)[1] == ["metric map_all_voc instead of map_all"]
    for reading, values in stl.READINGS.items():
        asked, (name, share) = stl.generalised(reading), next(iter(values.items()), ("", 0.0))
        assert not_comparable(cell(runs=(replace(spec, **values),), evaluation=asked), own)[1] == [
            f"evaluation {asked} instead of zs_sbir:sketch:unseen",
            *([f"{name.replace('_', ' ')} {share:g} instead of 0"] if name else []),
        ]


def test_what_the_papers_tables_mix_is_marked():
    """From the terms of the printed numbers: CVAE and SAKE's own in SnMpNet's Table 1, the other draws of the classes
    in Table 6, in STL's Table 1 what was quoted; nothing in STRAD's, whose authors ran all rows."""

    def apart(table, group=""):
        own = next(row for row in table.rows if row.label == table.reference_row and row.group == group)
        return {
            row.label
            for row in table.rows
            if row.group == group
            for a, b in zip(row.cells, own.cells)
            if not_comparable(a, b)[0]
        }

    assert apart(snmpnet.table1(EMBEDDED)) == {"CVAE", "SAKE, 512", "Doodle to Search"}
    assert apart(snmpnet.table6(EMBEDDED), "sketchy") == {"SEM-PCYC", "StyleGuide", "SAKE, 512"}
    assert (
        apart(stl.table1(EMBEDDED), "Sketchy")
        == apart(stl.table1(EMBEDDED), "TU-Berlin")
        == {"ZSIH", "SEM-PCYC", "CSDB", "OCEAN"}
    )
    assert apart(strad.table1(EMBEDDED), "Sketchy") == set()


def test_a_definition_divided_by_200_is_never_read_into_a_number_that_excludes_it():
    """mAP@200 divided by 200 is at most Prec@200."""
    pairs = audit.printed_pairs()
    assert len(pairs) > 150 and (pairs[pairs.variant == "map_200_k"].eval("map_200 <= prec_200")).all()
    assert (pairs[pairs.paper == "snmpnet"].query("variant == 'map_200'").eval("map_200 > prec_200")).all()


def test_marks_and_sources_are_printed(small, tmp_path, monkeypatch):
    from ucdr_core.training.spec import TrainSpec

    monkeypatch.setenv("UCDR_HOME", str(tmp_path))
    specs = (TrainSpec.from_mapping({**small, "method": "frozen", "recipe": {}}),)
    Store().make(specs[0], progress=False)
    rows = (
        Row(
            "theirs",
            (cell(variant="map_200_k", quoted="Them 2018", reported=0.25, runs=specs, metric="map_all_voc"),),
            mark="spirit",
        ),
        Row("own", (cell(runs=specs),)),
    )
    text = tables.render(
        Table("paper", "name", "Caption.", (("Paper", "Ours"),), rows, reference_row="own"), Store(), "embedded"
    ).text
    assert (
        "|Method|Quoted from|Paper|Ours|" in text and "|theirs §|Them 2018|0.250 ≠|" in text and "|own||0.500|" in text
    )
    assert "stand on the same terms as the row own: map_200 on a." in text
    assert (
        "≠ theirs, paper's: map_200_k instead of map_200." in text
        and "≠ theirs, ours: metric map_all_voc instead of map_all." in text
    )
    assert "§ In the spirit of a paper" in text


# ------------------------------------------------------------------------------------------------------- what is ranked


def test_every_method_is_in_the_league():
    assert {system.method for system in SYSTEMS.values()} == set(METHODS) - {
        "frozen_whitened"
    }  # a repair, in the chapter of frozen features
    for question, asked in league.QUESTIONS.items():
        built = league.ranking(EMBEDDED, question, "map_all")
        assert {row.label for row in built.rows} == set(SYSTEMS) - set(asked.but)
        for row in built.rows:
            assert asked.evaluation in {e.name for e in row.runs[0].evaluations()}
            of_strad = row.runs[0].method in ("simple", "strad") and question != "domainnet"
            assert [spec.seed for spec in row.runs] in ([[1, 2, 3, 4, 5]] if of_strad else [[0], [0, 1, 2]])
        if question in SEEDED:
            assert {row.runs[0].method for row in built.rows if len(row.runs) > 1} == {"chance", *SEEDED[question]}


def test_those_in_the_spirit_of_others_are_marked_in_every_table():
    marked = {label for label in SYSTEMS if mark_of_system(label) == "spirit"}
    assert marked == {"Xu et al. 2019", "Dutta & Biswas 2019", "SketchGCN", "OCEAN"}
    page = (paths.REPOSITORY / "book" / "in_the_spirit.md").read_text()
    for method in IN_THE_SPIRIT:
        assert f"`{METHODS[method].__module__.split('.')[-1]}.py`" in page
    for paper in chapters.PAPERS:
        for name, build in chapters.load(paper).TABLES.items():
            for row in getattr(build(EMBEDDED), "rows", ()):
                for spec in getattr(row, "runs", ()):
                    assert (spec.method in IN_THE_SPIRIT) == (row.mark == "spirit"), (paper, name, row.label)


def test_the_rows_of_a_paper_and_of_the_league_are_the_same_runs():
    runs = {spec.key for spec in chapters.runs_of("embedded", "league")}
    for label in ("SAKE, 512", "CVAE", "SnMpNet"):
        row = next(row for row in snmpnet.table1(EMBEDDED).rows if row.label == label)
        assert {spec.key for spec in row.runs} <= runs


def test_every_measured_difference_changes_one_thing():
    built = audit.differences(EMBEDDED)
    assert len(built.rows) > 50 and all(row.measured or row.remark for row in built.rows)
    for row in built.rows:
        if row.measured:
            (pair,) = row.measured.pairs
            ours, other = pair.ours[0][0].mapping(), pair.other[0][0].mapping()
            assert [spec.seed for spec in pair.ours[0]] == [spec.seed for spec in pair.other[0]]
            changed = {name for name in ours if ours[name] != other[name]}
            assert changed and changed <= {
                "options",
                "recipe",
                "vectors_normalised",
                "vectors_centred",
                "invert_domains",
            }, (row.point, changed)


def test_perplexity_counts_the_classes_drawn_from():
    np.testing.assert_allclose(audit.perplexity(np.array([[0, 1.0, 0], [0.5, 0.5, 0], [1 / 3] * 3])), [1, 2, 3])
    collapsed = audit.perplexity(semantic_negatives(10 * np.random.default_rng(0).standard_normal((20, 5)), 0.1))
    assert np.median(collapsed) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("question", league.QUESTIONS)
def test_every_trained_method_beats_random_ranking_on_unseen_classes(question):
    """By more than the error of seeds, classes and queries, paired over these: a class of many pictures is easy for
    chance too."""
    store, rows = Store(), {row.label: row for row in league.ranking(EMBEDDED, question, "map_all").rows}

    def above_chance(row: Row) -> statistics.Difference:
        ours, chance = ([store.need(spec) for spec in runs] for runs in (row.runs, rows["Chance"].runs[:1]))
        return statistics.over_classes([(ours, chance, row.cells[0].evaluation)], "map_all")

    assert [label for label, row in rows.items() if label != "Chance" and above_chance(row).low <= 0] == []


def test_interpolated_precision_is_never_below_plain_in_our_rows():
    store = Store()
    for row in snmpnet.table1(EMBEDDED).rows:
        for spec in row.runs:
            scores = store.need(spec).scores("zs_sbir:sketch:unseen")
            assert scores["map_all_voc"] >= scores["map_all"]
