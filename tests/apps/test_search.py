"""Search in one's own pictures: framing, the encoder against the records, incremental indexes, what is refused."""

import json
import os

import numpy as np
import pytest
from PIL import Image, ImageDraw

from ucdr_core import cli, data
from ucdr_core.apps import search
from ucdr_core.apps.encoder import PictureEncoder, framed
from ucdr_core.data import DataError
from ucdr_core.evidence import committed
from ucdr_core.evidence.store import Store
from ucdr_core.retrieval.index import nearest_index
from ucdr_core.retrieval.ranking import unit
from ucdr_core.training.spec import TrainSpec


@pytest.fixture
def pictures(tmp_path, tree):
    """A folder of eight photos in two folders, one of them two levels down."""
    folder = tmp_path / "pictures"
    for number, file in enumerate(sorted((tree / "photo").glob("*/[!.]*.png"))[::6]):
        to = folder / ("a" if number % 2 else "b/c") / f"{file.parent.name}.png"
        to.parent.mkdir(parents=True, exist_ok=True)
        to.write_bytes(file.read_bytes())
    return folder


def drawing(size=(200, 120), box=(120, 30, 160, 90)) -> Image.Image:
    image = Image.new("RGB", size, "white")
    ImageDraw.Draw(image).rectangle(box, outline="black", width=4)
    return image


def test_a_drawing_is_cut_out_and_centred_and_a_photo_is_left_alone():
    square = framed(drawing())
    ink = np.argwhere(np.asarray(square).min(2) < 200)
    assert square.size == (73, 73)  # 61 pixels of ink and 8% of the side around it on each
    assert (ink.min(0) >= 5).all() and abs((ink.min(0) + ink.max(0)) - 72).max() <= 1  # in the middle
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 255, (30, 40, 3), np.uint8))
    assert framed(photo) is photo
    white = Image.new("RGB", (20, 10), "white")
    assert framed(white) is white


def test_where_and_how_large_one_draws_does_not_matter():
    here, there = framed(drawing()), framed(drawing((300, 400), (20, 310, 60, 370)))
    np.testing.assert_array_equal(np.asarray(here), np.asarray(there))
    large = framed(drawing().resize((800, 480), Image.Resampling.NEAREST)).resize(here.size, Image.Resampling.BOX)
    assert np.abs(np.asarray(large).astype(int) - np.asarray(here)).mean() < 4


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"method": "strad", "options": {"hidden": 16, "structure": 8, "samples": 2}, "features": {"method": "simple"}},
        {"method": "sake"},
    ],
    ids=["snmpnet", "fed by another run", "sake"],
)
def test_the_encoder_gives_what_the_record_says(small, values):
    mapping = {**small, **values, "recipe": {**small["recipe"], "epochs": 1}}
    if values:
        mapping.pop("embedding_dim")
    record = Store().make(TrainSpec.from_mapping(mapping), progress=False)
    manifest = record.spec.manifest()
    encoder = PictureEncoder(record)
    for domain, photo in (("sketch", False), ("photo", True)):
        rows = manifest.rows([domain], manifest.classes)[:4]
        expected = record.embed(rows)
        embedded = encoder.embed([data.images.read(manifest, row) for row in rows], photo)
        # The record's maps are cached in half precision.
        np.testing.assert_allclose(embedded, expected, atol=0.01 * np.abs(expected).max())


def test_an_index_finds_the_picture_itself_first(record, pictures):
    index = search.Index.build(pictures, record, progress=False)
    assert len(index) == 8 and index.added == 8
    for path in sorted(pictures.rglob("*.png")):
        hits = index.search(path, 3, photo=True)
        assert hits[0].path == path and hits[0].similarity == pytest.approx(1, abs=1e-5)
        assert hits[0].similarity >= hits[1].similarity >= hits[2].similarity
    assert len(index.search(drawing(), 100)) == 8


def test_a_second_build_looks_at_what_changed_only(record, pictures, monkeypatch):
    search.Index.build(pictures, record, progress=False)
    seen = []
    original = data.images.read_file
    monkeypatch.setattr(
        search.images,
        "read_file",
        lambda path: seen.append(path.relative_to(pictures).as_posix()) or original(path),
    )
    files = sorted(pictures.rglob("*.png"))
    assert search.Index.build(pictures, record, progress=False).added == 0 and seen == []
    files[0].write_bytes(files[1].read_bytes())
    os.utime(files[0], ns=(1, 1))
    files[2].unlink()
    Image.new("RGB", (9, 9), "red").save(pictures / "new.png")
    index = search.Index.build(pictures, record, progress=False)
    assert sorted(seen) == sorted([files[0].relative_to(pictures).as_posix(), "new.png"])
    assert (index.added, index.removed, len(index)) == (2, 1, 8)
    again = search.Index.load(pictures)
    fresh = PictureEncoder(record).embed(
        [Image.open(again.folder / name).convert("RGB") for name in again.files], photo=True
    )
    np.testing.assert_allclose(again.embeddings, fresh, atol=1e-5)  # each row is still its own file's


