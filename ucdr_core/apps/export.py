"""A run as files for other places: an ONNX model, a gallery to search, and the doodle page's own.

model.onnx     pixels (1, 3, H, W) in [0, 1] -> `embedding` (1, D) of the run, and `features` (1, C), its frozen trunk's
               average
gallery.json   classes, pictures with their credits, word vectors, what the run is; `gallery.bin`: its embeddings, eight
               bits a number
sprite.webp    the pictures, side by side
parity.json    pictures with the embeddings that Python gives them, to hold any other runtime to
"""

from __future__ import annotations

import base64
import gzip
import json
import re
import shutil
import subprocess
import tempfile
import warnings
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from ucdr_core import paths
from ucdr_core.apps.encoder import PictureEncoder, framed
from ucdr_core.apps.folder import EXPORT, made
from ucdr_core.data import DataError, images
from ucdr_core.data.protocols import Training
from ucdr_core.evidence.record import TrainedRun
from ucdr_core.methods import METHODS, semantics
from ucdr_core.methods.base import pooled
from ucdr_core.training.spec import TrainSpec

TILE_PX, COLUMNS = 64, 25
QUERY_DOMAINS = ("quickdraw", "sketch")  # the first that the data has gives the examples of page and parity file
OUTPUTS = ("embedding", "features")  # of model.onnx
RUNTIME = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")


class ExportError(RuntimeError):
    """A run that cannot be exported."""


class Exported(nn.Module):
    """What model.onnx computes, for a drawing: the run's embedding, and the average of its frozen trunk's map."""

    def __init__(self, encoder: PictureEncoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, pixels: torch.Tensor, photo: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
        inputs = self.encoder.inputs(pixels, photo)
        return self.encoder.method.embed(inputs, torch.full((len(pixels),), photo, dtype=torch.bool)), pooled(inputs)


def export(record: TrainedRun, folder: Path, gallery: tuple[str, ...] = ()) -> dict[str, Any]:
    """Writes the four files into a new `folder`, or one of an earlier export, and returns what gallery.json says.

    gallery  domains whose pictures are searched; default: the run's own gallery domain
    Raises FolderError where the folder holds anything else, ExportError for a run whose trunk is not frozen, or one
    that is fed from another: their `features` would be another model's.
    """
    with made(folder, EXPORT) as work:
        return _write(record, work, gallery)


def _write(record: TrainedRun, work: Path, gallery: tuple[str, ...]) -> dict[str, Any]:
    spec = record.spec
    if spec.regime != "frozen" or spec.features:
        raise ExportError(
            f"run {record.key}: export takes a run on a frozen trunk (regime 'frozen', not fed from another), so that "
            f"one file gives the trained embedding and the untrained features; this one has regime {spec.regime!r}"
            + (" and is fed from another" if spec.features else "")
        )
    encoder = PictureEncoder(record)
    manifest, exported = spec.manifest(), Exported(encoder).eval()
    for domain in gallery:
        manifest.check_domain(domain)
    _onnx(exported, spec.size_px, work / "model.onnx")
    rows = manifest.rows(list(gallery or [spec.gallery_domain]), manifest.classes)
    pictures = [images.read(manifest, row) for row in rows]
    with torch.inference_mode():
        batches = [
            exported(encoder.pixels(pictures[start : start + 64]), photo=True) for start in range(0, len(pictures), 64)
        ]
    outputs = {name: torch.cat(parts).numpy() for name, parts in zip(OUTPUTS, zip(*batches))}
    with open(work / "gallery.bin", "wb") as file:
        for values in outputs.values():
            whole, scale = quantised(values)
            file.write(scale.tobytes())
            file.write(whole.tobytes())
    _sprite(pictures, work / "sprite.webp")
    description = _description(record, encoder, rows, {name: values.shape[1] for name, values in outputs.items()})
    (work / "gallery.json").write_text(json.dumps(description, separators=(",", ":")))
    (work / "parity.json").write_text(json.dumps(_parity(record, encoder), separators=(",", ":")))
    return description


# --------------------------------------------------------------------------------------------------------------- model


def _onnx(module: nn.Module, size_px: int, path: Path) -> None:
    import onnx
    import onnxruntime

    with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own, of torch to itself
        whole, folded = Path(scratch) / "whole.onnx", Path(scratch) / "folded.onnx"
        torch.onnx.export(
            module,
            (torch.zeros(1, 3, size_px, size_px),),
            whole,
            input_names=["pixels"],
            output_names=list(OUTPUTS),
            dynamo=True,
            opset_version=21,
            external_data=False,
            verbose=False,
        )
        options = onnxruntime.SessionOptions()
        # Folds constants; plain ONNX comes out.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(folded)
        onnxruntime.InferenceSession(str(whole), options, providers=["CPUExecutionProvider"])
        model = compressed(onnx.load(folded))
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())


