"""The batch: skips what is done, goes on after a failure, and survives kill -9 without leaving workers behind."""

import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from ucdr_core.evidence.batch import reproduce
from ucdr_core.evidence.store import Store
from ucdr_core.training.spec import TrainSpec


@pytest.fixture
def specs(small, tmp_path, monkeypatch):
    monkeypatch.setenv("UCDR_HOME", str(tmp_path))
    return [TrainSpec.from_mapping({**small, "seed": seed}) for seed in range(3)]


def test_the_batch_goes_on_after_a_failure_and_skips_what_is_done(specs, small, tmp_path):
    (tmp_path / "few.txt").write_text("cat 1 2\n")
    broken = TrainSpec.from_mapping({**small, "vectors": str(tmp_path / "few.txt")})
    failures = reproduce([specs[0], broken, specs[1]], jobs=2, progress=False)
    assert [spec.key for spec, _ in failures] == [broken.key] and "have no vector" in failures[0][1]
    stamps = [(Store().folder(spec) / "record.json").stat().st_mtime_ns for spec in specs[:2]]
    assert reproduce(specs, jobs=2, progress=False) == []
    assert [(Store().folder(spec) / "record.json").stat().st_mtime_ns for spec in specs[:2]] == stamps
    assert Store().get(specs[2]) is not None


def workers_of(process):
    return [child for child in psutil.Process(process.pid).children() if "spawn_main" in " ".join(child.cmdline())]


BATCH = """
import json, sys
from ucdr_core.evidence.batch import reproduce
from ucdr_core.training.spec import TrainSpec
if __name__ == "__main__":
    reproduce([TrainSpec.from_mapping(values) for values in json.loads(sys.argv[1])], jobs=2)
"""


def test_an_interrupted_batch_ends_at_once_and_keeps_what_is_done(small, tmp_path, monkeypatch):
    monkeypatch.setenv("UCDR_HOME", str(tmp_path))
    script = tmp_path / "batch.py"
    script.write_text(BATCH)
    many = [TrainSpec.from_mapping({**small, "seed": seed}).mapping() for seed in range(40)]
    with subprocess.Popen([sys.executable, str(script), json.dumps(many)], stderr=subprocess.PIPE) as process:
        while not list((tmp_path / "runs").glob("[!.]*/record.json")):
            assert process.poll() is None
            time.sleep(0.05)
        workers = workers_of(process)
        process.send_signal(signal.SIGINT)
        assert b"KeyboardInterrupt" in process.communicate(timeout=20)[1]
    _, alive = psutil.wait_procs(workers, timeout=10)
    done = len(list((tmp_path / "runs").glob("[!.]*/record.json")))
    assert workers and alive == [] and 0 < done < 40


def test_a_killed_batch_leaves_no_worker_and_goes_on_to_the_same_records(specs, tmp_path):
    script = tmp_path / "batch.py"
    script.write_text(BATCH)
    command = [sys.executable, str(script), json.dumps([spec.mapping() for spec in specs])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while not (workers := workers_of(process)):  # they are being started, or at work
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    _, alive = psutil.wait_procs(workers, timeout=30)
    assert alive == []
    assert reproduce(specs, jobs=2, progress=False) == []
    for spec in specs:
        assert Store(tmp_path / "whole").make(spec, progress=False).result == Store().get(spec).result
    assert os.listdir(tmp_path / "runs") and not list((tmp_path / "runs").glob("*.damaged*"))
