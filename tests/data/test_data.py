"""Manifests, splits and protocols against their definitions; the embedded data set against its card."""

import hashlib
import json
import re
from dataclasses import replace

import numpy as np
import pytest

from ucdr_core import data, paths
from ucdr_core.data import protocols, splits
from ucdr_core.methods import semantics

PUBLISHED = {  # train, validation, test
    "sketchy_yelamarthi": (93, 11, 21),
    "sketchy_random25": (90, 10, 25),
    "tuberlin_random30": (200, 20, 30),
    "quickdraw_extended": (72, 8, 30),
    "tuberlin_strad64": (186, 0, 64),
    "domainnet": (245, 55, 45),
}
EMOJI = {
    "doodle": 1250,
    "emojione_mono": 521,
    "emojione_v1": 441,
    "fluent_3d": 617,
    "noto": 625,
    "noto_line": 618,
    "noto_v1": 522,
    "openmoji_line": 625,
    "twemoji": 624,
}


# -------------------------------------------------------------------------------------------------------- embedded data


def test_emoji_has_the_counts_and_the_bytes_of_its_card():
    manifest = data.emoji()
    assert manifest.samples.domain.value_counts().to_dict() == EMOJI
    assert len(manifest.classes) == 70
    digest = hashlib.sha256(manifest.root.read_bytes()).hexdigest()
    assert digest == "f8349dc4364db42fba350b96b9e28e52f7c1df886343f010139d505b806d9ff9"
    assert manifest.root.stat().st_size < 15e6


def test_every_emoji_image_is_96_px_and_not_blank():
    pixels = np.asarray(data.images.packed(data.emoji(), 96, progress=False))
    assert pixels.shape == (sum(EMOJI.values()), 96, 96, 3)
    assert (pixels.reshape(len(pixels), -1).min(1) <= 200).all()


def test_every_emoji_set_has_its_licence():
    text = (paths.PACKAGE / "data" / "emoji_domains" / "LICENSES.md").read_text()
    for domain in EMOJI:
        entry = re.search(rf"^## {domain}\n(.*?)(?=^## )", text, re.M | re.S).group(1)
        for field in ("Set:", "Package:", "Licence:", "Attribution:", "Changed:"):
            assert field in entry, (domain, field)


def test_every_emoji_class_has_its_own_class_vector():
    vectors = semantics.class_vectors(data.emoji().classes)
    distance = np.linalg.norm(vectors[:, None] - vectors[None], axis=2) + np.eye(70)
    assert vectors.shape == (70, 50) and distance.min() > 0.5


def test_emoji_split_covers_every_class_once():
    split = splits.load("emoji").resolve(data.emoji())
    assert [len(p) for p in (split.train, split.val, split.test)] == [45, 7, 18]
    assert sorted((*split.train, *split.val, *split.test)) == data.emoji().classes


def test_views_share_no_drawing_between_domains():
    twins = [{"openmoji_line", "doodle"}, {"noto_line", "noto"}]
    for name, (domains, why) in data.EMOJI_VIEWS.items():
        used = {source for sources in domains.values() for source in sources}
        assert all(len(used & pair) < 2 for pair in twins), name
        assert why.endswith(".")
        assert sorted(data.emoji(name).domains) == sorted(domains)


