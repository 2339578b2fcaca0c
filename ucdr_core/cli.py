"""The command line `ucdr`."""
from __future__ import annotations

import argparse
import json
import sys
from dataclasses import fields
from pathlib import Path


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser("ucdr", description="Universal cross-domain retrieval, reproducibly.")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for add in (_add_data, _add_run, _add_reproduce, _add_evaluate, _add_table, _add_index, _add_search, _add_export, _add_publish, _add_bench):
        add(verbs)
    options = parser.parse_args(arguments)
    from .backbones import WeightsError
    from .data import DataError
    from .export import ExportError
    from .methods import OptionError
    from .publish import PublishError
    from .runs import RecordError

    try:
        return options.do(options) or 0
    except (DataError, ExportError, OptionError, PublishError, RecordError, WeightsError, FileNotFoundError) as error:
        print(f"ucdr {options.verb}: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # `ucdr ... | head` has seen enough
        sys.stdout = None
        return 0
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 130


def _verb(verbs, name: str, help: str, example: str) -> argparse.ArgumentParser:
    return verbs.add_parser(name, help=help, description=help, epilog=f"example:\n  {example}", formatter_class=argparse.RawDescriptionHelpFormatter)


# --------------------------------------------------------------------------------------------------------------- data

def _add_data(verbs) -> None:
    parser = _verb(verbs, "data", "List the data sets; count one's pictures against what was published; fetch it; decode it once.", "ucdr data status sketchy")
    parser.add_argument("action", choices=["list", "status", "download", "pack"])
    parser.add_argument("name", nargs="?", help="data set, for all but list")
    parser.add_argument("--data-root", help="its folder; default $UCDR_DATA/NAME.  For 'folders': one of <domain>/<class>/<image file>")
    parser.add_argument("--size-px", type=int, default=224, help="pack: side of the decoded pictures; a run reads those of its own size_px (default 224, the papers')")
    parser.set_defaults(do=_data)


def _data(options) -> int:
    from . import data
    from .data import download, images, published

    if options.action == "list":
        for name in data.names():
            view = data.EMOJI_VIEWS.get(name.removeprefix("emoji-"))
            known = published.PUBLISHED.get(name)
            print(f"{name:18} " + (view[1] if view else f"{known.title}, {known.classes} classes in {', '.join(known.layouts)}" if known else
                                   "own pictures, <domain>/<class>/<image file>" if name == "folders" else "EmojiDomains, all nine domains"))
        return 0
    name = options.name or "emoji"
    if options.action == "download":
        if name not in published.PUBLISHED:
            raise data.DataError(f"data set {name!r} is not one to fetch; those are: {', '.join(published.PUBLISHED)}")
        print("\n".join(download.download(name, options.data_root)))
        return 0
    if options.action == "pack":
        manifest = data.load(name, options.data_root)
        whole = manifest.base or manifest
        images.packed(whole, options.size_px, skip_unreadable=True)
        skipped = images.unreadable(whole)
        print(f"{whole.name}: {len(whole) - len(skipped):,} of {len(whole):,} pictures at {options.size_px} px in {images.pack_file(whole, options.size_px)}")
        for path, why in skipped.items():
            print(f"  skipped {path}: {why}")
        return 0
    if name in published.PUBLISHED:
        print("\n".join(published.status(name, options.data_root)))
        return 0
    manifest = data.load(name, options.data_root)
    counts = manifest.counts()
    print(f"{manifest.name}: {len(manifest)} images, {len(manifest.classes)} classes, fingerprint {manifest.fingerprint}, root {manifest.root}")
    for domain in manifest.domains:
        own = counts.loc[domain]
        print(f"  {domain:16} {own.sum():6} images in {(own > 0).sum()} classes, {own[own > 0].min()} to {own.max()} per class")
    return 0


# ---------------------------------------------------------------------------------------------------------------- run

def _add_run(verbs) -> None:
    from .methods import METHODS
    from .runs import TrainSpec

    parser = _verb(
        verbs, "run", "Train one method and score it: validates the values, then executes notebooks/run.ipynb through papermill.",
        "ucdr run snmpnet --dataset folders --data-root PATH --protocol zs_sbir --query-domain quickdraw --gallery-domain photo --seed 0")
    parser.add_argument("method", choices=sorted(METHODS))
    parser.add_argument("--dataset", default="emoji-sketchy")
    parser.add_argument("--data-root", help="folder of <domain>/<class>/<image file>, for --dataset folders")
    parser.add_argument("--split", help="shipped split or JSON file; default: `emoji` for the emoji sets, else drawn and stored")
    parser.add_argument("--protocol", default="zs_sbir", choices=["zs_sbir", "gzs_sbir", "uccdr", "udcdr", "ucdr"])
    parser.add_argument("--query-domain", help="default: sketch")
    parser.add_argument("--gallery-domain", help="default: photo, or real for emoji-domainnet")
    parser.add_argument("--train-domains", help="comma-separated; default: what the protocol says")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE",
                        help="any other value: a spec's (regime=finetune), a method option's (options.kappa=4) or the recipe's (recipe.lr=1e-3)")
    parser.add_argument("--device", help="cpu, cuda, cuda:1; default: cuda for a published data set where there is a GPU, else cpu")
    parser.add_argument("--gpus", type=int, default=1, help="GPUs that train this run together (torchrun); part of the spec as world_size")
    parser.add_argument("--compile", action="store_true", help="put the trained trunk through torch.compile")
    parser.add_argument("--plan", action="store_true", help="print what the run will take, and stop")
    parser.add_argument("--no-notebook", action="store_true", help="train in this process instead of through papermill")
    parser.add_argument("--json", action="store_true", help="print the scores as one JSON object")
    parser.epilog += "\n\nspec values: " + ", ".join(f.name for f in fields(TrainSpec))
    parser.set_defaults(do=_run)


