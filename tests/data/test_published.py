"""The papers' data sets on trees with their true layouts and pitfalls; packing; fetching."""

import io

import numpy as np
import pytest
from PIL import Image

from ucdr_core import cli, data
from ucdr_core.data import images, published, splits
from ucdr_core.data.manifest import DataError


def picture(path, colour=(200, 30, 30), size=(20, 24), mode="RGB", **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).convert(mode).save(path, **options)


@pytest.fixture
def sketchy(tmp_path):
    """Two renderings, the photos of the database, and the extension that holds them again; names with hyphens; stray
    files.
    """
    root = tmp_path / "sketchy"
    for name in ("airplane", "hot-air_balloon", "jack-o-lantern", "car_(sedan)"):
        for rendering in published.RENDERINGS[:2]:
            for number in (1, 2):
                picture(root / "256x256" / "sketch" / rendering / name / f"n01_{name}_7-{number}.png")
        picture(root / "256x256" / "photo" / published.RENDERINGS[0] / name / f"n01_{name}_7.jpg")
        picture(root / "256x256" / "photo" / published.RENDERINGS[0] / name / f"n01_{name}_only_here.jpg")
        picture(root / "EXTEND_image_sketchy" / name / f"n01_{name}_7.jpg")
        picture(root / "EXTEND_image_sketchy" / name / f"ext_{name}.jpg")
    (root / "EXTEND_image_sketchy" / "airplane" / "Thumbs.db").write_bytes(b"x")
    (root / "EXTEND_image_sketchy" / "airplane" / "folder.jpg").mkdir()
    picture(root / "EXTEND_image_sketchy" / "no such class" / "a.jpg")
    return root


def test_sketchy_drops_the_photos_that_stand_twice(sketchy):
    manifest = published.load("sketchy", sketchy)
    counts = manifest.counts()
    assert set(manifest.classes) == {"airplane", "hot_air_balloon", "jack_o_lantern", "car_(sedan)"}
    assert (counts.loc["sketch"] == 2).all() and (counts.loc["photo"] == 3).all()  # both halves once, one rendering
    assert len(manifest.left_out["stands twice"]) == 4 and all(
        "256x256/photo" in path for path in manifest.left_out["stands twice"]
    )
    assert manifest.left_out["no class of the data set"] == ["EXTEND_image_sketchy/no such class"]
    assert manifest.left_out["no picture"] == [
        "EXTEND_image_sketchy/airplane/Thumbs.db",
        "EXTEND_image_sketchy/airplane/folder.jpg",
    ]


def test_another_rendering_is_another_manifest(sketchy):
    one, other = (published.load("sketchy", sketchy, rendering) for rendering in published.RENDERINGS[:2])
    assert len(one) == len(other) and one.fingerprint != other.fingerprint


def test_layouts_of_other_codes_are_found(tmp_path):
    root = tmp_path / "sketchy"
    picture(root / "sketch" / "tx_000000000000" / "airplane" / "a-1.png")
    picture(root / "extended_photo" / "airplane" / "a.jpg")
    assert published.load("sketchy", root).domains == ["photo", "sketch"]


def test_tuberlins_halves_get_one_name(tmp_path):
    root = tmp_path / "tuberlin"
    for sketch, photo in (
        ("hot air balloon", "hotairballoon"),
        ("t-shirt", "tshirt"),
        ("mouse (animal)", "mouse"),
        ("computer-mouse", "computermouse"),
        ("chandelier", "chandeler"),
        ("giraffe", "griaffe"),
        ("wrist-watch", "wristwatching"),
        ("pipe (for smoking)", "pipe"),
        ("space shuttle", "spacesshuttle"),
        ("spider", "spidar"),
        ("diamond", "diamod"),
        ("trombone", "tromobone"),
        ("tablelamp", "table_lamp"),
    ):
        picture(root / "png" / sketch / "1.png")
        picture(root / "ImageResized" / photo / "1.JPEG")
    manifest = published.load("tuberlin", root)
    counts = manifest.counts()
    assert len(manifest.classes) == 13 and (counts == 1).all().all()
    known = {c for part in ("train", "val", "test") for c in getattr(splits.load("tuberlin_random30"), part)}
    assert set(manifest.classes) <= known


def test_quickdraws_palm_tree_is_one_class_and_its_stray_file_none(tmp_path):
    root = tmp_path / "quickdraw"
    for name in ("palm tree", "zebra"):
        picture(root / "QuickDraw_sketches_final" / name / "1.png")
    for name in ("palm_tree", "zebra"):
        picture(root / "QuickDraw_images_final" / name / "1.jpg")
    (root / "QuickDraw_images_final" / "class_labels.txt").write_text("zebra")
    manifest = published.load("quickdraw", root)
    assert len(manifest.classes) == 2 and (manifest.counts() == 1).all().all()