def compressed(model, large: int = 200_000, block: int = 64):
    """The ONNX model at a third of its size: it computes in single precision, but weights are stored in fewer bits.

    Dense filters of more than `large` numbers as 8-bit integers with a scale for each `block` of input channels, all
    others in half precision: the early filters are few, and rounding them to eight bits cost most: cosines fell to
    .996, where the tests ask for .999.
    """
    from onnx import TensorProto, helper, numpy_helper

    graph = model.graph
    used = {(node.op_type, name) for node in graph.node for place, name in enumerate(node.input) if place == 1}
    kept, added = [], []
    for weight in graph.initializer:
        values = numpy_helper.to_array(weight)
        if weight.data_type != TensorProto.FLOAT or values.size < 256:
            kept.append(weight)
        elif values.size > large and ("Conv", weight.name) in used and values.shape[1] % block == 0:
            blocks = values.reshape(values.shape[0], -1, block, *values.shape[2:])
            scale = np.abs(blocks).max(axis=2) / np.float32(127)
            scale[scale == 0] = 1
            whole = np.round(blocks / scale[:, :, None]).astype(np.int8).reshape(values.shape)
            kept += [
                numpy_helper.from_array(whole, weight.name + ".int8"),
                numpy_helper.from_array(scale, weight.name + ".scale"),
            ]
            inputs = [weight.name + ".int8", weight.name + ".scale"]
            added.append(helper.make_node("DequantizeLinear", inputs, [weight.name], axis=1, block_size=block))
        else:
            kept.append(numpy_helper.from_array(values.astype(np.float16), weight.name + ".half"))
            added.append(helper.make_node("Cast", [weight.name + ".half"], [weight.name], to=TensorProto.FLOAT))
    nodes = [*added, *graph.node]
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend(kept)
    graph.node.extend(nodes)
    return model


