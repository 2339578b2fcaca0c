"""`ucdr run`: one training of one's own choice."""

from __future__ import annotations

import json
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

from ucdr_core import paths
from ucdr_core.chapters import paper_recipes
from ucdr_core.chapters.systems import frozen_defaults
from ucdr_core.cli import can_write, filled, one_line, only_json, refusals, whole_number
from ucdr_core.data import DataError, Evaluation, Manifest, images, load, protocols
from ucdr_core.data.published import PUBLISHED
from ucdr_core.device import usable
from ucdr_core.evidence.record import TrainedRun
from ucdr_core.evidence.store import Store
from ucdr_core.methods import METHODS, OptionError
from ucdr_core.training.parallel import ProcessesFailed
from ucdr_core.training.spec import TrainSpec

PROTOCOLS = ("zs_sbir", "gzs_sbir", "uccdr", "udcdr", "ucdr")
SKETCH_PHOTO = ("zs_sbir", "gzs_sbir")  # protocols of two domains
NESTED = ("options", "recipe", "features")  # values of a spec that hold others
FILES = ("data_root", "split", "vectors", "weights")  # values of a spec that may name a file


class RunFailed(RuntimeError):
    """A run that began and did not end."""


def add_run(parser) -> None:
    parser.add_argument("method", choices=sorted(METHODS))
    parser.add_argument("--dataset", default="emoji-sketchy", help="a name of `ucdr data list`")
    parser.add_argument(
        "--data-root", type=filled, help="folder of <domain>/<class>/<image file>, for --dataset folders"
    )
    parser.add_argument(
        "--split",
        type=filled,
        help="shipped split or JSON file; default: `emoji` for the emoji sets, else drawn and stored",
    )
    parser.add_argument("--protocol", default="zs_sbir", choices=PROTOCOLS)
    parser.add_argument("--query-domain", default="sketch", help="default: sketch")
    parser.add_argument("--gallery-domain", help="default: photo, or real where the data have that domain")
    parser.add_argument("--train-domains", type=filled, help="comma-separated; default: what the protocol says")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        dest="assignments",
        help="any other value: a spec's (regime=finetune), a method option's (options.kappa=4) or the recipe's "
        "(recipe.lr=1e-3)",
    )
    parser.add_argument(
        "--device",
        help="cpu, cuda, cuda:1; default: cuda for a published data set where there is a GPU, else cpu",
    )
    parser.add_argument(
        "--gpus",
        type=whole_number(1),
        default=1,
        help="GPUs that train this run together (torchrun); part of the spec as world_size",
    )
    parser.add_argument("--compile", action="store_true", help="put the trained trunk through torch.compile")
    parser.add_argument("--plan", action="store_true", help="print what the run will take, and stop")
    parser.add_argument("--no-notebook", action="store_true", help="train in this process instead of through papermill")
    parser.add_argument("--json", action="store_true", help="print the scores as one JSON object")
    parser.epilog += "\n\nspec values: " + ", ".join(one.name for one in fields(TrainSpec))
    parser.set_defaults(do=_run)


def _run(options) -> int:
    try:
        return _trained(options)
    except (RunFailed, ProcessesFailed) as error:
        print(one_line(f"ucdr run: {error}"), file=sys.stderr)
        return 1


def _trained(options) -> int:
    with only_json(options.json):
        spec, evaluations = checked(options)
        wished = default_device(options.dataset) if options.device is None else options.device
        device, store = usable(wished, 1 if options.plan else options.gpus), Store()
        if options.plan or not store.folder(spec).exists():
            _print_plan(spec, device, store, progress=not options.json)
        if options.plan:
            return 0
        can_write(store.root)
        notes = data_notes(spec)
        print("\n".join(notes), end="\n" if notes else "", file=sys.stderr, flush=True)
        if options.no_notebook:
            record = store.make(spec, device=device, compiled=options.compile)
        else:
            record = _through_papermill(spec, store, device, options.compile)
    if options.json:
        scores = {evaluation.name: record.scores(evaluation.name) for evaluation in evaluations}
        print(json.dumps({"run": record.key, "folder": str(record.folder), "scores": scores, "notes": notes}, indent=1))
        return 0
    print(f"record {record.folder}")
    for evaluation in evaluations:
        counts = record.result["counts"][evaluation.name]
        scores = "  ".join(f"{name} {value:.3f}" for name, value in record.scores(evaluation.name).items())
        print(f"{evaluation.name} ({counts['queries']} queries, {counts['gallery']} gallery images): {scores}")
    return 0


def checked(options) -> tuple[TrainSpec, list[Evaluation]]:
    """The spec, and the evaluations that were wished for; fails before hours of training, not after."""
    spec = spec_from_options(options)
    training, every = spec.training(), spec.evaluations()
    wished = [one for one in every if (one.protocol, one.query_domain) == (options.protocol, options.query_domain)]
    if not wished:
        raise DataError(
            f"this training cannot be asked {options.protocol} from {options.query_domain}: it answers "
            f"{', '.join(one.name for one in every) or 'nothing'}"
        )
    for evaluation in wished:
        protocols.task_of(training, evaluation)
    source = f" ({training.split.source})" if training.split.source else ""
    print(
        f"run {spec.key}: {spec.method} on {training.manifest.name}, {len(training.train)} training images of "
        f"{len(training.seen)} classes in {', '.join(training.domains)}; split {training.split.name}{source}\n"
        f"validation classes: {', '.join(training.split.val) or 'none'}\n"
        f"unseen classes: {', '.join(training.split.test)}",
        flush=True,
    )
    return spec, wished


