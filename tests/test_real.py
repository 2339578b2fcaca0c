"""The table of real pictures: its committed records are whole, and where the pictures are, training anew gives the same."""
import json
from pathlib import Path

import numpy as np
import pytest

from ucdr_core import paths
from ucdr_core.render import tables
from ucdr_core.data import DataError, splits
from ucdr_core.chapters import pacs, sketchy25
from ucdr_core.chapters.embedded import SYSTEMS
from ucdr_core.evidence.store import Store

BESIDE = Path(__file__).resolve().parents[2] / "shared" / "data"  # a developer's machine


@pytest.fixture
def pictures(monkeypatch):
    import os

    if not os.environ.get("UCDR_DATA") and BESIDE.is_dir():
        monkeypatch.setenv("UCDR_DATA", str(BESIDE))
    root = paths.data("sketchy25")
    if not (root / "sketch").is_dir():
        pytest.skip(f"the pictures are not at {root}")
    return root


def test_committed_records_are_whole():
    content = sketchy25.committed()
    assert list(content["rows"]) == list(SYSTEMS)
    fingerprints = set()
    for label, records in content["rows"].items():
        assert len({record["spec"]["seed"] for record in records}) == len(records)
        for record in records:
            for metric in sketchy25.PER_QUERY:
                mean = record["result"]["scores"][sketchy25.ASKED][metric]
                assert np.mean(record[metric]) == pytest.approx(mean, abs=1e-4), (label, metric)
            assert record["spec"]["recipe"]["selection"] == "val" and "data_root" not in record["spec"]
            fingerprints.add(record["result"]["data"]["fingerprint"])
    assert len(fingerprints) == 1
    assert "/work/" not in json.dumps(content) and "/home/" not in json.dumps(content)


def test_training_helps_on_real_pictures():
    """Frozen features .15, and at least .25 for the best trained method that has not seen the gallery."""
    rows = sketchy25.committed()["rows"]
    score = {label: np.mean([r["result"]["scores"][sketchy25.ASKED]["map_all"] for r in own]) for label, own in rows.items()}
    assert max(score["SnMpNet"], score["Simple SB"], score["Doodle to Search"], score["STL, inductive"], score["STRAD (S)"]) >= 0.25 > score["Frozen features"]


def test_the_tables_say_where_they_come_from():
    text = tables.table("sketchy25", "main").text
    assert "Committed records" in text and "make real" in text
    assert "door" in tables.table("sketchy25", "confusions").text


def test_missing_pictures_are_named(tmp_path):
    with pytest.raises(sketchy25.DataError, match="there is no sketchy25 at .*UCDR_DATA"):
        sketchy25.specs(tmp_path)


def test_the_pictures_are_the_ones_of_the_records(pictures):
    spec = sketchy25.specs()["Frozen features"][0]
    committed = sketchy25.committed()["rows"]["Frozen features"][0]
    assert spec.manifest().fingerprint == committed["result"]["data"]["fingerprint"]


@pytest.mark.real
@pytest.mark.gate
@pytest.mark.parametrize("label", SYSTEMS)
def test_training_anew_gives_the_committed_scores(pictures, label):
    """Single precision: another processor may stop in another epoch, so seeds are compared by their mean, within 0.02."""
    committed = [r["result"]["scores"][sketchy25.ASKED]["map_all"] for r in sketchy25.committed()["rows"][label]]
    anew = [Store().need(spec).scores(sketchy25.ASKED)["map_all"] for spec in sketchy25.specs()[label]]
    assert np.mean(anew) == pytest.approx(np.mean(committed), abs=0.02)



# ---------------------------------------------------------------------------------------------------------------- PACS

def test_committed_records_of_pacs_are_whole():
    content = pacs.committed()
    score = pacs.scores("main")
    assert set(score) == {(m, d, c, 0) for m in pacs.METHODS for d in pacs.DOMAINS for c in pacs.CHOICES} and len(pacs.CHOICES) == 21
    assert all(0 <= value <= 1 for value in score.values())
    for record in content["main"]:
        method, held_out, unseen, _ = record["is"]
        assert set(record["counts"]) == {"queries", "gallery"} and min(record["counts"].values()) > 100
    assert "/work/" not in json.dumps(content) and "/home/" not in json.dumps(content)


def test_counts_of_pacs_are_those_of_the_data_set():
    """Dogs and elephants, photos left out: 189 + 202 queries, 379 + 255 paintings."""
    counts = {(r["is"][1], tuple(r["is"][2])): r["counts"] for r in pacs.committed()["main"] if r["is"][0] == "frozen"}
    assert counts["photo", ("dog", "elephant")] == {"queries": 391, "gallery": 634}
    assert counts["sketch", ("house", "person")] == {"queries": 240, "gallery": 712}


def test_half_precision_is_within_the_spread_of_seeds():
    """The same seed in float32 and bfloat16, against two seeds in float32: mean differences over all hold-outs."""
    score = pacs.scores("precision")
    pairs = {what[1:3] for what in score}
    between_precisions = np.mean([abs(score["bfloat16", *pair, 0] - score["float32", *pair, 0]) for pair in pairs])
    between_seeds = np.mean([abs(score["float32", *pair, seed] - score["float32", *pair, 0]) for pair in pairs for seed in (1, 2)])
    assert between_precisions <= between_seeds


def test_a_split_of_pacs_is_named_by_its_unseen_classes():
    split = splits.load("pacs_without_dog_horse")
    assert split.test == ("dog", "horse") and len(split.train) == 5 and split.val == ()
    with pytest.raises(DataError, match="PACS has no class 'cat'"):
        splits.load("pacs_without_cat_dog")
