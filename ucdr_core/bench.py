"""Benchmarks that anyone can run: `ucdr bench`."""
from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time

import numpy as np
import torch

from .retrieval import evaluate


def retrieval(queries: int, gallery: int, dimension: int, classes: int = 30) -> None:
    """Exact metrics at full size (time, peak memory), then the ratio to a straightforward scikit-learn evaluation of a part of it.

    The alternative is what the published code does: a whole matrix of distances, an average precision per row by scikit-learn,
    and a sort of the row for the metrics at 200.
    """
    random = np.random.default_rng(0)
    centres = random.standard_normal((classes, dimension), np.float32)

    def clustered(count: int) -> tuple[np.ndarray, np.ndarray]:
        labels = random.integers(0, classes, count)
        values = random.standard_normal((count, dimension), np.float32)
        values *= 3
        values += centres[labels]
        return values, labels

    (q, q_labels), (g, g_labels) = clustered(queries), clustered(gallery)
    before = _peak_mb()
    started = time.perf_counter()
    scores = evaluate(q, q_labels, g, g_labels, progress=True)
    seconds = time.perf_counter() - started
    print(f"blocked evaluation: {queries:,} x {gallery:,}, {dimension}-d, {scores.arithmetic}, {torch.get_num_threads()} threads: "
          f"{seconds:.1f} s, peak memory {_peak_mb()} MB (of which {before} MB before it: libraries and embeddings); map_all {scores['map_all']:.4f}")

    part_q, part_g = min(queries, 500), min(gallery, 20_000)
    arguments = q[:part_q], q_labels[:part_q], g[:part_g], g_labels[:part_g]
    started = time.perf_counter()
    ours = evaluate(*arguments)
    own_seconds = time.perf_counter() - started
    started = time.perf_counter()
    theirs = straightforward(*arguments)
    their_seconds = time.perf_counter() - started
    worst = max(abs(ours[name] - theirs[name]) for name in theirs)
    print(f"against scikit-learn on {part_q:,} x {part_g:,}: {own_seconds:.2f} s and {their_seconds:.2f} s, ratio {their_seconds / own_seconds:.0f}; "
          f"largest difference of a mean {worst:.1e}")


def straightforward(q: np.ndarray, q_labels: np.ndarray, g: np.ndarray, g_labels: np.ndarray) -> dict[str, float]:
    """map_all, map_200 and prec_200 as the published code computes them."""
    from scipy.spatial.distance import cdist
    from sklearn.metrics import average_precision_score

    similarity = -cdist(q.astype(np.float64), g.astype(np.float64))
    relevant = q_labels[:, None] == g_labels
    order = np.argsort(-similarity, axis=1)[:, :200]
    top, top_similarity = np.take_along_axis(relevant, order, 1), np.take_along_axis(similarity, order, 1)
    return {
        "map_all": float(np.mean([average_precision_score(r, s) if r.any() else 0.0 for r, s in zip(relevant, similarity)])),
        "map_200": float(np.mean([average_precision_score(r, s) if r.any() else 0.0 for r, s in zip(top, top_similarity)])),
        "prec_200": float(top.mean(axis=1).mean()),
    }


def _peak_mb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


# ----------------------------------------------------------------------------------------------------------- numerics

# What another x86-64 processor would choose: instruction sets of torch's own kernels, of oneDNN and of MKL, and thread counts.
SURROUNDINGS = {
    "as is, 2 threads": {"OMP_NUM_THREADS": "2"},
    "as is, 1 thread": {"OMP_NUM_THREADS": "1"},
    "AVX2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_CBWR": "AVX2", "OMP_NUM_THREADS": "2"},
    "oldest": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_CBWR": "COMPATIBLE", "OMP_NUM_THREADS": "1"},
}

_ONE_SURROUNDING = """
import hashlib, json, sys
import torch
from ucdr_core import features, runs
from ucdr_core.papers import embedded

torch.set_num_threads(int(__import__("os").environ["OMP_NUM_THREADS"]))
answer = {}
# Inverted sketches: maps of this view alone are computed, not of the whole data set.
for method in ("snmpnet", "cumix", "doodle", "stl", "strad"):
    spec = embedded.sketch_photo("sketchy", method, invert_domains=("sketch",), precision=sys.argv[1])
    record = runs.Store().make(spec, progress=False)
    answer[method] = [record.result["selected_epoch"], record.result["scores"]["zs_sbir:sketch:unseen"]]
maps = runs.prepare(spec.features_spec(), progress=False)[1].inputs.inputs.array
answer["maps"] = hashlib.sha256(maps.tobytes()).hexdigest()[:12]
print(json.dumps(answer))
"""


def numerics() -> None:
    """A training of each kind on the analogue of Sketchy in each surrounding, from pixels to scores: do the rounded maps and the scores stay the same?"""
    for precision in ("float64", "float32"):
        answers = {}
        for name, environment in SURROUNDINGS.items():
            with tempfile.TemporaryDirectory() as home:
                done = subprocess.run([sys.executable, "-c", _ONE_SURROUNDING, precision], capture_output=True, text=True, check=True,
                                      env={**os.environ, **environment, "UCDR_HOME": home})
            answers[name] = json.loads(done.stdout.splitlines()[-1])
        first = next(iter(answers.values()))
        for name, answer in answers.items():
            worst = max(abs(value - first[method][1][metric]) for method in answer if method != "maps" for metric, value in answer[method][1].items())
            epochs = "same" if all(answer[m][0] == first[m][0] for m in answer if m != "maps") else "other"
            print(f"{precision}  {name:17}  maps {answer['maps']}  epochs kept: {epochs}  largest difference of a score {worst:.1e}", flush=True)
