"""The export against Python: the ONNX model, the quantised gallery, the page's module in Node."""

import gzip
import json
import shutil
import subprocess

import numpy as np
import pytest

from ucdr_core import cli, data
from ucdr_core.apps import export as exporting
from ucdr_core.apps.encoder import PictureEncoder
from ucdr_core.evidence.store import Store
from ucdr_core.training.spec import TrainSpec

NODE = shutil.which("node")
RUNNER = """
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
const folder = process.argv[2], at = (name) => pathToFileURL(`${folder}/${name}`).href;
const ort = await import(at("ort.wasm.min.mjs"));
const { Searcher, cosine, unpacked } = await import(at("retrieval.mjs"));
const read = (name) => {
  const bytes = readFileSync(`${folder}/${name}`);
  return bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length);
};
ort.env.wasm.numThreads = 1;
ort.env.wasm.wasmBinary = await unpacked(read("ort-wasm-simd-threaded.wasm.gz"));
ort.env.wasm.wasmPaths = { mjs: at("ort-wasm-simd-threaded.mjs") };
const description = JSON.parse(readFileSync(`${folder}/gallery.json`));
const model = new Uint8Array(await unpacked(read("model.onnx.gz")));
const searcher = await Searcher.open(ort, model, description, await unpacked(read("gallery.bin.gz")));
const results = [];
for (const example of JSON.parse(readFileSync(`${folder}/parity.json`)).examples) {
  const rgb = new Uint8Array(await unpacked(Uint8Array.from(Buffer.from(example.rgb, "base64")).buffer));
  const got = await searcher.search(rgb, example.width, example.height, 12);
  results.push({
    embedding: cosine(got.embedding, example.embedding), features: cosine(got.features, example.features),
    nearest: got.trained.map((hit) => hit.picture), votes: got.votes, words: got.words.length,
  });
}
console.log(JSON.stringify(results));
"""


@pytest.fixture(scope="module")
def page(record, tmp_path_factory):
    folder = tmp_path_factory.mktemp("page") / "doodle"
    return folder, exporting.page(record, folder)


@pytest.fixture(scope="module")
def exported(page, tmp_path_factory):
    """What `ucdr export` writes: the page's folder with its two large files unpacked."""
    folder = tmp_path_factory.mktemp("export") / "model"
    shutil.copytree(page[0], folder)
    for name in ("model.onnx", "gallery.bin"):
        (folder / name).write_bytes(gzip.decompress((folder / f"{name}.gz").read_bytes()))
    return folder


def test_the_onnx_model_computes_what_python_does(exported):
    cosines = exporting.check(exported)
    assert len(cosines) > 4 and min(cosines) > 0.999
    assert (exported / "model.onnx").stat().st_size < 6e6


