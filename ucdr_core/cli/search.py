"""`ucdr index` and `ucdr search`: a drawing finds pictures in a folder of one's own."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from PIL import Image

from ucdr_core.apps.search import Index, record_of
from ucdr_core.cli import only_json
from ucdr_core.data import DataError


def add_index(parser) -> None:
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--run", help="key of a run, or its beginning; default: the reader's model, which is trained on first use"
    )
    parser.add_argument("--device", default="cpu")
    parser.set_defaults(do=_index)


def _index(options) -> None:
    index = Index.build(options.folder, record_of(options.run) if options.run else None, options.device)
    print(
        f"{index.folder}: {len(index):,} pictures indexed by run {index.run} ({index.added:,} new or changed, "
        f"{index.removed:,} gone)"
    )
    for path, (_, _, why) in index.unreadable.items():
        print(f"  not readable: {path}: {why}")


def add_search(parser) -> None:
    parser.add_argument("picture", type=Path)
    parser.add_argument("-k", type=int, default=12, help="how many")
    parser.add_argument("--folder", type=Path, help="default: the one that was indexed last")
    parser.add_argument("--run", help="of several runs that indexed it")
    parser.add_argument(
        "--photo", action="store_true", help="the query is a picture like those of the folder, not a drawing"
    )
    parser.add_argument("--save", type=Path, help="a picture of the query and of the results")
    parser.add_argument("--json", action="store_true", help="print one JSON list")
    parser.set_defaults(do=_search)


def _search(options) -> None:
    if options.k < 1:
        raise DataError(f"-k must be at least 1, not {options.k}")
    with only_json(options.json):
        index = Index.load(options.folder, options.run)
        hits = index.search(options.picture, options.k, options.photo)
    if options.json:
        print(json.dumps([{"path": str(hit.path), "similarity": round(hit.similarity, 4)} for hit in hits], indent=1))
    else:
        for hit in hits:
            print(f"{hit.similarity:.3f}  {hit.path}")
    if options.save:
        options.save.parent.mkdir(parents=True, exist_ok=True)
        index.show(hits, Image.open(options.picture)).save(options.save)
        print(f"saved {options.save}", file=sys.stderr)
