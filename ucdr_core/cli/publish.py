"""`ucdr export` and `ucdr publish`: a run, and the book, for other places."""

from __future__ import annotations

from ucdr_core.apps import export, folder, publish
from ucdr_core.cli import filled, folder_path


def add_export(parser) -> None:
    parser.add_argument(
        "run",
        nargs="?",
        type=filled,
        help="key of a run, or its beginning; default: the reader's model, which is trained on first use",
    )
    parser.add_argument("--to", required=True, type=folder_path, metavar="FOLDER")
    parser.add_argument("--gallery", help="comma-separated domains to search; default: the run's gallery domain")
    parser.add_argument(
        "--page", action="store_true", help="the doodle page's folder: compressed, with its scripts and the runtime"
    )
    parser.set_defaults(do=_export)


def _export(options) -> None:
    from ucdr_core.apps.search import reader_record, record_of

    folder.check(options.to, folder.EXPORT)  # before a model is trained for it
    record = record_of(options.run) if options.run else reader_record()
    gallery = tuple(options.gallery.split(",")) if options.gallery else ()
    if options.page:
        page = export.page(record, options.to, gallery)
        print(f"{options.to}: run {record.key}, {page['bytes'] / 1e6:.1f} MB")
        if page["missing"]:
            print(page["missing"])
        return
    description = export.export(record, options.to, gallery)
    cosines = export.check(options.to)
    print(
        f"{options.to}: run {record.key}, {len(description['pictures'])} pictures; smallest cosine between ONNX and "
        f"Python {min(cosines):.5f}"
    )


def add_publish(parser) -> None:
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument(
        "--to", type=folder_path, metavar="FOLDER", help="a folder; what it holds of an earlier site is replaced"
    )
    target.add_argument(
        "--branch", help="a branch of this repository, pushed to its remote (ghp-import), such as gh-pages"
    )
    target.add_argument("--check", action="store_true", help="only say whether the site may be published")
    parser.set_defaults(do=_publish)


def _publish(options) -> None:
    site = publish.checked()
    if options.to:
        publish.to_folder(site, options.to)
    elif not options.check:
        publish.to_branch(site, options.branch)
    print(
        f"{site}: passed by the gate, and as it was built"
        + ("" if options.check else f"; published to {options.to or options.branch}")
    )
