"""Split files of whatever content: a split, or one line that names the file."""

import json

import numpy as np
import pytest

from ucdr_core import data
from ucdr_core.data import DataError, splits
from ucdr_core.training.spec import _named_split

GOOD = {"train": ["cat", "dog"], "val": ["house"], "test": ["moon"]}


@pytest.fixture
def written(tmp_path):
    def write(content):
        path = tmp_path / "own.json"
        text = content if isinstance(content, (str, bytes)) else json.dumps(content)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def test_a_split_file_is_read(written):
    split = splits.load(written({**GOOD, "words": {"cat": "lion"}, "name": "ours", "source": "us"}))
    assert (split.name, split.train, split.words) == ("ours", ("cat", "dog"), {"cat": "lion"})
    assert splits.load(written({"train": ["cat"], "test": ["dog"]})).val == ()


@pytest.mark.parametrize(
    "content, message",
    [
        ("", "not JSON"),
        ("null", "must be a mapping, not null"),
        ("[]", "must be a mapping"),
        ("3", "must be a mapping"),
        ("[" * 100_000, "not JSON"),
        ('{"train":' * 100_000, "not JSON"),
        ("9" * 5000, "not JSON"),
        (b"\xff\xfe{}", "not UTF-8"),
        ('{"train": ["cat"], "train": ["dog"], "test": ["moon"]}', "names 'train' twice"),
        ('{"train": ["\\ud800"], "test": ["moon"]}', "not UTF-8"),
        ({"train": ["cat"]}, "has no 'test'"),
        ({**GOOD, "train": "cat"}, "train must be a list, not text"),
        ({**GOOD, "val": None}, "val must be a list, not null"),
        ({**GOOD, "test": [["moon"]]}, r"test\[0\] must be text, not a list"),
        ({**GOOD, "train": ["cat", 3]}, r"train\[1\] must be text"),
        ({**GOOD, "words": ["cat"]}, "words must be a mapping"),
        ({**GOOD, "words": {"cat": 1}}, "words.cat must be text"),
        ({**GOOD, "name": ["x"]}, "name must be text"),
        ({**GOOD, "vall": ["car"]}, "unknown entries 'vall'"),
        ({**GOOD, "words": {"kat": "lion"}}, "words for 'kat', which no part lists"),
        ({**GOOD, "train": ["cat", "cat"]}, "lists 'cat' more than once"),
        ({**GOOD, "train": ["hot_dog", "hot dog"]}, "more than once"),
        ({**GOOD, "test": ["cat", "moon"]}, "'cat' are in both 'train' and 'test'"),
        ({**GOOD, "val": ["moon"]}, "'moon' are in both 'val' and 'test'"),
        ({**GOOD, "test": []}, "no classes in 'test'"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_no_split_is_refused_in_one_line(written, content, message):
    with pytest.raises(DataError, match=message) as refused:
        splits.load(written(content))
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 500


def test_a_folder_a_missing_file_and_impossible_names_are_refused(tmp_path):
    (tmp_path / "x.json").mkdir()
    for name in (
        tmp_path / "x.json",
        tmp_path / "y.json",
        "~nobody-of-this-name/x.json",
        "x" * 300 + ".json",
        "\0.json",
    ):
        with pytest.raises(DataError, match="is no split file"):
            splits.load(name)
    for name in ("", "emoji2", "../splits/emoji", "x" * 300, "\0", "pacs_without_", "pacs_without_dog_dog"):
        with pytest.raises(DataError):
            splits.load(name)
    for fold in ("5", "-1", "", "\u00b2", "01"):
        with pytest.raises(DataError, match="folds are numbered 0 to 4"):
            _named_split(f"emoji_fold{fold}")


def test_classes_that_the_data_lack_are_named(tree, written):
    with pytest.raises(DataError, match="does not have: 'dragon'"):
        splits.load(written({**GOOD, "val": ["dragon"]})).resolve(data.load("folders", str(tree)))


def test_a_damaged_draw_says_how_to_draw_it_anew(tree, tmp_path, monkeypatch):
    monkeypatch.setenv("UCDR_HOME", str(tmp_path))
    manifest = data.load("folders", str(tree))
    drawn = splits.for_manifest(manifest, None)
    (path,) = (tmp_path / "splits").iterdir()
    path.write_text("")
    with pytest.raises(DataError, match="remove .*seed0.json, and the split is drawn anew"):
        splits.for_manifest(manifest, None)
    path.unlink()
    assert splits.for_manifest(manifest, None) == drawn


@pytest.mark.parametrize("name", ["gallery_held_out", "classes_left_out", "samples_left_out"])
@pytest.mark.parametrize("share", [-0.1, 1.0, np.nan, np.inf])
def test_shares_out_of_their_range_are_refused(tree, name, share):
    manifest = data.load("folders", str(tree))
    with pytest.raises(DataError, match=f"{name} must lie in"):
        data.protocols.training(manifest, splits.draw(manifest.classes), ("sketch", "photo"), "photo", **{name: share})


def test_a_training_domain_twice_is_refused(tree):
    manifest = data.load("folders", str(tree))
    with pytest.raises(DataError, match="name one twice"):
        data.protocols.training(manifest, splits.draw(manifest.classes), ("photo", "sketch", "photo"), "photo")
