"""What a training step sees, against the definitions."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from ucdr_core import data
from ucdr_core.data import published
from ucdr_core.methods import METHODS
from ucdr_core.methods.doodle import ramp, semantic_negatives
from ucdr_core.training.batches import Batches, own_photos


class Asks:
    """What Batches needs to know of a method."""

    def __init__(self, batches, unlabelled=False, probabilities=None, **options):
        self.batches, self.wants_unlabelled, self.probabilities = batches, unlabelled, probabilities
        self.options = SimpleNamespace(**options)

    def negative_classes(self):
        return self.probabilities


@pytest.fixture
def training(tree):
    manifest = data.folders(tree)
    split = data.Split("test", ("bird", "car", "cat", "dog"), ("fish",), ("house", "moon", "tree"))
    return data.protocols.training(manifest, split, ("sketch", "photo"), "photo")


def epoch(batches, seed=0):
    return list(batches.epoch(np.random.default_rng(seed), np.random.default_rng(seed + 1)))


def test_triplets(training):
    batches = Batches(Asks("triplets"), training, 5)
    names, domains = (training.manifest.samples[c].to_numpy() for c in ("class_name", "domain"))
    steps = epoch(batches)
    assert len(steps) == batches.steps == 24 // 5
    anchors = np.concatenate([rows[:5] for rows in steps])
    assert len(set(anchors)) == len(anchors) and set(domains[anchors]) == {"sketch"}  # each sketch once as anchor
    for rows in steps:
        a, p, n = rows.reshape(3, -1)
        assert (names[a] == names[p]).all() and (names[a] != names[n]).all()
        assert set(domains[p]) | set(domains[n]) == {"photo"}
        assert set(rows) <= set(training.train)


def test_negative_classes_are_drawn_as_the_method_says(training):
    probabilities = np.zeros((4, 4))
    probabilities[np.arange(4), [1, 2, 3, 0]] = 1
    batches = Batches(Asks("triplets", probabilities=probabilities), training, 8)
    for rows in epoch(batches):
        a, _, n = batches.labels[rows].reshape(3, -1)
        assert (n == (a + 1) % 4).all()


def test_unlabelled_photos_are_negatives_and_a_block_of_their_own_without_a_label(training):
    batches = Batches(Asks("triplets", unlabelled=True), training, 6)
    names, domains = (training.manifest.samples[c].to_numpy() for c in ("class_name", "domain"))
    negatives, last = [], []
    for seed in range(10):
        for rows in epoch(batches, seed):
            blocks = rows.reshape(4, -1)
            negatives += list(blocks[2])
            last += list(blocks[3])
    assert set(names[last]) == {"fish", "house", "moon", "tree"} and set(domains[last]) == {"photo"}
    assert (batches.labels[last] == -1).all()
    share = np.isin(negatives, training.unlabelled).mean()  # 24 of the 24 + 18 photos of other classes
    assert share == pytest.approx(24 / 42, abs=0.08)


def test_pairs_have_one_class(training):
    batches = Batches(Asks("pairs"), training, 6)
    for rows in epoch(batches):
        sketches, photos = rows.reshape(2, -1)
        assert (
            (batches.labels[sketches] == batches.labels[photos]).all()
            and batches.photos[photos].all()
            and not batches.photos[sketches].any()
        )


def test_quadruplets_have_another_photo_of_the_class_and_one_of_another(training):
    batches = Batches(Asks("quadruplets"), training, 6)
    seen = []
    for seed in range(5):
        for rows in epoch(batches, seed):
            sketches, paired, unpaired, negatives = rows.reshape(4, -1)
            labels = batches.labels[sketches]
            assert not batches.photos[sketches].any() and batches.photos[rows[6:]].all()
            assert (batches.labels[paired] == labels).all() and (batches.labels[unpaired] == labels).all()
            assert (paired != unpaired).all() and (batches.labels[negatives] != labels).all()
            seen += list(unpaired)
    assert set(seen) == {row for row in training.train if batches.photos[row]}  # each can be the other one


# ----------------------------------------------------------------------------------------------- a sketch's own photo

SKETCHY_SYNSETS = {"airplane": "n02691156", "alarm_clock": "n02694662", "ant": "n02219486", "ape": "n02470325"}


@pytest.fixture(scope="module")
def sketchy(tmp_path_factory):
    """Sketchy in one of its published layouts, four classes: the photos of the database, those of the extension, which
    have names of other kinds, and three sketches of each photo of the database but the last, which is not there."""
    root = tmp_path_factory.mktemp("sketchy")
    picture = Image.new("L", (8, 8), 255)
    for name, synset in SKETCHY_SYNSETS.items():
        sketches, photos = (
            root / folder / name for folder in ("256x256/sketch/tx_000000000000", "EXTEND_image_sketchy")
        )
        for folder in (sketches, photos):
            folder.mkdir(parents=True)
        for photo in (58, 1234, 10151):
            for sketch in (1, 2, 13):
                picture.save(sketches / f"{synset}_{photo}-{sketch}.png")
            if photo != 10151:
                picture.save(photos / f"{synset}_{photo}.jpg")
        for number in range(4):
            picture.save(photos / f"ext_{number}.jpg")
    manifest = published.load("sketchy", root)
    split = data.Split("test", ("airplane", "alarm_clock"), ("ant",), ("ape",))
    return data.protocols.training(manifest, split, ("sketch", "photo"), "photo")


def stems(training, rows):
    return [path.split("/")[-1].rsplit(".", 1)[0] for path in training.manifest.samples.path.iloc[rows]]


def test_a_sketchy_sketch_is_paired_with_the_photo_that_it_was_drawn_from(sketchy):
    batches, drawn_from = Batches(Asks("pairs", pairs="own"), sketchy, 5), {}
    for seed in range(6):
        for rows in epoch(batches, seed):
            sketches, photos = rows.reshape(2, -1)
            assert batches.photos[photos].all() and (batches.labels[sketches] == batches.labels[photos]).all()
            for sketch, photo in zip(stems(sketchy, sketches), stems(sketchy, photos)):
                drawn_from.setdefault(sketch, set()).add(photo)
    assert len(drawn_from) == 2 * 9
    for sketch, photos in drawn_from.items():
        if "_10151-" in sketch:  # its photo is missing: any of its class, the extension's too
            assert len(photos) > 1
        else:
            assert photos == {sketch.rsplit("-", 1)[0]}


def test_own_photos_are_among_those_that_are_trained_on(sketchy):
    photos = sketchy.manifest.rows(["photo"])
    own = own_photos(sketchy.manifest, photos[:0])
    assert (own == -1).all()
    own = own_photos(sketchy.manifest, photos)
    sketches = sketchy.manifest.rows(["sketch"])
    assert (own[sketches] >= 0).sum() == 4 * 2 * 3 and set(own) - {-1} <= set(photos)


def test_where_nothing_tells_a_pair_it_is_of_one_class(training):
    """The tree's domains share file names, of emoji; its data set does not say that these are pairs."""
    own, of_class = (Batches(Asks("pairs", pairs=pairs), training, 6) for pairs in ("own", "class"))
    assert all((a == b).all() for a, b in zip(epoch(own), epoch(of_class)))


