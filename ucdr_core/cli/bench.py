"""`ucdr bench`: measurements of this machine."""

from __future__ import annotations

import argparse

from ucdr_core.cli import whole_number
from ucdr_core.options import Positive, checked


def _seconds(text: str) -> float:
    try:
        return checked(float(text), Positive, "it")
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number above 0, not {text[:40]!r}") from None


def _sizes(text: str) -> list[int]:
    return [whole_number(1)(size) for size in text.split(",")]


def add_bench(parser) -> None:
    parser.add_argument("what", choices=["retrieval", "train", "search", "numerics", "tolerance"])
    parser.add_argument("--queries", type=whole_number(1), default=92_000, help="retrieval")
    parser.add_argument("--gallery", type=whole_number(1), default=54_000, help="retrieval")
    parser.add_argument("--dimension", type=whole_number(1), default=512, help="retrieval")
    parser.add_argument(
        "--sizes", type=_sizes, default="10000,100000,1000000", help="search: numbers of vectors, comma-separated"
    )
    parser.add_argument("--device", help="retrieval, default: cpu; train, default: cuda where there is a GPU")
    parser.add_argument("--backbone", default="se_resnet50", help="train")
    parser.add_argument("--size-px", type=whole_number(1), default=224, help="train")
    parser.add_argument("--batch-size", type=whole_number(1), default=64, help="train")
    parser.add_argument(
        "--precision",
        choices=["float32", "bfloat16", "float64"],
        help="train; default: bfloat16 on a GPU, else float32",
    )
    parser.add_argument("--compile", action="store_true", help="train")
    parser.add_argument(
        "--workers", type=whole_number(1), default=8, help="train: processes of the straightforward loop"
    )
    parser.add_argument("--seconds", type=_seconds, default=60, help="train: of each of the three measurements")
    parser.set_defaults(do=_bench)


def _bench(options) -> None:
    from ucdr_core.apps import bench
    from ucdr_core.device import usable

    device = None if options.device is None else usable(options.device)
    if options.what == "tolerance":
        from ucdr_core.apps.tolerance import measure

        measure()
    elif options.what == "numerics":
        bench.numerics()
    elif options.what == "search":
        bench.search(options.sizes)
    elif options.what == "retrieval":
        bench.retrieval(options.queries, options.gallery, options.dimension, device)
    else:
        bench.train(
            device,
            options.backbone,
            options.size_px,
            options.batch_size,
            options.seconds,
            options.workers,
            options.precision,
            options.compile,
        )
