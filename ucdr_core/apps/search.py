"""Search in a folder of one's own pictures: index it once with a run's encoder, then ask with a drawing.

>>> index = Index.build("~/Pictures")  # the reader's model, made on first use; later, new and changed files only
>>> hits = index.search(Image.open("doodle.png"), k=12)
>>> index.show(hits).save("result.png")
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw

from ucdr_core import paths
from ucdr_core.apps.encoder import PictureEncoder, framed
from ucdr_core.chapters.search import reader_spec
from ucdr_core.chapters.tiers import TIERS
from ucdr_core.data import DataError, Manifest, emoji, images
from ucdr_core.data.manifest import IMAGE_SUFFIXES
from ucdr_core.evidence import committed
from ucdr_core.evidence.record import TrainedRun, load_record
from ucdr_core.evidence.store import Store
from ucdr_core.progress import bar
from ucdr_core.retrieval.index import distance_index, nearest_index
from ucdr_core.retrieval.ranking import unit
from ucdr_core.training.spec import TrainSpec

BATCH, SAVE_SECONDS = 64, 20.0
Stamp = tuple[int, int]  # of a file: size in bytes, time of change in ns


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


@dataclass(eq=False)
class Index:
    """Embeddings of the pictures under a folder, by one run.

    files       path below the folder -> (size in bytes, time of change in ns), in the order of `embeddings` (n, D)
    unreadable  path -> why; tried again when the file changes
    """

    folder: Path
    run: str
    files: dict[str, Stamp]
    embeddings: np.ndarray
    unreadable: dict[str, tuple[int, int, str]] = field(default_factory=dict)
    added: int = 0
    removed: int = 0
    # The encoder, and faiss indexes by kind, once they are needed.
    _cache: dict = field(default_factory=dict, repr=False)

    # ------------------------------------------------------------------------------------------------- making

    @classmethod
    def build(
        cls, folder: str | Path, record: TrainedRun | None = None, device: str = "cpu", progress: bool = True
    ) -> Index:
        """Indexes every picture below the folder, hidden ones left out; what is indexed and has not changed is kept.

        An interrupted build goes on from where it last saved.  Raises DataError where the folder is missing or holds no
        picture.
        """
        folder = Path(folder).expanduser().resolve()
        if not folder.is_dir():
            raise DataError(f"{folder} is not a folder; give one with pictures in it")
        record = record or reader_record(progress)
        stamps = dict(_pictures(folder))
        if not stamps:
            raise DataError(f"{folder} holds no picture ({', '.join(sorted(IMAGE_SUFFIXES))})")
        before = cls._stored(folder, record.key)
        kept = [place for place, (name, stamp) in enumerate(before.files.items()) if stamps.get(name) == stamp]
        names = list(before.files)
        index = cls(
            folder,
            record.key,
            {names[place]: before.files[names[place]] for place in kept},
            before.embeddings[kept],
            {name: why for name, why in before.unreadable.items() if stamps.get(name) == why[:2]},
            removed=len(set(before.files) - set(stamps)),
        )
        todo = [name for name in sorted(stamps) if name not in index.files and name not in index.unreadable]
        if todo:
            index._embed(todo, stamps, PictureEncoder(record, device), progress)
        if todo or index.removed or len(kept) < len(before.files):
            index.save()
        index.added = len([name for name in todo if name in index.files])
        return index

    def _embed(self, todo: list[str], stamps: dict[str, Stamp], encoder: PictureEncoder, progress: bool) -> None:
        manifest = Manifest(self.folder.name, self.folder, pd.DataFrame({"path": todo, "class_name": "", "domain": ""}))
        saved, blocks = time.monotonic(), [self.embeddings] if len(self.embeddings) else []
        with bar(
            total=len(todo), desc=f"indexing {self.folder.name}", unit="img", disable=not progress
        ) as progress_bar:
            for start in range(0, len(todo), BATCH):
                pictures, names = [], []
                for row in range(start, min(start + BATCH, len(todo))):
                    try:
                        pictures.append(images.read(manifest, row))
                        names.append(todo[row])
                    except DataError as error:
                        self.unreadable[todo[row]] = (*stamps[todo[row]], str(error.__cause__ or error))
                if pictures:
                    blocks.append(encoder.embed(pictures, photo=True))
                    self.files.update((name, stamps[name]) for name in names)
                progress_bar.update(min(BATCH, len(todo) - start))
                if time.monotonic() - saved > SAVE_SECONDS:
                    self.embeddings = np.concatenate(blocks)
                    self.save()
                    blocks, saved = [self.embeddings], time.monotonic()
        self.embeddings = np.concatenate(blocks) if blocks else self.embeddings

    # ------------------------------------------------------------------------------------------------- keeping

    def save(self) -> None:
        """Writes the index under `paths.indexes()`, by rename."""
        file = _file(self.folder, self.run)
        file.parent.mkdir(parents=True, exist_ok=True)
        table = {"folder": str(self.folder), "run": self.run, "files": self.files, "unreadable": self.unreadable}
        partial = file.with_suffix(f".{os.getpid()}.partial")
        with open(partial, "wb") as out:
            np.savez(out, embeddings=self.embeddings, table=np.frombuffer(json.dumps(table).encode(), np.uint8))
        partial.replace(file)

    @classmethod
    def load(cls, folder: str | Path | None = None, run: str | None = None) -> Index:
        """The index of a folder, by one run where it has several; without a folder the one that was written last.

        Raises DataError where there is none, or its file is damaged.
        """
        if folder is None:
            files = sorted(paths.indexes().glob("*.npz"), key=lambda file: file.stat().st_mtime_ns)
        else:
            folder = Path(folder).expanduser().resolve()
            files = sorted(
                paths.indexes().glob(_file(folder, run or "*").name), key=lambda file: file.stat().st_mtime_ns
            )
        if not files:
            raise DataError(
                f"there is no index of {folder or 'any folder'}; make one with `ucdr index {folder or 'FOLDER'}`"
            )
        return cls._read(files[-1])

    @classmethod
    def _stored(cls, folder: Path, run: str) -> Index:
        """The index as it was, or an empty one where there is none or its file is damaged."""
        file = _file(folder, run)
        if file.exists():
            try:
                return cls._read(file)
            except DataError as error:
                print(f"{error}; indexing anew", flush=True)
        return cls(folder, run, {}, np.zeros((0, 0), np.float32))

    @classmethod
    def _read(cls, file: Path) -> Index:
        try:
            with open(file, "rb") as stored, np.load(stored, allow_pickle=False) as arrays:
                table, embeddings = json.loads(arrays["table"].tobytes()), arrays["embeddings"]
            if len(table["files"]) != len(embeddings):
                raise ValueError(f"{len(table['files'])} files but {len(embeddings)} embeddings")
            files, unreadable = (
                {name: tuple(values) for name, values in table[part].items()} for part in ("files", "unreadable")
            )
            return cls(Path(table["folder"]), table["run"], files, embeddings, unreadable)
        except (OSError, ValueError, KeyError, AttributeError, TypeError, zipfile.BadZipFile) as error:
            raise DataError(
                f"{file} is no index ({type(error).__name__}: {error}); remove it and run `ucdr index` again"
            ) from error

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
            path = Path(picture).expanduser().resolve()
            if not path.is_file():
                raise DataError(f"there is no picture {path}")
            sample = pd.DataFrame({"path": [path.name], "class_name": [""], "domain": [""]})
            picture = images.read(Manifest(path.name, path.parent, sample), 0)
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

    def _encoder(self) -> PictureEncoder:
        if "encoder" not in self._cache:
            self._cache["encoder"] = PictureEncoder(record_of(self.run))
        return self._cache["encoder"]

    def show(self, hits: list[Hit], query: Image.Image | None = None, side: int = 160, columns: int = 4) -> Image.Image:
        """The hits as one picture, the query before them."""
        tiles: list[tuple[str, Image.Image | Path]] = [("query", query)] if query is not None else []
        tiles += [(f"{hit.similarity:.2f}  {hit.path.name}", hit.path) for hit in hits]
        sheet = Image.new("RGB", (columns * side, -(-len(tiles) // columns) * (side + 16)), "white")
        draw = ImageDraw.Draw(sheet)
        for place, (title, picture) in enumerate(tiles):
            picture = picture if isinstance(picture, Image.Image) else Image.open(picture)
            picture = picture.convert("RGB")
            picture.thumbnail((side - 8, side - 8))
            x, y = place % columns * side, place // columns * (side + 16)
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
                path.parent.mkdir(parents=True, exist_ok=True)
                partial = path.with_suffix(f".{os.getpid()}.partial")
                partial.write_bytes(pack.read(sample.path))
                partial.replace(path)
    return folder


def _file(folder: Path, run: str) -> Path:
    return paths.indexes() / f"{hashlib.sha256(str(folder).encode()).hexdigest()[:16]}-{run}.npz"


def _pictures(folder: Path) -> Iterator[tuple[str, Stamp]]:
    """(path below the folder, (size, time of change)) of every picture; links that lead elsewhere are not followed."""
    for where, below, files in os.walk(folder):
        below[:] = sorted(name for name in below if not name.startswith("."))
        for name in files:
            if name.startswith(".") or Path(name).suffix.lower() not in IMAGE_SUFFIXES:
                continue
            path = Path(where, name)
            if path.is_symlink() and not path.resolve().is_relative_to(folder) or not path.is_file():
                continue
            stat = path.stat()
            yield path.relative_to(folder).as_posix(), (stat.st_size, stat.st_mtime_ns)


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