def spec_from_options(options):
    """The TrainSpec that `ucdr run`'s options mean."""
    from .data import DataError, load
    from .methods import OptionError
    from .papers import embedded, full
    from .runs import TrainSpec

    manifest = load(options.dataset, options.data_root)
    gallery = options.gallery_domain or ("real" if "real" in manifest.domains else "photo")
    query = options.query_domain or "sketch"
    for domain in (gallery, query):
        manifest.check_domain(domain)
    if query == gallery:
        raise DataError(f"the query domain and the gallery domain are both {query!r}")
    if options.train_domains:
        domains = tuple(options.train_domains.split(","))
    elif options.protocol in ("zs_sbir", "gzs_sbir"):
        domains = (query, gallery)
    elif options.protocol == "uccdr":
        domains = tuple(manifest.domains)
    else:
        domains = tuple(d for d in manifest.domains if d != query)
    emoji = options.dataset.startswith("emoji")
    generalised = options.protocol in ("zs_sbir", "gzs_sbir")
    values = {
        "method": options.method, "dataset": options.dataset, "data_root": options.data_root,
        "split": options.split or ("emoji" if emoji else None), "train_domains": domains, "gallery_domain": gallery, "seed": options.seed,
        **embedded.defaults(options.method, real=not emoji),
    }
    if options.dataset in [name for name, _ in full.DATASETS.values()]:  # the paper's recipe
        values |= {name: value for name, value in full.defaults(options.method, options.dataset, domains).items() if name != "gallery_domain"}
        values["split"] = options.split or values["split"]
    values |= {"gallery_held_out": 0.0 if generalised else 0.25 if emoji else 0.08, "classes_left_out": 0.2 if options.protocol == "gzs_sbir" else 0.0,
               "world_size": options.gpus}
    for assignment in options.set:
        name, sign, text = assignment.partition("=")
        if not sign:
            raise OptionError(f"--set {assignment!r}: expected NAME=VALUE")
        try:
            value = json.loads(text)
        except json.JSONDecodeError:
            value = text
        part, dot, rest = name.partition(".")
        if dot and part in ("options", "recipe", "features"):
            values.setdefault(part, {})[rest] = value
        else:
            values[name] = value
    for name in ("data_root", "split", "vectors", "weights"):  # the run notebook has another current folder
        value = values.get(name)
        if isinstance(value, str) and Path(value).expanduser().exists():
            values[name] = str(Path(value).expanduser().resolve())
    return TrainSpec.from_mapping(values)