def spec_from_options(options) -> TrainSpec:
    """The TrainSpec that `ucdr run`'s options mean."""
    manifest = load(options.dataset, options.data_root)
    gallery = options.gallery_domain or ("real" if "real" in manifest.domains else "photo")
    for domain in (gallery, options.query_domain):
        manifest.check_domain(domain)
    if options.query_domain == gallery:
        raise DataError(f"the query domain and the gallery domain are both {gallery!r}")
    domains = _train_domains(options, manifest, gallery)
    emoji = options.dataset.startswith("emoji")
    if options.dataset in paper_recipes.SPLITS:
        values = paper_recipes.defaults(options.method, options.dataset, domains, options.split or "")
    else:
        values = {"split": "emoji" if emoji else None, **frozen_defaults(options.method, real=not emoji)}
    values |= {
        "method": options.method,
        "dataset": options.dataset,
        "data_root": options.data_root,
        "train_domains": domains,
        "gallery_domain": gallery,
        "seed": options.seed,
        "world_size": options.gpus,
        "gallery_held_out": 0.0 if options.protocol in SKETCH_PHOTO else 0.25 if emoji else 0.08,
        "samples_left_out": 0.2 if options.protocol == "gzs_sbir" else 0.0,
    }
    if options.split:
        values["split"] = options.split
    for assignment in options.assignments:
        _assign(values, assignment)
    for name in FILES:  # the run notebook has another current folder
        value = values.get(name)
        if isinstance(value, str) and Path(value).expanduser().exists():
            values[name] = str(Path(value).expanduser().resolve())
    return TrainSpec.from_mapping(values)


def _train_domains(options, manifest: Manifest, gallery: str) -> tuple[str, ...]:
    if options.train_domains:
        return tuple(options.train_domains.split(","))
    if options.protocol in SKETCH_PHOTO:
        return options.query_domain, gallery
    if options.protocol == "uccdr":
        return tuple(manifest.domains)
    return tuple(domain for domain in manifest.domains if domain != options.query_domain)


def _assign(values: dict[str, Any], assignment: str) -> None:
    """Puts what `--set NAME=VALUE` says into the values of a spec; VALUE is JSON, or else text."""
    name, sign, text = assignment.partition("=")
    part, dot, rest = name.partition(".")
    if not sign or not part or dot and (not rest or "." in rest or part not in NESTED):
        expected = f"expected NAME=VALUE, or NAME.NAME=VALUE for a value in {', '.join(NESTED)}"
        raise OptionError(f"--set {assignment!r}: {expected}")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = text
    if dot:
        within = values.get(part) or {}
        if not isinstance(within, dict):
            raise OptionError(f"--set {assignment!r}: {part} was set to {within!r}, which holds no values")
        values[part] = {**within, rest: value}
    else:
        values[name] = value


def default_device(dataset: str) -> str:
    """Embedded and own pictures are trained on frozen features, where a CPU is enough."""
    import torch

    return "cuda" if dataset in PUBLISHED and torch.cuda.is_available() else "cpu"


def _print_plan(spec: TrainSpec, device: str, store: Store, progress: bool) -> None:
    from ucdr_core.training.plan import plan

    print("\n".join(plan(spec, device, progress, store.first_stage(device, progress)).lines()), flush=True)
    if device.startswith("cuda"):
        import torch

        torch.cuda.empty_cache()  # the run has a process of its own


def data_notes(spec: TrainSpec) -> list[str]:
    """What a reader of the score should know of the pictures: files that were skipped, and pictures that stand both in
    a class that is trained on and in one that is tested.  Of embedded pictures nothing."""
    manifest = spec.manifest()
    return images.notes(manifest, spec.class_split()) if manifest.root.is_dir() else []


def _names_of_user_errors() -> set[str]:
    """The notebook's own errors come by name alone."""
    kinds, names = [OSError, MemoryError, UnicodeError, *refusals()], set()
    while kinds:
        kind = kinds.pop()
        names.add(kind.__name__)
        kinds += kind.__subclasses__()
    return names | {"OutOfMemoryError"}


def _through_papermill(spec: TrainSpec, store: Store, device: str, compiled: bool) -> TrainedRun:
    """Executes the run notebook; its executed copy is kept beside the record."""
    import papermill
    from nbclient.exceptions import DeadKernelError

    store.root.mkdir(parents=True, exist_ok=True)
    executed = store.root / f".{spec.key}.ipynb"
    try:
        papermill.execute_notebook(
            str(paths.run_notebook()),
            str(executed),
            parameters={"spec": json.dumps(spec.mapping()), "device": device, "compiled": compiled},
            kernel_name="python3",
            cwd=str(store.root),
            progress_bar=False,
            stderr_file=sys.stderr,
            log_output=False,
        )
    except papermill.PapermillExecutionError as error:
        if error.ename in _names_of_user_errors():
            raise DataError(f"{error.evalue} (the notebook of this run is {executed})") from None
        raise RunFailed(f"the run failed with {error.ename}: {error.evalue}; its notebook is {executed}") from None
    except DeadKernelError as error:
        raise RunFailed(
            "the run was ended from outside, for want of memory perhaps; the same command goes on"
        ) from error
    record = store.trained(spec)
    assert record is not None  # the notebook made it
    executed.replace(store.root / f"{spec.key}.ipynb")
    return record