def test_unreadable_files_are_listed_once_and_tried_again_when_they_change(record, pictures):
    broken = pictures / "broken.jpg"
    broken.write_bytes(b"no picture")
    index = search.Index.build(pictures, record, progress=False)
    assert list(index.unreadable) == ["broken.jpg"] and len(index) == 8
    Image.new("RGB", (9, 9), "red").save(broken)
    index = search.Index.build(pictures, record, progress=False)
    assert not index.unreadable and len(index) == 9


def test_a_cut_off_build_goes_on(record, pictures, monkeypatch):
    monkeypatch.setattr(search, "BATCH", 3)
    monkeypatch.setattr(search, "SAVE_SECONDS", 0)
    original, calls = PictureEncoder.embed, []

    def failing(self, images, photo=False):
        calls.append(len(images))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(self, images, photo)

    monkeypatch.setattr(PictureEncoder, "embed", failing)
    with pytest.raises(KeyboardInterrupt):
        search.Index.build(pictures, record, progress=False)
    index = search.Index.build(pictures, record, progress=False)
    assert calls == [3, 3, 2, 2] and len(index) == 8


def test_links_out_of_the_folder_and_hidden_files_are_not_followed(record, pictures, tmp_path):
    Image.new("RGB", (9, 9), "red").save(tmp_path / "outside.png")
    (pictures / "link.png").symlink_to(tmp_path / "outside.png")
    (pictures / ".hidden").mkdir()
    Image.new("RGB", (9, 9), "red").save(pictures / ".hidden" / "x.png")
    assert len(search.Index.build(pictures, record, progress=False)) == 8


def test_what_cannot_be_searched_is_said(record, tmp_path, pictures):
    with pytest.raises(DataError, match="is not a folder"):
        search.Index.build(tmp_path / "nowhere", record)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no picture"):
        search.Index.build(tmp_path / "empty", record)
    with pytest.raises(DataError, match="there is no index of .*empty; make one with `ucdr index"):
        search.Index.load(tmp_path / "empty")
    with pytest.raises(DataError, match="no runs .* begin with 'ffff'"):
        search.record_of("ffff")
    with pytest.raises(DataError, match="begin with '../x'"):
        search.record_of("../x")
    index = search.Index.build(pictures, record, progress=False)
    with pytest.raises(ValueError, match="k must be at least 1"):
        index.search(drawing(), 0)
    with pytest.raises(DataError, match="there is no picture"):
        index.search(tmp_path / "none.png")


def test_a_run_without_weights_is_said_to_be_one():
    """The evidence has the scores of a run, not what one needs to search with it."""
    key = next(iter(committed.runs_of("embedded")))
    with pytest.raises(
        DataError, match=f"weights of run {key} are not in the evidence; `ucdr reproduce .* --only {key}`"
    ):
        search.record_of(key[:12])


def test_a_damaged_index_is_named_and_made_anew(record, pictures, capsys):
    index = search.Index.build(pictures, record, progress=False)
    file = search._file(index.folder, index.run)
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(DataError, match="is no index"):
        search.Index.load(pictures)
    assert len(search.Index.build(pictures, record, progress=False)) == 8
    assert "indexing anew" in capsys.readouterr().out


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "swapped", "another folder's"])
def test_any_damage_to_an_index_is_healed_by_search_and_said(record, pictures, tmp_path, capsys, damage):
    index = search.Index.build(pictures, record, progress=False)
    hits = index.search(drawing(), 8)
    drawing().save(tmp_path / "doodle.png")
    file = search._file(index.folder, index.run)
    content = file.read_bytes()
    rows = np.frombuffer(index.embeddings.tobytes(), np.uint8)
    place = content.find(rows.tobytes())
    assert place > 0
    if damage == "swapped":  # two embeddings
        size = index.embeddings[0].nbytes
        one, two = content[place : place + size], content[place + size : place + 2 * size]
        damaged = content[:place] + two + one + content[place + 2 * size :]
    elif damage == "another folder's":
        (tmp_path / "other").mkdir()
        Image.new("RGB", (9, 9), "red").save(tmp_path / "other" / "red.png")
        other = search.Index.build(tmp_path / "other", record, progress=False)
        damaged = search._file(other.folder, other.run).read_bytes()
    else:
        middle = len(content) // 2
        flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        damaged = {"empty": b"", "cut": content[:-1], "flipped": flipped}[damage]
    file.write_bytes(damaged)
    with pytest.raises(search.DamagedIndex, match="is no index"):
        search.Index.load(pictures)
    arguments = ["search", str(tmp_path / "doodle.png"), "-k", "8", "--folder", str(pictures), "--json"]
    assert cli.main(arguments) == 0
    captured = capsys.readouterr()
    assert [hit["path"] for hit in json.loads(captured.out)] == [str(hit.path) for hit in hits]
    assert captured.err.count("indexing anew") == 1
    assert cli.main(arguments) == 0 and "anew" not in capsys.readouterr().err