def default_device(dataset: str) -> str:
    """Embedded and own pictures are trained on frozen features, where a CPU is enough."""
    import torch

    from .data.published import PUBLISHED

    return "cuda" if dataset in PUBLISHED and torch.cuda.is_available() else "cpu"


def _run(options) -> int:
    from .data import protocols
    from .runs import Store

    spec = spec_from_options(options)
    training = spec.training()
    asked = [e for e in spec.evaluations() if e.protocol == options.protocol and e.query_domain == (options.query_domain or "sketch")]
    if not asked:
        raise protocols.DataError(f"this training cannot be asked {options.protocol} from {options.query_domain or 'sketch'}: "
                                  f"it answers {', '.join(e.name for e in spec.evaluations()) or 'nothing'}")
    for evaluation in asked:
        protocols.ask(training, evaluation)  # fails before hours of training, not after
    say = sys.stderr if options.json else sys.stdout
    print(f"run {spec.key}: {spec.method} on {training.manifest.name}, {len(training.train)} training images of {len(training.seen)} classes "
          f"in {', '.join(training.domains)}; split {training.split.name}"
          + (f" ({training.split.source})" if training.split.source else "")
          + f"\nvalidation classes: {', '.join(training.split.val) or 'none'}\nunseen classes: {', '.join(training.split.test)}", file=say, flush=True)
    device, store = options.device or default_device(options.dataset), Store()
    if options.plan or not store.folder(spec).exists():
        from .plan import plan

        print("\n".join(plan(spec, device, progress=not options.json, store=store).lines()), file=say, flush=True)
        if device.startswith("cuda"):
            import torch

            torch.cuda.empty_cache()  # the run has a process of its own
    if options.plan:
        return 0
    if options.no_notebook:
        record = store.make(spec, device=device, compiled=options.compile)
    else:
        record = _through_papermill(spec, device, options.compile)
    if options.json:
        print(json.dumps({"run": record.key, "folder": str(record.folder), "scores": {e.name: record.scores(e.name) for e in asked}}, indent=1))
    else:
        print(f"record {record.folder}")
        for evaluation in asked:
            print(f"{evaluation.name} ({record.result['counts'][evaluation.name]['queries']} queries, "
                  f"{record.result['counts'][evaluation.name]['gallery']} gallery images): "
                  + "  ".join(f"{name} {value:.3f}" for name, value in record.scores(evaluation.name).items()))
    return 0


def _through_papermill(spec, device: str, compiled: bool):
    """Executes the run notebook; its executed copy is kept beside the record."""
    import papermill

    from . import paths
    from .runs import Store

    store = Store()
    store.root.mkdir(parents=True, exist_ok=True)
    executed = store.root / f".{spec.key}.ipynb"
    try:
        papermill.execute_notebook(
            str(paths.run_notebook()), str(executed), parameters={"spec": json.dumps(spec.mapping()), "device": device, "compiled": compiled},
            kernel_name="python3", cwd=str(paths.run_notebook().parent), progress_bar=False, stderr_file=sys.stderr, log_output=False)
    except papermill.PapermillExecutionError as error:
        raise SystemExit(f"the run failed; its notebook is {executed}\n{error.ename}: {error.evalue}") from error
    record = store.need(spec)
    executed.replace(store.root / f"{spec.key}.ipynb")
    return record


