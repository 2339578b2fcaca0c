"""`ucdr index` and `ucdr search`: a drawing finds pictures in a folder of one's own."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from PIL import Image

from ucdr_core import files
from ucdr_core.apps.search import DamagedIndex, Index, record_of
from ucdr_core.cli import can_write, only_json, picture_path
from ucdr_core.data import DataError, images
from ucdr_core.data.arrays import written_to
from ucdr_core.data.manifest import IMAGE_SUFFIXES, left_out_lines, printable
from ucdr_core.device import usable


def add_index(parser) -> None:
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--run", help="key of a run, or its beginning; default: the reader's model, which is trained on first use"
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--rehash",
        action="store_true",
        help="read every picture again.  Without it one whose size, time of change and time of its entry (ctime) are "
        "as before is taken to be as before: an edit that puts size and time back is noticed all the same, what a disk "
        "corrupted is not",
    )
    parser.set_defaults(do=_index)


def _index(options) -> None:
    record = record_of(options.run) if options.run is not None else None
    index = Index.build(options.folder, record, usable(options.device), rehash=options.rehash)
    print(
        f"{printable(index.folder)}: {len(index):,} pictures indexed by run {index.run} ({index.added:,} new or "
        f"changed, {index.removed:,} gone)"
    )
    for path, why in index.unreadable.items():
        print(f"  not readable: {path}: {why}")
    for line in left_out_lines(index.left_out):
        print(f"  {line}")


def add_search(parser) -> None:
    parser.add_argument("picture", type=Path)
    parser.add_argument("-k", type=int, default=12, help="how many")
    parser.add_argument("--folder", type=Path, help="default: the one that was indexed last")
    parser.add_argument(
        "--run", help="key of a run, or its beginning: the index that it made last; default: of any run"
    )
    parser.add_argument(
        "--photo", action="store_true", help="the query is a picture like those of the folder, not a drawing"
    )
    parser.add_argument(
        "--save", type=picture_path(*sorted(IMAGE_SUFFIXES)), help="a picture of the query and of the results"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON list")
    parser.set_defaults(do=_search)


def _search(options) -> None:
    if options.k < 1:
        raise DataError(f"-k must be at least 1, not {options.k}")
    if options.save:
        can_write(options.save.parent)
    with only_json(options.json):
        if not options.picture.is_file():
            raise DataError(f"there is no picture {printable(options.picture)}")
        query = images.read_file(options.picture)
        index = _loaded(options.folder, options.run)
        hits = index.search(query, options.k, options.photo)
    if options.json:
        print(json.dumps([{"path": str(hit.path), "similarity": round(hit.similarity, 4)} for hit in hits], indent=1))
    else:
        for hit in hits:
            print(f"{hit.similarity:.3f}  {printable(hit.path)}")
    if gone := [hit for hit in hits if not index.is_current(hit)]:
        print(
            f"{len(gone)} of these pictures changed or went since they were indexed (first {printable(gone[0].path)}); "
            f"`ucdr index {printable(index.folder)}` looks again",
            file=sys.stderr,
        )
    if options.save:
        with written_to(options.save), files.written(options.save) as partial:
            index.show(hits, query).save(partial, Image.registered_extensions()[options.save.suffix.lower()])
        print(f"saved {printable(options.save)}", file=sys.stderr)


def _loaded(folder: Path | None, run: str | None) -> Index:
    """The index, made anew where its file is damaged and the folder is known."""
    try:
        return Index.load(folder, run)
    except DamagedIndex as error:
        if folder is None:
            raise
        return Index.build(folder, record_of(error.run))