def test_sketchys_analogue_pairs_the_same_emoji():
    split = data.splits.load("emoji")
    for view, paired in (("sketchy", True), ("tuberlin", False), ("quickdraw", False)):
        training = data.protocols.training(data.emoji(view), split, ("sketch", "photo"), "photo")
        batches = Batches(Asks("pairs", pairs="own"), training, 20)
        same = [
            a == b
            for rows in epoch(batches)
            for a, b in zip(*(stems(training, block) for block in rows.reshape(2, -1)))
        ]
        assert np.mean(same) > 0.95 if paired else np.mean(same) < 0.5, view


def test_pairs_take_as_many_draws_in_either_reading(sketchy):
    """So that what is drawn after them, and every other method's batches, is the same."""
    randoms = []
    for pairs in ("own", "class"):
        random = np.random.default_rng(1)
        list(Batches(Asks("quadruplets", pairs=pairs), sketchy, 5).epoch(np.random.default_rng(0), random))
        randoms.append(random.bit_generator.state)
    assert randoms[0] == randoms[1]


def test_the_same_seed_draws_the_same_batches(training):
    batches = Batches(Asks("triplets"), training, 6)
    assert all((a == b).all() for a, b in zip(epoch(batches), epoch(batches)))
    assert any((a != b).any() for a, b in zip(epoch(batches), epoch(batches, 9)))