def test_a_changed_weight_is_noticed(exported, tmp_path):
    import onnx
    from onnx import numpy_helper

    shutil.copytree(exported, tmp_path / "model")
    model = onnx.load(tmp_path / "model" / "model.onnx")
    weight = max(
        (one for one in model.graph.initializer if one.name.endswith(".int8")), key=lambda one: np.prod(one.dims)
    )
    values = numpy_helper.to_array(weight).copy()
    values[: len(values) // 4] = 0
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    onnx.save(model, tmp_path / "model" / "model.onnx")
    assert min(exporting.check(tmp_path / "model")) < 0.99


def test_the_gallery_is_the_encoders_embeddings_in_eight_bits(exported, record):
    described, encoder = json.loads((exported / "gallery.json").read_text()), PictureEncoder(record)
    count, dimension = len(described["pictures"]), described["dimensions"]["embedding"]
    blob = (exported / "gallery.bin").read_bytes()
    scale = np.frombuffer(blob[: 4 * count], np.float32)
    values = (
        np.frombuffer(blob[4 * count : 4 * count + count * dimension], np.int8).reshape(count, dimension)
        * scale[:, None]
    )
    manifest = record.spec.manifest()
    rows = manifest.rows(["photo"], manifest.classes)
    wanted = encoder.embed([data.images.read(manifest, row) for row in rows], photo=True)
    assert count == len(rows) and len(blob) == 4 * 2 * count + count * sum(described["dimensions"].values())
    assert np.abs(values - wanted).max() <= 0.51 * scale.max()
    assert [described["classes"][picture[0]] for picture in described["pictures"]] == manifest.samples.class_name.iloc[
        rows
    ].tolist()
    assert set(described["seen"]) == set(record.spec.training().seen) and len(described["words"]) == len(
        described["classes"]
    )


def test_words_of_seen_classes_are_the_vectors_that_were_trained_with(exported, record):
    described, encoder = json.loads((exported / "gallery.json").read_text()), PictureEncoder(record)
    words = np.array([described["words"][described["classes"].index(name)] for name in record.spec.training().seen])
    np.testing.assert_allclose(words, encoder.method.class_vectors.numpy(), atol=1e-3)


@pytest.mark.skipif(NODE is None, reason="Node.js is not on this machine")
def test_the_pages_module_in_node_agrees_with_python(page, record, tmp_path):
    folder, built = page
    assert built["missing"] == ""
    (tmp_path / "run.mjs").write_text(RUNNER)
    done = subprocess.run([NODE, str(tmp_path / "run.mjs"), str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    results, parity = json.loads(done.stdout), json.loads((folder / "parity.json").read_text())["examples"]
    described, encoder, manifest = (
        json.loads((folder / "gallery.json").read_text()),
        PictureEncoder(record),
        record.spec.manifest(),
    )
    gallery = encoder.embed(
        [data.images.read(manifest, row) for row in manifest.rows(["photo"], manifest.classes)], photo=True
    )
    gallery /= np.linalg.norm(gallery, axis=1, keepdims=True)
    assert len(results) == len(parity)
    for result, example in zip(results, parity):
        assert result["embedding"] > 0.999 and result["features"] > 0.999
        best = set(np.argsort(-(gallery @ np.array(example["embedding"])))[:12].tolist())
        assert (
            len(best & set(result["nearest"])) >= 11 and len(result["nearest"]) == 12
        )  # rounding may swap the twelfth
        assert sum(vote["count"] for vote in result["votes"]) == 12 and result["words"] == min(
            5, len(described["classes"])
        )


def test_without_npm_the_page_says_what_is_missing(record, tmp_path, monkeypatch):
    def write(record, work, gallery):
        for name in ("model.onnx", "gallery.bin"):
            (work / name).write_bytes(b"x")
        return {"run": "x"}

    monkeypatch.setattr(exporting, "_write", write)
    monkeypatch.setattr(exporting.shutil, "which", lambda name: None)
    built = exporting.page(record, tmp_path / "doodle")
    assert (
        "Node.js with npm was not found" in built["missing"]
        and json.loads((tmp_path / "doodle" / "build.json").read_text()) == built
    )
    assert (tmp_path / "doodle" / "page.mjs").exists()


def test_a_run_that_has_no_untrained_twin_is_refused(small):
    spec = TrainSpec.from_mapping(
        {
            **small,
            "method": "strad",
            "embedding_dim": 50,
            "options": {"hidden": 16, "structure": 8, "samples": 2},
            "features": {"method": "simple"},
            "recipe": {**small["recipe"], "epochs": 1},
        }
    )
    record = Store().make(spec, progress=False)
    with pytest.raises(exporting.ExportError, match="is fed from another"):
        exporting.export(record, "unused")
    assert cli.main(["export", record.key, "--to", "unused"]) == 2


def test_every_embedded_domain_has_its_credit():
    assert set(exporting.credits()) >= set(data.emoji().domains)
    assert "Microsoft" in exporting.credits()["fluent_3d"]["attribution"]