def test_an_edit_at_equal_size_and_time_is_noticed(record, pictures, capsys, tmp_path):
    victim = pictures / "a" / "edited.bmp"
    Image.new("RGB", (32, 32), "blue").save(victim)
    before = search.Index.build(pictures, record, progress=False)
    times = victim.stat()
    Image.new("RGB", (32, 32), "red").save(victim)
    os.utime(victim, ns=(times.st_atime_ns, times.st_mtime_ns))
    drawing().save(tmp_path / "doodle.png")
    assert cli.main(["search", str(tmp_path / "doodle.png"), "--folder", str(pictures)]) == 0
    assert "1 of these pictures changed or went since they were indexed" in capsys.readouterr().err
    after = search.Index.build(pictures, record, progress=False)
    assert after.added == 1
    row = list(after.files).index("a/edited.bmp")
    assert np.abs(after.embeddings[row] - before.embeddings[list(before.files).index("a/edited.bmp")]).max() > 1e-3


def test_a_touched_file_is_not_embedded_again(record, pictures, monkeypatch):
    search.Index.build(pictures, record, progress=False)
    for path in pictures.rglob("*.png"):
        path.touch()
    monkeypatch.setattr(PictureEncoder, "embed", lambda *_, **__: pytest.fail("it was embedded"))
    assert search.Index.build(pictures, record, progress=False, rehash=True).added == 0


def test_strange_files_are_listed_and_cost_no_index(record, pictures, capsys):
    (pictures / "loop").symlink_to(".")
    (pictures / "self.png").symlink_to("self.png")
    os.mkfifo(pictures / "pipe.png")
    with open(os.fsencode(pictures) + b"/latin\xe9.png", "wb") as file:
        file.write((pictures / "a").glob("*.png").__next__().read_bytes())
    (pictures / "large.bmp").write_bytes(b"BM" + bytes(16) + (60_000).to_bytes(4, "little") * 2)
    assert cli.main(["index", str(pictures), "--run", record.key]) == 0
    output = capsys.readouterr().out
    assert "8 pictures indexed" in output and "not readable: large.bmp" in output
    for line in ("a link to a folder: 1", "a link that leads nowhere: 1", "no picture: 1", "a name that is not UTF-8"):
        assert f"left out, {line}" in output
    output.encode()


def test_an_index_in_a_folder_whose_name_is_not_utf8(record, tmp_path, capsys):
    folder = os.fsencode(tmp_path) + b"/latin\xe9"
    os.mkdir(folder)
    Image.new("RGB", (9, 9), "red").save(os.fsdecode(folder + b"/red.png"))
    Image.new("RGB", (9, 9), "red").save(tmp_path / "query.png")
    assert cli.main(["index", os.fsdecode(folder), "--run", record.key]) == 0
    assert cli.main(["search", str(tmp_path / "query.png"), "--folder", os.fsdecode(folder), "-k", "1"]) == 0
    assert "red.png" in capsys.readouterr().out


def test_search_by_run_takes_the_index_of_that_run(record, small, pictures, tmp_path, capsys):
    other = Store().make(TrainSpec.from_mapping({**small, "recipe": {**small["recipe"], "epochs": 1}}), progress=False)
    search.Index.build(pictures, record, progress=False)
    (tmp_path / "other").mkdir()
    Image.new("RGB", (9, 9), "red").save(tmp_path / "other" / "red.png")
    search.Index.build(tmp_path / "other", other, progress=False)
    assert search.Index.load().run == other.key
    assert search.Index.load(run=record.key[:8]).run == record.key
    assert search.Index.load(pictures, record.key[:8]).folder == pictures
    drawing().save(tmp_path / "doodle.png")
    assert cli.main(["search", str(tmp_path / "doodle.png"), "--run", "ffff"]) == 2
    assert "there is no index of any folder by run ffff" in capsys.readouterr().err
    assert cli.main(["search", str(tmp_path / "doodle.png"), "--run", "../x"]) == 2