def quantised(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n, D) -> int8 (n, D) and float32 (n,) with values close to int8 * scale: each row by its largest entry."""
    scale = np.abs(values).max(axis=1) / 127
    scale[scale == 0] = 1
    return np.round(values / scale[:, None]).astype(np.int8), scale.astype(np.float32)


# ------------------------------------------------------------------------------------------------------------- gallery


def _sprite(pictures: list[Image.Image], path: Path) -> None:
    sheet = Image.new("RGB", (COLUMNS * TILE_PX, -(-len(pictures) // COLUMNS) * TILE_PX), "white")
    for place, picture in enumerate(pictures):
        tile = picture.resize((TILE_PX, TILE_PX), Image.Resampling.LANCZOS)
        sheet.paste(tile, (place % COLUMNS * TILE_PX, place // COLUMNS * TILE_PX))
    sheet.save(path, quality=72, method=6)


def _description(
    record: TrainedRun, encoder: PictureEncoder, rows: np.ndarray, dimensions: dict[str, int]
) -> dict[str, Any]:
    spec, training = record.spec, record.spec.training()
    samples = training.manifest.samples.iloc[rows]
    classes = sorted(samples.class_name.unique())
    known = credits()
    return {
        "run": record.key,
        "method": spec.method,
        "dataset": training.manifest.name,
        "data": training.manifest.fingerprint,
        "seed": spec.seed,
        "trained_on": list(training.domains),
        "finished": record.circumstances["finished"][:10],
        "backbone": spec.backbone,
        "size_px": spec.size_px,
        "distance": encoder.distance,
        "dimensions": dimensions,
        "classes": classes,
        "seen": [name for name in classes if name in training.seen],
        "credits": {
            name: known[name] for name in sorted({path.split("/")[0] for path in samples.path}) if name in known
        },
        "pictures": [
            [classes.index(row.class_name), row.path.split("/")[0], Path(row.path).stem] for row in samples.itertuples()
        ],
        "words": _words(spec, training, classes, dimensions["embedding"]),
        "tile_px": TILE_PX,
        "columns": COLUMNS,
    }


def _words(spec: TrainSpec, training: Training, classes: list[str], dimension: int) -> list[list[float]] | None:
    """Class vectors in the space of the embeddings, of unseen classes too; None where that is no space of words."""
    if not METHODS[spec.method].uses_class_vectors or spec.permuted_names or spec.embedding_dim != dimension:
        return None
    seen, every = (
        semantics.class_vectors(names, spec.vectors, training.split.words) for names in (training.seen, classes)
    )
    shift = seen.mean(axis=0) if spec.vectors_centred else 0
    vectors = semantics.prepare(every - shift, False, spec.vectors_normalised, spec.embedding_dim, spec.vectors_length)
    return np.round(vectors, 4).tolist()


@lru_cache
def credits() -> dict[str, dict[str, str]]:
    """{domain of the embedded data: {set, licence, attribution}}, from its licence file."""
    text = (paths.PACKAGE / "data" / "emoji_domains" / "LICENSES.md").read_text()
    of_domain = {}
    for block in text.split("\n## ")[1:]:
        fields = dict(re.findall(r"^- (Set|Licence|Attribution): (.+)$", block, re.MULTILINE))
        if len(fields) == 3:
            of_domain[block.splitlines()[0]] = {name.lower(): value for name, value in fields.items()}
    return of_domain


def _parity(record: TrainedRun, encoder: PictureEncoder, per_kind: int = 5) -> dict[str, Any]:
    """Drawings of unseen and seen classes, at twice their size so that framing and resizing are tested too."""
    training = record.spec.training()
    manifest = training.manifest
    domain = next(
        name
        for name in (*QUERY_DOMAINS, *manifest.domains)
        if name in manifest.domains and name != record.spec.gallery_domain
    )
    examples = []
    for unseen in (True, False):
        names = sorted(training.split.test if unseen else training.seen)
        for name in np.array(names)[np.linspace(0, len(names) - 1, per_kind).round().astype(int)]:
            row = manifest.rows([domain], [name])[0]
            picture = images.read(manifest, row)
            large = picture.resize((2 * picture.width, 2 * picture.height), Image.Resampling.BICUBIC)
            with torch.inference_mode():
                embedding, features = Exported(encoder)(encoder.pixels([framed(large)]))
            examples.append(
                {
                    "class": str(name),
                    "unseen": unseen,
                    "credit": domain,
                    "width": large.width,
                    "height": large.height,
                    "rgb": base64.b64encode(gzip.compress(np.asarray(large).tobytes(), mtime=0)).decode(),
                    "embedding": np.round(embedding[0].numpy(), 5).tolist(),
                    "features": np.round(features[0].numpy(), 5).tolist(),
                }
            )
    return {"run": record.key, "examples": examples}


# ----------------------------------------------------------------------------------------------------------------- page


def page(record: TrainedRun, folder: Path, gallery: tuple[str, ...] = ()) -> dict[str, Any]:
    """The doodle page's folder: the export, compressed, its scripts, and the runtime (`web/package-lock.json` pins it).

    Without npm the folder has the scripts and a `build.json` that says what is missing; the page shows it.  Returns
    build.json.
    """
    with made(folder, EXPORT) as work:
        description = _write(record, work, gallery)
        for name in ("model.onnx", "gallery.bin"):
            _compress(work / name)
        missing = _runtime(work)
        for source in (*paths.WEB.glob("*.mjs"), paths.WEB / "doodle.css"):
            shutil.copy(source, work)
        build = {
            "missing": missing,
            "run": description["run"],
            "bytes": sum(file.stat().st_size for file in work.iterdir()),
        }
        (work / "build.json").write_text(json.dumps(build))
    return build


def _compress(path: Path) -> None:
    """A static server need not compress, so the page unpacks these itself."""
    path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes(), 9, mtime=0))
    path.unlink()


def _runtime(folder: Path) -> str:
    """Puts onnxruntime-web into the folder; returns what is missing, or nothing."""
    npm = shutil.which("npm")
    if npm is None:
        return (
            "Node.js with npm was not found when this book was built. The page needs the package onnxruntime-web: "
            "install Node.js and run `make site` again."
        )
    with tempfile.TemporaryDirectory() as scratch:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(paths.WEB / name, scratch)
        command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        done = subprocess.run(command, cwd=scratch, capture_output=True, text=True)
        if done.returncode:
            reason = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "no reason given"
            return f"npm could not install onnxruntime-web when this book was built ({reason})."
        for name in RUNTIME:
            shutil.copy(Path(scratch) / "node_modules" / "onnxruntime-web" / "dist" / name, folder)
    _compress(folder / RUNTIME[-1])
    return ""


def check(folder: Path) -> list[float]:
    """Cosines between what model.onnx gives here and what parity.json says: embedding and features of every example."""
    import onnxruntime

    if not (folder / "model.onnx").exists():
        raise DataError(f"{folder} holds no model.onnx; `ucdr export RUN --to {folder}` makes it")
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    size_px = session.get_inputs()[0].shape[2]
    cosines = []
    for example in json.loads((folder / "parity.json").read_text())["examples"]:
        rgb = np.frombuffer(gzip.decompress(base64.b64decode(example["rgb"])), np.uint8)
        drawing = framed(Image.fromarray(rgb.reshape(example["height"], example["width"], 3)))
        squashed = drawing.resize((size_px, size_px), Image.Resampling.BICUBIC)
        pixels = np.asarray(squashed, np.float32).transpose(2, 0, 1)[None] / 255
        for name, values in zip(OUTPUTS, session.run(list(OUTPUTS), {"pixels": pixels})):
            wanted = np.array(example[name])
            cosines.append(float(values[0] @ wanted / np.linalg.norm(values[0]) / np.linalg.norm(wanted)))
    return cosines