def test_the_builder_writes_the_same_bytes(tmp_path):
    pytest.importorskip("resvg_py", reason="the builder's packages are an extra: pip install 'ucdr-core[emoji]'")
    from ucdr_core.data.emoji_domains.build import build

    build(tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == data.emoji().root.read_bytes()


@pytest.mark.parametrize(
    "name, text",
    [
        ("emoji", "EmojiDomains, all nine domains"),
        ("emoji-tuberlin", f"analogue of TU-Berlin-Extended, emoji art: {data.EMOJI_VIEWS['tuberlin'][1]}"),
        ("quickdraw", "QuickDraw-Extended, 110 classes; domains sketch, photo"),
        ("sketchy25", data.SMALL_SETS["sketchy25"]),
        ("folders", "own pictures, <domain>/<class>/<image file>"),
    ],
)
def test_a_data_set_is_described(name, text):
    assert data.describe(name) == text


def test_every_data_set_has_a_description_and_no_other_name():
    assert all(data.describe(name) for name in data.names())
    with pytest.raises(data.DataError, match="unknown data set 'emoji-pacs'; known: emoji, "):
        data.describe("emoji-pacs")


# --------------------------------------------------------------------------------------------------------------- splits


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_splits_have_their_sizes_and_a_source(name):
    split = splits.load(name)
    assert (len(split.train), len(split.val), len(split.test)) == PUBLISHED[name]
    assert split.source


def test_overlapping_parts_are_named(tmp_path):
    path = tmp_path / "s.json"
    path.write_text(json.dumps({"train": ["a", "hot air"], "val": ["b"], "test": ["hot-air"]}))
    with pytest.raises(data.DataError, match=r"hot_air.*both 'train' and 'test'"):
        splits.load(path)


@pytest.mark.parametrize(
    "content, message",
    [
        ("{", "no split file"),
        ('{"train": ["a"]}', "'test'"),
        ('{"train": "ab", "test": ["c"]}', "train must be a list"),
        ('{"train": ["a"], "test": []}', "no classes in 'test'"),
        ('{"train": ["a", "a"], "test": ["b"]}', "more than once"),
        ("[]", "no split file"),
    ],
)
def test_broken_split_files_are_named(tmp_path, content, message):
    path = tmp_path / "broken.json"
    path.write_text(content)
    with pytest.raises(data.DataError, match=message):
        splits.load(path)


def test_a_class_that_the_data_lacks_is_named(tree):
    split = data.Split("mine", ("cat", "unicorn"), (), ("dog",))
    with pytest.raises(data.DataError, match="unicorn"):
        split.resolve(data.folders(tree))


def test_class_names_meet_whatever_separates_their_words():
    manifest = data.emoji()
    split = data.Split("mine", ("cat",), (), ("dog",))
    renamed = manifest.samples.assign(class_name=manifest.samples.class_name.replace({"cat": "wild cat"}))
    assert replace(split, train=("wild_cat",)).resolve(replace(manifest, samples=renamed)).train == ("wild cat",)


def test_drawn_splits_depend_on_names_and_seed_alone(tree):
    classes = data.folders(tree).classes
    one = splits.draw(classes, seed=3)
    assert one == splits.draw(reversed(classes), seed=3)
    assert one != splits.draw(classes, seed=4)
    assert [len(p) for p in (one.test, one.val)] == [2, 1]  # a quarter, an eighth of eight


def test_drawn_splits_are_stored_and_found_again(tree):
    manifest = data.folders(tree)
    first = splits.for_manifest(manifest, None)
    assert [p for p in paths.drawn_splits().glob("*.json") if p.stem == first.name]
    assert splits.for_manifest(manifest, None) == first


def test_folds_partition_the_classes():
    folds = splits.folds(splits.load("emoji"), 5)
    assert sorted(c for fold in folds for c in fold.test) == data.emoji().classes
    assert all(len(fold.val) == 7 for fold in folds)


# ------------------------------------------------------------------------------------------------------------ manifests


def test_folders_leave_out_what_is_no_image(tree):
    manifest = data.folders(tree)
    assert manifest.domains == ["clipart", "photo", "sketch"] and len(manifest) == 3 * 8 * 6


@pytest.mark.parametrize("make", [lambda p: p / "missing", lambda p: p])
def test_a_folder_without_images_is_named(tmp_path, make):
    with pytest.raises(data.DataError, match=re.escape(str(tmp_path))):
        data.folders(make(tmp_path))


def test_an_unreadable_image_is_named(tree, tmp_path):
    import shutil

    root = tmp_path / "copy"
    shutil.copytree(tree, root)
    (root / "photo" / "cat" / "broken.png").write_bytes(b"no image")
    with pytest.raises(data.DataError, match="broken.png"):
        data.images.packed(data.folders(root), 32, progress=False)


def test_transparent_images_are_laid_on_white(tmp_path):
    from PIL import Image

    folder = tmp_path / "photo" / "cat"
    folder.mkdir(parents=True)
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(folder / "clear.png")
    assert np.asarray(data.images.read(data.folders(tmp_path), 0)).min() == 255


def test_the_fingerprint_follows_the_list_not_its_order(tree, tmp_path):
    import shutil

    shutil.copytree(tree, tmp_path / "copy")
    assert data.folders(tmp_path / "copy").fingerprint == data.folders(tree).fingerprint
    next((tmp_path / "copy" / "photo" / "cat").glob("[0-9A-F]*.png")).unlink()
    assert data.folders(tmp_path / "copy").fingerprint != data.folders(tree).fingerprint


# ------------------------------------------------------------------------------------------------------------ protocols


@pytest.fixture(scope="module")
def world():
    return data.emoji("domainnet"), splits.load("emoji")


def all_but(domain):
    """The domains of the analogue of DomainNet that are trained on where this one is held out."""
    return tuple(other for other in data.EMOJI_VIEWS["domainnet"][0] if other != domain)


def parts(manifest, rows):
    chosen = manifest.samples.iloc[rows]
    return set(chosen.domain), set(chosen.class_name)


def test_ucdr_asks_unseen_classes_from_an_unseen_domain(world):
    manifest, split = world
    task = data.ucdr(manifest, split, all_but("sketch"), "sketch", "real", gallery_held_out=0.25)
    train_domains, train_classes = parts(manifest, task.train)
    assert train_domains == set(all_but("sketch")) and train_classes == set(split.train)
    assert parts(manifest, task.query) == ({"sketch"}, set(split.test))
    assert parts(manifest, task.gallery) == ({"real"}, set(split.test))
    assert parts(manifest, task.val_query) == (train_domains - {"real"}, set(split.val))
    assert parts(manifest, task.val_gallery) == ({"real"}, set(split.val))


def test_seen_and_unseen_gallery_adds_only_photos_kept_out_of_training(world):
    manifest, split = world
    task = data.ucdr(manifest, split, all_but("sketch"), "sketch", "real", gallery="seen+unseen", gallery_held_out=0.25)
    _, classes = parts(manifest, task.gallery)
    assert classes == {*split.test, *split.train}
    assert not set(task.gallery) & set(task.train)


def test_ud_cdr_asks_seen_classes_and_searches_held_out_photos(world):
    manifest, split = world
    task = data.ud_cdr(
        manifest, split, all_but("quickdraw"), "quickdraw", "real", query_share=0.1, gallery_held_out=0.25
    )
    assert parts(manifest, task.query) == ({"quickdraw"}, set(split.train))
    assert parts(manifest, task.gallery) == ({"real"}, set(split.train))
    assert not set(task.gallery) & set(task.train)
    share = (
        manifest.samples.iloc[task.query].class_name.value_counts()
        / manifest.samples.iloc[manifest.rows(["quickdraw"], split.train)].class_name.value_counts()
    )
    assert 0.05 < share.min() and share.max() < 0.15


def test_uc_cdr_asks_unseen_classes_from_a_trained_domain(world):
    manifest, split = world
    task = data.uc_cdr(manifest, split, all_but("sketch"), "quickdraw", "real", gallery_held_out=0.25)
    assert parts(manifest, task.query) == ({"quickdraw"}, set(split.test))


def test_zs_sbir_is_two_domains_and_unseen_classes():
    manifest, split = data.emoji("sketchy"), splits.load("emoji")
    task = data.zs_sbir(manifest, split, "sketch", "photo")
    assert parts(manifest, task.train) == ({"sketch", "photo"}, set(split.train))
    assert parts(manifest, task.query) == ({"sketch"}, set(split.test))


def test_gzs_sbir_in_both_readings():
    manifest, split = data.emoji("sketchy"), splits.load("emoji")
    by_class = data.gzs_sbir(manifest, split, "sketch", "photo", reading="classes")
    _, tested = parts(manifest, by_class.query)
    extra = tested - set(split.test)
    assert len(extra) == 9 and not extra & set(by_class.seen)  # 20% of 45, kept out of training
    by_sample = data.gzs_sbir(manifest, split, "sketch", "photo", reading="samples")
    trained_on = data.gzs_sbir(manifest, split, "sketch", "photo", reading="samples", trained_on=True)
    for domain, part in (("sketch", "query"), ("photo", "gallery")):
        unseen = manifest.rows([domain], split.test)
        added = set(getattr(by_sample, part)) - set(unseen)
        assert set(unseen) < set(getattr(by_sample, part)) and len(added) == round(0.2 * len(unseen))
        assert added == set(getattr(trained_on, part)) - set(unseen)
        classes = {manifest.samples.class_name[row] for row in added}
        assert classes <= set(by_sample.seen) == set(split.train)  # of classes that are trained on
        assert not added & set(by_sample.train) and added <= set(trained_on.train)


def test_what_the_generalised_test_set_asks_is_kept_out_of_training_and_nothing_else():
    manifest, split = data.emoji("sketchy"), splits.load("emoji")
    values = (manifest, split, ("sketch", "photo"), "photo")
    whole, less = protocols.training(*values), protocols.training(*values, samples_left_out=0.2)
    assert set(whole.train) - set(less.train) == set(less.left_out_samples) and set(less.train) < set(whole.train)
    asked = protocols.task_of(less, protocols.Evaluation("gzs_sbir", "sketch", "seen+unseen", reading="samples"))
    assert not set(asked.train) & {*asked.query, *asked.gallery}
    assert {*asked.query, *asked.gallery} >= set(less.left_out_samples)
    assert [e.name for e in protocols.answerable(less)] == [e.name for e in protocols.answerable(whole)]
    assert np.array_equal(less.unlabelled, whole.unlabelled) and np.array_equal(less.val_query, whole.val_query)
    with pytest.raises(data.DataError, match="readings 'classes' and 'samples'"):
        data.gzs_sbir(manifest, split, "sketch", "photo", reading="domains")


def test_no_test_class_is_ever_trained_or_validated(world):
    manifest, split = world
    for domain in all_but("real"):
        task = data.ucdr(manifest, split, all_but(domain), domain, "real", gallery_held_out=0.25)
        for rows in (task.train, task.val_query, task.val_gallery):
            assert not parts(manifest, rows)[1] & set(split.test)


def test_draws_do_not_depend_on_the_order_of_files(world):
    manifest, split = world
    rows = manifest.rows(["real"], split.train)
    drawn = protocols.drawn_share(manifest, rows, 0.25, seed=1)
    one_class = manifest.rows(["real"], [split.train[0]])
    assert set(protocols.drawn_share(manifest, one_class, 0.25, seed=1)) == set(drawn) & set(one_class)
    assert set(protocols.drawn_share(manifest, rows, 0.25, seed=2)) != set(drawn)


@pytest.mark.parametrize(
    "call, message",
    [
        (
            lambda m, s: data.ucdr(m, s, ["real", "sketch"], "sketch", "real"),
            "unseen domain.*'sketch'.*among the training domains",
        ),
        (
            lambda m, s: data.uc_cdr(m, s, ["real", "sketch"], "clipart", "real"),
            "trained domain.*'clipart' is not among",
        ),
        (lambda m, s: data.ucdr(m, s, ["real", "sketch"], "watercolour", "real"), "no domain 'watercolour'"),
        (lambda m, s: data.ucdr(m, s, ["real", "oil"], "sketch", "real"), "no domain 'oil'"),
        (lambda m, s: data.ucdr(m, s, ["clipart"], "sketch", "real"), "gallery domain 'real' is not among"),
        (
            lambda m, s: data.ucdr(m, s, ["real"], "sketch", "real", gallery="seen+unseen", gallery_held_out=0),
            "gallery_held_out",
        ),
        (lambda m, s: data.ucdr(m, s, ["real"], "sketch", "real", gallery="seen"), "has the galleries"),
        (lambda m, s: protocols.Evaluation("retrieval", "sketch"), "unknown protocol"),
    ],
)
def test_protocols_refuse_what_does_not_fit(world, call, message):
    with pytest.raises(data.DataError, match=message):
        call(*world)


def test_an_empty_query_set_is_named(world):
    manifest, split = world
    samples = manifest.samples[
        ~((manifest.samples.domain == "sketch") & manifest.samples.class_name.isin(split.test))
    ].reset_index(drop=True)
    with pytest.raises(data.DataError, match="query set.*empty.*sketch"):
        data.ucdr(replace(manifest, samples=samples), split, ["real", "clipart"], "sketch", "real")


def test_a_split_without_validation_classes_cannot_select(tree):
    from ucdr_core.training.spec import TrainSpec

    path = tree.parent / "noval.json"
    path.write_text(json.dumps({"train": ["cat", "dog", "car", "moon"], "test": ["fish", "tree"]}))
    spec = TrainSpec.from_mapping(
        {
            "method": "cumix",
            "dataset": "folders",
            "data_root": str(tree),
            "split": str(path),
            "size_px": 32,
            "precision": "float32",
        }
    )
    import ucdr_core

    with pytest.raises(data.DataError, match="recipe.selection"):
        ucdr_core.fit(spec, progress=False)
