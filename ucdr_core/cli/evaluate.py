"""`ucdr evaluate`: the metrics on anyone's embeddings."""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path

import numpy as np

from ucdr_core.data import DataError
from ucdr_core.retrieval import evaluate

ARRAYS = ("embeddings", "labels")


def add_evaluate(parser) -> None:
    parser.add_argument("--query", required=True, type=Path)
    parser.add_argument("--gallery", required=True, type=Path)
    parser.add_argument("--distance", choices=["euclidean", "cosine"], default="euclidean")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(do=_evaluate)


def _evaluate(options) -> None:
    queries, query_labels = read_embeddings(options.query)
    gallery, gallery_labels = read_embeddings(options.gallery)
    try:
        scores = evaluate(
            queries, query_labels, gallery, gallery_labels, options.distance, progress=sys.stderr.isatty()
        )
    except ValueError as error:
        raise DataError(f"{error} (query {options.query}, gallery {options.gallery})") from error
    if scores.without_relevant:
        print(
            f"ucdr evaluate: {scores.without_relevant} of {len(queries)} queries have no relevant item in the gallery "
            "and score 0",
            file=sys.stderr,
        )
    if options.json:
        counts = {"queries": len(queries), "gallery": len(gallery), "queries_without_relevant": scores.without_relevant}
        print(json.dumps({**scores.mean, **counts, "distance": options.distance, "arithmetic": scores.arithmetic}))
    else:
        for name, value in scores.mean.items():
            print(f"{name:12} {value:.4f}")


def read_embeddings(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Arrays `embeddings` and `labels` of an .npz file, pickles refused.  Raises DataError naming what it lacks."""
    if not path.is_file():
        raise DataError(f"{path} does not exist")
    try:
        content = np.load(path, allow_pickle=False)
    except (zipfile.BadZipFile, EOFError, OSError, ValueError) as error:
        raise DataError(f"{path} is no .npz file ({error})") from error
    if not hasattr(content, "files"):
        raise DataError(f"{path} is one array, not an .npz file with `embeddings` and `labels`")
    with content:
        missing = [name for name in ARRAYS if name not in content.files]
        if missing:
            raise DataError(f"{path} lacks {' and '.join(missing)}; it has {', '.join(content.files) or 'nothing'}")
        try:
            return content["embeddings"], content["labels"]
        except ValueError as error:
            raise DataError(
                f"{path} holds pickled objects, which are not read; save plain numbers and text ({error})"
            ) from error
        except (zipfile.BadZipFile, EOFError, OSError) as error:
            raise DataError(f"{path} is damaged ({error})") from error