def _add_reproduce(verbs) -> None:
    from .papers import ACROSS, PAPERS, REAL

    parser = _verb(verbs, "reproduce", "Make every run of a paper, or of all, that is not done yet.", "ucdr reproduce --paper snmpnet")
    parser.add_argument("--paper", default="all", choices=["all", *PAPERS, *ACROSS, *REAL], help="default: all that is on the embedded data")
    parser.add_argument("--tier", default="E", choices=["E", "P"], help="E: on the embedded data; P: on the papers' data with their recipes")
    parser.add_argument("--jobs", type=int, help="runs at a time; default: one per core")
    parser.add_argument("--gpus", type=int, default=0, help="one run at a time on each of so many GPUs")
    parser.add_argument("--only", nargs="+", metavar="KEY", help="of these runs alone")
    parser.add_argument("--list", action="store_true", help="print the runs and whether each is done, and stop")
    parser.set_defaults(do=_reproduce)


def _reproduce(options) -> int:
    from .methods import OptionError
    from .reproduce import log_of, matrix, reproduce
    from .runs import Store, describe

    specs = {spec.key: spec for spec in matrix(options.paper, options.tier)}
    if options.only:
        if unknown := set(options.only) - set(specs):
            raise OptionError(f"no such run of {options.paper}, tier {options.tier}: {', '.join(sorted(unknown))}; `--list` prints them")
        specs = {key: specs[key] for key in options.only}
    if options.list:
        for key, spec in specs.items():
            print(key, "done" if Store().folder(spec).exists() else "todo", describe(spec))
        return 0
    if options.gpus:
        import torch

        if options.gpus > torch.cuda.device_count():
            raise OptionError(f"--gpus {options.gpus}: this machine has {torch.cuda.device_count()}")
    failures = reproduce(list(specs.values()), options.jobs, gpus=options.gpus)
    for spec, problem in failures:
        print(f"FAILED {spec.key} {describe(spec)}: {problem.strip().splitlines()[-1]}\n  log: {log_of(spec)}", file=sys.stderr)
    if failures:
        print(f"{len(failures)} of {len(specs)} runs failed; the same command tries them again", file=sys.stderr)
    return 1 if failures else 0


# ----------------------------------------------------------------------------------------------------------- evaluate

def _add_evaluate(verbs) -> None:
    parser = _verb(verbs, "evaluate", "Score anyone's embeddings: .npz files with arrays `embeddings` (n, d) and `labels` (n,).",
                   "ucdr evaluate --query q.npz --gallery g.npz --distance cosine --json")
    parser.add_argument("--query", required=True, type=Path)
    parser.add_argument("--gallery", required=True, type=Path)
    parser.add_argument("--distance", choices=["euclidean", "cosine"], default="euclidean")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(do=_evaluate)


def _evaluate(options) -> int:
    from .retrieval import evaluate

    arrays = []
    for path in (options.query, options.gallery):
        try:
            arrays.append(read_embeddings(path))
        except ValueError as error:
            print(f"ucdr evaluate: {error}", file=sys.stderr)
            return 2
    (queries, query_labels), (gallery, gallery_labels) = arrays
    try:
        scores = evaluate(queries, query_labels, gallery, gallery_labels, options.distance, progress=sys.stderr.isatty())
    except ValueError as error:
        print(f"ucdr evaluate: {error} (query {options.query}, gallery {options.gallery})", file=sys.stderr)
        return 2
    if scores.without_relevant:
        print(f"ucdr evaluate: {scores.without_relevant} of {len(queries)} queries have no relevant item in the gallery and score 0", file=sys.stderr)
    if options.json:
        print(json.dumps({**scores.mean, "queries": len(queries), "gallery": len(gallery), "queries_without_relevant": scores.without_relevant,
                          "distance": options.distance, "arithmetic": scores.arithmetic}))
    else:
        for name, value in scores.mean.items():
            print(f"{name:12} {value:.4f}")
    return 0


