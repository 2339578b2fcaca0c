"""Search in a folder of one's own pictures: index it once with a run's encoder, then ask with a drawing.

>>> index = Index.build("~/Pictures")  # the reader's model, made on first use; later, new and changed files only
>>> hits = index.search(Image.open("doodle.png"), k=12)
>>> index.show(hits).save("result.png")
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import time
import zipfile
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from ucdr_core import files, paths
from ucdr_core.apps.encoder import PictureEncoder, framed
from ucdr_core.chapters.search import reader_spec
from ucdr_core.chapters.tiers import TIERS
from ucdr_core.data import DataError, emoji, images
from ucdr_core.data.arrays import ORIGIN, written_to
from ucdr_core.data.manifest import IMAGE_SUFFIXES, printable, stamp
from ucdr_core.data.manifest import pictures as pictures_below
from ucdr_core.evidence import committed
from ucdr_core.evidence.record import TrainedRun, load_record
from ucdr_core.evidence.store import Store
from ucdr_core.progress import bar
from ucdr_core.retrieval.index import distance_index, nearest_index
from ucdr_core.retrieval.ranking import unit
from ucdr_core.training.spec import TrainSpec

BATCH, SAVE_SECONDS = 64, 20.0


def reader_record(progress: bool = True) -> TrainedRun:
    """The run that readers search with (`chapters.search`), made if it is not there yet: some minutes on two cores."""
    spec, store = reader_spec(), Store()
    if progress and not store.folder(spec).exists():
        print("the reader's model is trained first, once; a few minutes", flush=True)
    return store.make(spec, progress=progress)


def record_of(run: str) -> TrainedRun:
    """The user's own run with this key, or the only one whose key begins so.

    Raises DataError naming what fits, and for a run that is only in the committed evidence, which holds no weights.
    """
    root = Store().root
    if not run or not run.isalnum():
        raise DataError(f"no runs under {root} begin with {run!r}; a key is 16 hex digits")
    trained = [folder for folder in sorted(root.glob(f"{run}*")) if folder.is_dir() and not folder.suffix]
    if len(trained) == 1:
        return load_record(trained[0])
    if not trained:
        for tier in TIERS:
            for key in committed.runs_of(tier):
                if key.startswith(run):
                    raise DataError(
                        f"the weights of run {key} are not in the evidence; "
                        f"`ucdr reproduce --tier {tier} --only {key}` trains it"
                    )
    raise DataError(
        f"{len(trained) or 'no'} runs under {root} begin with {run!r}; `ucdr reproduce --list` and `ucdr table PAPER "
        "TABLE --runs` name them"
    )


@dataclass(frozen=True)
class Hit:
    """A picture of the folder.  Similarity is the cosine, or for a run that compares by distance its negative."""

    path: Path
    similarity: float


class DamagedIndex(DataError):
    """An index file is none; `run` is the key of the run that its name says."""

    def __init__(self, file: Path, why: str):
        super().__init__(f"{printable(file)} is no index ({why}); run `ucdr index` again")
        self.run = file.stem.partition("-")[2]


@dataclass(frozen=True)
class Seen:
    """A file of the folder as it was looked at.

    stamp    `manifest.stamp`; -1 where the file had changed so lately that it may change again and have the same
    content  its bytes' digest in hexadecimal digits (`images.content_of`)
    why      it is no readable picture; "" where it is indexed
    """

    stamp: tuple[int, int, int]
    content: str
    why: str = ""


@dataclass(eq=False)
class Index:
    """Embeddings of the pictures under a folder, by one run.

    files     path below the folder -> how it was, in the order of `embeddings` (n, D)
    skipped   the same of pictures that cannot be read; each is tried again when it changes
    left_out  {reason: paths} of what else is there, at the last build
    """

    folder: Path
    run: str
    files: dict[str, Seen]
    embeddings: np.ndarray
    skipped: dict[str, Seen] = field(default_factory=dict)
    added: int = 0
    removed: int = 0
    left_out: dict[str, list[str]] = field(default_factory=dict)
    # The encoder, and faiss indexes by kind, once they are needed.
    _cache: dict = field(default_factory=dict, repr=False)

    @property
    def unreadable(self) -> dict[str, str]:
        """path -> why, of the pictures that are skipped."""
        return {name: seen.why for name, seen in self.skipped.items()}

    # ------------------------------------------------------------------------------------------------- making

    @classmethod
    def build(
        cls,
        folder: str | Path,
        record: TrainedRun | None = None,
        device: str = "cpu",
        progress: bool = True,
        rehash: bool = False,
    ) -> Index:
        """Indexes every picture below the folder, hidden ones passed over; what is indexed and has the same bytes is
        kept.

        A file is read to see whether its bytes changed when its size or one of its two times did; `rehash` reads every
        one.  An interrupted build goes on from where it last saved.  Raises DataError where the folder is missing or
        holds no picture.
        """
        folder = paths.resolved(folder)
        if not folder.is_dir():
            raise DataError(f"{printable(folder)} is not a folder; give one with pictures in it")
        names, left_out = pictures_below(folder)
        if not names:
            raise DataError(f"{printable(folder)} holds no picture ({', '.join(sorted(IMAGE_SUFFIXES))})")
        record = record or reader_record(progress)
        before = cls._stored(folder, record.key)
        now = _look(folder, sorted(names), before.files | before.skipped, rehash, progress)
        rows = [row for row, (name, seen) in enumerate(before.files.items()) if _same(now.get(name), seen)]
        kept = list(before.files)
        index = cls(
            folder,
            record.key,
            {kept[row]: now[kept[row]] for row in rows},
            before.embeddings[rows],
            {
                name: replace(now[name], why=seen.why)
                for name, seen in before.skipped.items()
                if _same(now.get(name), seen)
            },
            removed=len(set(before.files) - set(now)),
            left_out=left_out,
        )
        todo = {name: seen for name, seen in now.items() if name not in index.files and name not in index.skipped}
        if todo:
            index._embed(todo, PictureEncoder(record, device), progress)
        if index._table() != before._table():
            index.save()
        index.added = len([name for name in todo if name in index.files])
        return index

    def _embed(self, todo: dict[str, Seen], encoder: PictureEncoder, progress: bool) -> None:
        saved, blocks = time.monotonic(), [self.embeddings] if len(self.embeddings) else []
        names = list(todo)
        with bar(
            total=len(names), desc=f"indexing {self.folder.name}", unit="img", disable=not progress
        ) as progress_bar:
            for start in range(0, len(names), BATCH):
                pictures, read = [], []
                for name in names[start : start + BATCH]:
                    try:
                        pictures.append(self._small(name, todo[name], encoder.size_px))
                        read.append(name)
                    except images.PictureError as error:
                        self.skipped[name] = replace(todo[name], why=error.why)
                if pictures:
                    blocks.append(encoder.embed(pictures, photo=True))
                    self.files.update((name, todo[name]) for name in read)
                progress_bar.update(len(names[start : start + BATCH]))
                if time.monotonic() - saved > SAVE_SECONDS:
                    self.embeddings = np.concatenate(blocks) if blocks else self.embeddings
                    self.save()
                    blocks, saved = [self.embeddings] if len(self.embeddings) else [], time.monotonic()
        self.embeddings = np.concatenate(blocks) if blocks else self.embeddings

    def _small(self, name: str, seen: Seen, size_px: int) -> Image.Image:
        """A picture of the folder as the encoder takes it, so that a batch of large ones needs little memory."""
        picture = images.read_file(self.folder / name)
        if images.content_of(self.folder / name).hex() != seen.content:
            raise images.PictureError(self.folder / name, "it changed while it was indexed")
        size = (size_px, size_px)
        return picture if picture.size == size else picture.resize(size, Image.Resampling.BICUBIC)

    # ------------------------------------------------------------------------------------------------- keeping

    def _table(self) -> dict:
        parts = {"files": self.files, "skipped": self.skipped}
        rows = {
            part: [[name, *seen.stamp, seen.content, seen.why] for name, seen in of.items()]
            for part, of in parts.items()
        }
        return {"folder": str(self.folder), "run": self.run, **rows}

    def save(self) -> None:
        """Writes the index under `paths.indexes()`, with a checksum.  Raises DataError where the disk is full."""
        content = io.BytesIO()
        table = np.frombuffer(json.dumps(self._table()).encode(), np.uint8)
        np.savez(content, embeddings=self.embeddings, table=table)
        with written_to(file := _file(self.folder, self.run)):
            files.seal(file, content.getvalue())

    @classmethod
    def load(cls, folder: str | Path | None = None, run: str | None = None) -> Index:
        """The index of a folder, by one run where it has several; of all that fit the one that was written last.

        run  the key of a run, or its beginning

        Raises DataError where there is none, and DamagedIndex where its file is damaged.
        """
        if run is not None and not run.isalnum():
            raise DataError(f"no index is by a run that begins with {run!r}; a key is 16 hex digits")
        folder = None if folder is None else paths.resolved(folder)
        of_folder = "*" if folder is None else _digest(folder)
        found = sorted(paths.indexes().glob(f"{of_folder}-{run or ''}*.npz"), key=lambda file: file.stat().st_mtime_ns)
        if not found:
            by = f" by run {run}" if run else ""
            where = printable(folder) if folder else "any folder"
            call = f"ucdr index {printable(folder) if folder else 'FOLDER'}" + (f" --run {run}" if run else "")
            raise DataError(f"there is no index of {where}{by}; make one with `{call}`")
        return cls._read(found[-1])

    @classmethod
    def _stored(cls, folder: Path, run: str) -> Index:
        """The index as it was, or an empty one where there is none or its file is damaged."""
        file = _file(folder, run)
        if file.exists():
            try:
                return cls._read(file)
            except DamagedIndex as error:
                print(f"{error}; indexing anew", flush=True)
        return cls(folder, run, {}, np.zeros((0, 0), np.float32))

    @classmethod
    def _read(cls, file: Path) -> Index:
        try:
            with np.load(io.BytesIO(files.sealed(file)), allow_pickle=False) as arrays:
                table, embeddings = json.loads(arrays["table"].tobytes()), arrays["embeddings"]
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise DamagedIndex(file, str(error)) from error
        kept, skipped = (
            {name: Seen(tuple(of_file), content, why) for name, *of_file, content, why in table[part]}
            for part in ("files", "skipped")
        )
        return cls(Path(table["folder"]), table["run"], kept, embeddings, skipped)

    def __len__(self) -> int:
        return len(self.files)

    # ------------------------------------------------------------------------------------------------- asking

    def search(
        self, picture: Image.Image | str | Path, k: int = 12, photo: bool = False, kind: str | None = None
    ) -> list[Hit]:
        """The k nearest pictures, best first.

        picture  a drawing, framed as the model's drawings are (`encoder.framed`), or with `photo` a picture like those
                 of the folder
        kind     of index: flat, hnsw or ivf; default by size, see `retrieval.index`
        """
        return self.nearest(self.ask(picture, photo), k, kind)

    def ask(self, picture: Image.Image | str | Path, photo: bool = False) -> np.ndarray:
        """The embedding (D,) of a query."""
        if not isinstance(picture, Image.Image):
            path = paths.resolved(picture)
            if not path.is_file():
                raise DataError(f"there is no picture {printable(path)}")
            picture = images.read_file(path)
        picture = picture if photo else framed(picture)
        return self._encoder().embed([picture], photo)[0]

    def nearest(self, query: np.ndarray, k: int, kind: str | None = None) -> list[Hit]:
        """The same for an embedding."""
        if k < 1:
            raise ValueError(f"k must be at least 1, not {k}")
        if not len(self):
            raise DataError(f"no picture of {self.folder} could be read")
        if self._encoder().distance == "cosine":
            if kind not in self._cache:
                self._cache[kind] = nearest_index(unit(self.embeddings), kind)
            values, rows = self._cache[kind].search(unit(query[None]), min(k, len(self)))
        else:
            if "euclidean" not in self._cache:
                self._cache["euclidean"] = distance_index(self.embeddings)
            squares, rows = self._cache["euclidean"].search(query[None], min(k, len(self)))
            values = -np.sqrt(squares)
        names = list(self.files)
        return [Hit(self.folder / names[row], float(value)) for row, value in zip(rows[0], values[0]) if row >= 0]

    def is_current(self, hit: Hit) -> bool:
        """Whether the picture of a hit still has the bytes that were indexed."""
        return images.content_of(hit.path).hex() == self.files[hit.path.relative_to(self.folder).as_posix()].content

    def _encoder(self) -> PictureEncoder:
        if "encoder" not in self._cache:
            self._cache["encoder"] = PictureEncoder(record_of(self.run))
        return self._cache["encoder"]

    def show(self, hits: list[Hit], query: Image.Image | None = None, side: int = 160, columns: int = 4) -> Image.Image:
        """The hits as one picture, the query before them; a picture that is gone leaves its place empty."""
        tiles: list[tuple[str, Image.Image | Path]] = [("query", query)] if query is not None else []
        tiles += [(f"{hit.similarity:.2f}  {hit.path.name}", hit.path) for hit in hits]
        sheet = Image.new("RGB", (columns * side, -(-len(tiles) // columns) * (side + 16)), "white")
        draw = ImageDraw.Draw(sheet)
        for place, (title, picture) in enumerate(tiles):
            x, y = place % columns * side, place // columns * (side + 16)
            with suppress(images.PictureError):
                picture = picture.convert("RGB") if isinstance(picture, Image.Image) else images.read_file(picture)
                picture.thumbnail((side - 8, side - 8))
                sheet.paste(picture, (x + (side - picture.width) // 2, y + (side - picture.height) // 2))
            draw.text((x + 4, y + side), title[:26], fill="black")
        return sheet


def embedded_pictures(domains: tuple[str, ...] = ("fluent_3d", "twemoji")) -> Path:
    """A folder of the embedded pictures of these domains, <domain>/<class>-<name>.webp: to try a search on."""
    manifest, folder = emoji(), paths.cache() / "pictures"
    with zipfile.ZipFile(manifest.root) as pack:
        for row in manifest.rows(list(domains), manifest.classes):
            sample = manifest.samples.iloc[row]
            path = folder / sample.domain / f"{sample.class_name}-{Path(sample.path).name}"
            if not path.exists():
                files.write(path, pack.read(sample.path))
    return folder


def _file(folder: Path, run: str) -> Path:
    return paths.indexes() / f"{_digest(folder)}-{run}.npz"


def _digest(folder: Path) -> str:
    return hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]


def _same(now: Seen | None, before: Seen) -> bool:
    return now is not None and now.content == before.content


def _look(folder: Path, names: list[str], before: dict[str, Seen], rehash: bool, progress: bool) -> dict[str, Seen]:
    """How the files are now; those whose stamps are as before are taken to be as before, unless `rehash`."""
    new = Seen((-1, -1, -1), "00" * ORIGIN)
    known = [before.get(name, new) for name in names]
    pictures, stamps = [folder / name for name in names], []
    for path in pictures:
        try:
            stamps.append(stamp(path))
        except OSError:  # it is gone since it was listed: reading it will say so
            stamps.append((-2, -2, -2))
    kept, contents = images.read_contents(
        pictures,
        np.array(stamps, np.int64),
        np.array([seen.stamp for seen in known], np.int64),
        np.array([list(bytes.fromhex(seen.content)) for seen in known], np.uint8),
        rehash,
        f"looking at {folder.name}" * progress,
    )
    return {name: Seen(tuple(row), bytes(content).hex()) for name, row, content in zip(names, kept.tolist(), contents)}


def find(
    picture: Image.Image | str | Path,
    folder: str | Path,
    k: int = 12,
    run: str | TrainedRun | TrainSpec | None = None,
    photo: bool = False,
) -> list[Hit]:
    """The k pictures of a folder that are nearest to a drawing; the folder is indexed first, or its index brought up to
    date.

    run  that embeds them: a key, a record or a spec, which is trained if need be; default: the reader's model
    """
    if isinstance(run, TrainSpec):
        run = Store().make(run)
    elif isinstance(run, str):
        run = record_of(run)
    return Index.build(folder, run).search(picture, k, photo)