def test_missing_parts_are_named(tree):
    manifest = data.folders(tree)
    split = data.Split("test", ("bird", "car"), ("fish",), ("tree",))
    alone = data.protocols.training(manifest, split, ("photo",), "photo")
    with pytest.raises(data.DataError, match="no training sketch"):
        Batches(Asks("pairs"), alone, 6)
    samples = manifest.samples[~((manifest.samples.domain == "photo") & (manifest.samples.class_name == "bird"))]
    fewer = data.Manifest("fewer", manifest.root, samples)
    with pytest.raises(data.DataError, match="classes without a training photo .* bird;"):
        Batches(Asks("pairs"), data.protocols.training(fewer, split, ("sketch", "photo"), "photo"), 6)


def test_semantic_negatives_by_hand():
    """Classes at 0, 0.1 and 1 on a line, scale 0.1: squared distances 0.01 and 1 from the first."""
    p = semantic_negatives(np.array([[0.0], [0.1], [1.0]]), 0.1)
    first = np.exp([-0.1, -10.0])
    np.testing.assert_allclose(p[0], [0, *(first / first.sum())])
    np.testing.assert_allclose(p.sum(1), 1)
    assert (np.diag(p) == 0).all()
    # Long vectors: the nearest class is certain, and nothing underflows.
    far = semantic_negatives(np.array([[0.0], [10.0], [20.0]]), 0.1)
    np.testing.assert_allclose(far, [[0, 1, 0], [0.5, 0, 0.5], [0, 1, 0]])


def test_the_ramp_of_the_paper():
    assert [ramp(i) for i in (0, 5, 6, 15, 25, 1000)] == [0, 0, 0.05, 0.5, 1, 1]


def test_doodle_asks_for_hard_negatives_unless_told_otherwise():
    import torch

    vectors = torch.eye(3, 4, dtype=torch.float64)
    made = {
        kind: METHODS["doodle"](torch.nn.Sequential(), 8, vectors, METHODS["doodle"].Options(dim=4, negatives=kind))
        for kind in ("semantic", "uniform")
    }
    np.testing.assert_allclose(made["semantic"].negative_classes(), (1 - np.eye(3)) / 2)
    assert made["uniform"].negative_classes() is None


def test_a_batch_of_domains_may_be_mostly_photos(training):
    """SAKE's 1/3 sketches and 2/3 photos; the epoch ends when the photos are used once."""
    batches = Batches(Asks("domains"), training, 9, photo_share=2 / 3)
    photos = training.manifest.samples.domain.to_numpy() == "photo"
    steps = epoch(batches)
    assert len(steps) == 24 // 6 and all(photos[rows].sum() == 6 and len(rows) == 9 for rows in steps)
    assert sorted(np.concatenate(steps)[photos[np.concatenate(steps)]]) == sorted(
        row for row in training.train if photos[row]
    )
    with pytest.raises(data.DataError, match="photo_share is of batches of domains"):
        Batches(Asks("triplets"), training, 9, photo_share=2 / 3)