@pytest.mark.parametrize("name, message", [("x.zzz", "must end in one of"), ("x", "must end in"), ("d.png", "folder")])
def test_a_name_that_cannot_be_saved_to_is_refused_before_the_work(tmp_path, capsys, monkeypatch, name, message):
    monkeypatch.setattr(search.Index, "load", lambda *_: pytest.fail("it was loaded"))
    (tmp_path / "d.png").mkdir()
    drawing().save(tmp_path / "doodle.png")
    assert cli.main(["search", str(tmp_path / "doodle.png"), "--save", str(tmp_path / name)]) == 2
    assert message in capsys.readouterr().err


def test_the_sheet_shows_pictures_upright(record, pictures, tmp_path):
    image = Image.new("RGB", (40, 20), "black")
    image.paste("white", (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.jpg", exif=exif)
    index = search.Index.build(pictures, record, progress=False)
    (tmp_path / "gone.png").unlink(missing_ok=True)
    sheet = index.show([search.Hit(tmp_path / "turned.jpg", 1.0), search.Hit(tmp_path / "gone.png", 0.5)])
    assert sheet.getpixel((80, 66)) > (200,) * 3 and sheet.getpixel((80, 92)) < (60,) * 3


@pytest.mark.parametrize("kind, recall", [("flat", 1.0), ("hnsw", 0.9), ("ivf", 0.5)])
def test_every_kind_of_index_finds_what_a_plain_product_finds(kind, recall, random):
    centres = random.standard_normal((50, 32))
    values = unit(centres[random.integers(0, 50, 4000)] + 0.5 * random.standard_normal((4000, 32)))
    index, queries = nearest_index(values[200:], kind), values[:200]
    truth = np.argsort(-(queries @ values[200:].T), axis=1, kind="stable")[:, :10]
    nearest = index.search(queries, 10)[1]
    assert np.mean([len(set(a) & set(b)) / 10 for a, b in zip(truth, nearest)]) >= recall
    with pytest.raises(ValueError, match="known: flat, hnsw, ivf"):
        nearest_index(values, "lsh")


def test_a_run_that_compares_by_distance_is_searched_by_distance(small, pictures):
    small["options"] = {"distance": "euclidean"}
    record = Store().make(TrainSpec.from_mapping({**small, "recipe": {**small["recipe"], "epochs": 1}}), progress=False)
    index = search.Index.build(pictures, record, progress=False)
    query = index.ask(drawing())
    expected = np.sort(np.linalg.norm(index.embeddings - query, axis=1))[:4]
    np.testing.assert_allclose([-hit.similarity for hit in index.search(drawing(), 4)], expected, rtol=1e-3)


def test_index_and_search_from_the_shell(record, pictures, tmp_path, capsys):
    drawing().save(tmp_path / "doodle.png")
    (pictures / "broken.jpg").write_bytes(b"no picture")
    assert cli.main(["index", str(pictures), "--run", record.key[:8]]) == 0
    printed = capsys.readouterr().out
    assert "8 pictures indexed" in printed and "not readable: broken.jpg" in printed
    assert (
        cli.main(
            [
                "search",
                str(tmp_path / "doodle.png"),
                "-k",
                "3",
                "--folder",
                str(pictures),
                "--save",
                str(tmp_path / "out" / "result.png"),
                "--json",
            ]
        )
        == 0
    )
    hits = json.loads(capsys.readouterr().out)
    assert len(hits) == 3 and all(os.path.exists(hit["path"]) for hit in hits)
    with Image.open(tmp_path / "out" / "result.png") as saved:
        assert saved.size == (640, 176)
    assert cli.main(["search", str(tmp_path / "doodle.png"), "-k", "0"]) == 2


def test_the_canvas_of_the_notebook_searches_what_is_drawn(record, pictures):
    import io

    from ucdr_core.apps.sketchbook import sketchbook

    canvas, label, results = sketchbook(search.Index.build(pictures, record, progress=False), 4).children
    assert canvas.picture().getextrema() == ((255, 255),) * 3 and results.value == b""
    buffer = io.BytesIO()
    drawing().save(buffer, "png")
    canvas.png = buffer.getvalue()
    assert label.value.startswith("nearest: ") and Image.open(io.BytesIO(results.value)).size == (640, 176)