def read_embeddings(path: Path):
    """Arrays `embeddings` and `labels` of an .npz file.  Raises ValueError naming the file and what it lacks; reads no pickles."""
    import zipfile

    import numpy as np

    if not path.is_file():
        raise ValueError(f"{path} does not exist")
    try:
        with np.load(path, allow_pickle=False) as content:
            if not hasattr(content, "files"):
                raise ValueError(f"{path} is one array, not an .npz file with `embeddings` and `labels`")
            missing = [name for name in ("embeddings", "labels") if name not in content.files]
            if missing:
                raise ValueError(f"{path} lacks {' and '.join(missing)}; it has {', '.join(content.files) or 'nothing'}")
            try:
                return content["embeddings"], content["labels"]
            except ValueError as error:
                raise ValueError(f"{path} holds pickled objects, which are not read; save plain numbers and text ({error})") from error
    except (zipfile.BadZipFile, EOFError, OSError) as error:
        raise ValueError(f"{path} is no .npz file ({error})") from error
    except ValueError as error:
        raise error if str(path) in str(error) else ValueError(f"{path} is no .npz file ({error})") from error


# -------------------------------------------------------------------------------------------------------------- table

def _add_table(verbs) -> None:
    parser = _verb(verbs, "table", "Print a paper's table beside ours.", "ucdr table snmpnet table2")
    parser.add_argument("paper")
    parser.add_argument("name")
    parser.add_argument("--runs", action="store_true", help="list the runs behind it instead")
    parser.set_defaults(do=_table)


def _table(options) -> int:
    from . import papers, tables
    from .runs import describe

    try:
        builders = papers.load(options.paper).TABLES
        builder = builders[options.name]
    except KeyError as error:
        known = f"; {options.paper} has {', '.join(builders)}" if "builders" in locals() else ""
        print(f"ucdr table: {error.args[0]!r} is unknown{known}", file=sys.stderr)
        return 2
    if options.runs:
        built = builder()
        lines = {spec.key: (spec, "") for spec in built.specs}
        lines |= {spec.key: (spec, f"{row.group}/{row.label}") for row in getattr(built, "rows", ()) if isinstance(row, papers.Row) for spec in row.specs}
        for key, (spec, row) in lines.items():
            print(*filter(None, (key, row, describe(spec))))
    else:
        print(tables.table(options.paper, options.name).text)
    return 0


# ------------------------------------------------------------------------------------------------------------- search

def _add_index(verbs) -> None:
    parser = _verb(verbs, "index", "Index the pictures of a folder, and of all folders in it, for `ucdr search`; again, it looks at new and changed files only.",
                   "ucdr index ~/Pictures")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--run", help="key of a run, or its beginning; default: the reader's model, which is trained on first use")
    parser.add_argument("--device", default="cpu")
    parser.set_defaults(do=_index)


def _index(options) -> int:
    from .search import Index, record_of

    index = Index.build(options.folder, record_of(options.run) if options.run else None, options.device)
    print(f"{index.folder}: {len(index):,} pictures indexed by run {index.run} ({index.added:,} new or changed, {index.removed:,} gone)")
    for path, (_, _, why) in index.unreadable.items():
        print(f"  not readable: {path}: {why}")
    return 0


def _add_search(verbs) -> None:
    parser = _verb(verbs, "search", "Find the pictures of an indexed folder that are nearest to a drawing.", "ucdr search doodle.png -k 12 --save result.png")
    parser.add_argument("picture", type=Path)
    parser.add_argument("-k", type=int, default=12, help="how many")
    parser.add_argument("--folder", type=Path, help="default: the one that was indexed last")
    parser.add_argument("--run", help="of several runs that indexed it")
    parser.add_argument("--photo", action="store_true", help="the query is a picture like those of the folder, not a drawing")
    parser.add_argument("--save", type=Path, help="a picture of the query and what was found")
    parser.add_argument("--json", action="store_true", help="print one JSON list")
    parser.set_defaults(do=_search)


def _search(options) -> int:
    from PIL import Image

    from .data import DataError
    from .search import Index

    if options.k < 1:
        raise DataError(f"-k must be at least 1, not {options.k}")
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
    return 0