def test_domainnet_has_six_domains(tmp_path):
    root = tmp_path / "domainnet"
    for domain in published.PUBLISHED["domainnet"].layouts:
        picture(root / domain / "The_Eiffel_Tower" / "a.jpg")
    assert published.load("domainnet", root).classes == ["The_Eiffel_Tower"]
    with pytest.raises(DataError, match="has no domain 'sketch' of DomainNet"):
        (root / "sketch").rename(tmp_path / "elsewhere")
        published.load("domainnet", root)


def test_status_says_what_is_missing(sketchy, capsys):
    assert cli.main(["data", "status", "sketchy", "--data-root", str(sketchy)]) == 0
    output = capsys.readouterr().out
    assert "12 pictures in 4 classes, 3 to 3 per class: -72,990 against 73,002 published" in output
    assert (
        "split sketchy_yelamarthi: 121 classes are missing" in output
        and "left out, stands twice: 4 (256x256: 4): " in output
    )


def test_a_missing_data_set_is_said_with_how_to_get_it(tmp_path, capsys):
    assert cli.main(["data", "status", "tuberlin", "--data-root", str(tmp_path / "none")]) == 2
    output = capsys.readouterr().err
    assert (
        "there is no folder" in output
        and "`ucdr data download tuberlin` fetches sketches_png.zip" in output
        and "by hand: ImageResized.zip" in output
    )


def test_every_shipped_split_names_classes_that_its_loader_gives():
    for known in published.PUBLISHED.values():
        for name in known.splits:
            split = splits.load(name)
            names = published._class_names(known)
            assert all(
                published._key(c, known) in names for part in (split.train, split.val, split.test) for c in part
            ), name


# -------------------------------------------------------------------------------------------------------------- packing


@pytest.fixture
def nasty(tmp_path):
    """Everything that has been seen in pictures from the web, beside two good ones."""
    root = tmp_path / "nasty"
    folder = root / "photo" / "cat"
    picture(folder / "good.jpg")
    picture(folder / "ünïcode ☃.png")
    picture(folder / "cmyk.jpg", mode="CMYK")
    Image.fromarray((np.arange(400).reshape(20, 20) * 100).astype(np.uint16)).save(folder / "sixteen bit.png")
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(folder / "animated.gif", save_all=True, append_images=frames[1:])
    picture(folder / "one pixel.png", size=(1, 1))
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(buffer, "jpeg")
    (folder / "truncated.jpg").write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.png").write_text("no picture")
    (folder / "folder.jpg").mkdir()
    return root


def test_what_cannot_be_read_is_listed_never_fatal_never_silent(nasty, capsys):
    assert cli.main(["data", "pack", "folders", "--data-root", str(nasty), "--size-px", "16"]) == 0
    output = capsys.readouterr().out
    assert "6 of 9 pictures at 16 px" in output
    for name in ("truncated.jpg", "empty.jpg", "text.png"):
        assert f"skipped photo/cat/{name}: " in output
    manifest = data.load("folders", nasty)
    assert len(manifest) == 6 and len(manifest.base) == 9  # later runs leave them out, and read the same pack
    pack = images.packed(manifest.base, 16, needed=manifest.base_rows)
    good = manifest.base_rows[manifest.samples.path.str.endswith("good.jpg").to_numpy()]
    assert len(good) == 1 and np.abs(pack[good[0]].astype(int) - (200, 30, 30)).max() <= 3  # JPEG rounds


def test_without_packing_an_unreadable_file_is_an_error_that_names_all(nasty):
    manifest = data.folders(nasty)
    with pytest.raises(images.Unreadable, match="(?s)3 of 9 files.*empty.jpg.*text.png.*truncated.jpg"):
        images.packed(manifest, 17, progress=False)


def test_packing_goes_on_from_where_it_was_cut(tree, monkeypatch):
    manifest = data.folders(tree)
    whole = np.array(images.packed(manifest, 12, progress=False))
    images.pack_file(manifest, 12).unlink()
    read, calls = images.read, []

    def breaks(manifest, row):
        calls.append(row)
        if row == 70:
            raise KeyboardInterrupt
        return read(manifest, row)

    monkeypatch.setattr(images, "read", breaks)
    with pytest.raises(KeyboardInterrupt):
        images.packed(manifest, 12, progress=False)
    first = len(calls)
    calls.clear()
    monkeypatch.setattr(images, "read", lambda manifest, row: (calls.append(row), read(manifest, row))[1])
    np.testing.assert_array_equal(images.packed(manifest, 12, progress=False), whole)
    assert 0 < len(calls) < len(manifest) and first + len(calls) <= len(manifest) + 20