def _add_export(verbs) -> None:
    parser = _verb(verbs, "export", "Write a run as an ONNX model with a gallery and a parity file, for any other runtime.", "ucdr export 1a2b3c --to build/model")
    parser.add_argument("run", nargs="?", help="key of a run, or its beginning; default: the reader's model, which is trained on first use")
    parser.add_argument("--to", required=True, type=Path, metavar="FOLDER")
    parser.add_argument("--gallery", help="comma-separated domains to search; default: the run's gallery domain")
    parser.add_argument("--page", action="store_true", help="the doodle page's folder: compressed, with its scripts and the runtime")
    parser.set_defaults(do=_export)


def _export(options) -> int:
    from . import export
    from .search import reader_record, record_of

    record = record_of(options.run) if options.run else reader_record()
    gallery = tuple(options.gallery.split(",")) if options.gallery else ()
    if options.page:
        built = export.page(record, options.to, gallery)
        print(f"{options.to}: run {record.key}, {built['bytes'] / 1e6:.1f} MB" + (f"\n{built['missing']}" if built["missing"] else ""))
        return 0
    described = export.export(record, options.to, gallery)
    cosines = export.check(options.to)
    print(f"{options.to}: run {record.key}, {len(described['pictures'])} pictures; smallest cosine between ONNX and Python {min(cosines):.5f}")
    return 0


def _add_publish(verbs) -> None:
    parser = _verb(verbs, "publish", "Put the built site into a folder of a static host, or on a branch of the repository; refuses what the gate has not passed.",
                   "ucdr publish --to /var/www/ucdr")
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument("--to", type=Path, metavar="FOLDER", help="a folder; what it holds of an earlier site is replaced")
    target.add_argument("--branch", help="a branch of this repository, pushed to its remote (ghp-import), such as gh-pages")
    target.add_argument("--check", action="store_true", help="only say whether the site may be published")
    parser.set_defaults(do=_publish)


def _publish(options) -> int:
    from . import publish

    site = publish.checked()
    if options.to:
        publish.to_folder(site, options.to)
    elif options.branch:
        publish.to_branch(site, options.branch)
    print(f"{site}: passed by the gate" + (f"; published to {options.to or options.branch}" if not options.check else ""))
    return 0


# -------------------------------------------------------------------------------------------------------------- bench

def _add_bench(verbs) -> None:
    parser = _verb(verbs, "bench", "Measure this machine: exact retrieval metrics against scikit-learn; the training loop against the model alone and a "
                   "straightforward loop; indexes for search against a flat one; or how far numbers move between instruction sets.", "ucdr bench train --device cuda")
    parser.add_argument("what", choices=["retrieval", "train", "search", "numerics"])
    parser.add_argument("--queries", type=int, default=92_000, help="retrieval")
    parser.add_argument("--gallery", type=int, default=54_000, help="retrieval")
    parser.add_argument("--dimension", type=int, default=512, help="retrieval")
    parser.add_argument("--sizes", default="10000,100000,1000000", help="search: numbers of vectors, comma-separated")
    parser.add_argument("--device", help="train; default: cuda where there is a GPU")
    parser.add_argument("--backbone", default="se_resnet50", help="train")
    parser.add_argument("--size-px", type=int, default=224, help="train")
    parser.add_argument("--batch-size", type=int, default=64, help="train")
    parser.add_argument("--precision", help="train; default: bfloat16 on a GPU, else float32")
    parser.add_argument("--compile", action="store_true", help="train")
    parser.add_argument("--workers", type=int, default=8, help="train: processes of the straightforward loop")
    parser.add_argument("--seconds", type=float, default=60, help="train: of each of the three measurements")
    parser.set_defaults(do=_bench)


def _bench(options) -> int:
    from . import bench

    if options.what == "numerics":
        bench.numerics()
    elif options.what == "search":
        bench.search([int(size) for size in options.sizes.split(",")])
    elif options.what == "retrieval":
        bench.retrieval(options.queries, options.gallery, options.dimension)
    else:
        import torch

        device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
        bench.train(device, options.backbone, options.size_px, options.batch_size, options.seconds, options.workers,
                    options.precision or ("bfloat16" if device.startswith("cuda") else "float32"), options.compile)
    return 0


if __name__ == "__main__":
    sys.exit(main())
