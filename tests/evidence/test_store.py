"""Specs, records and the store: identity, damage, resuming after kill -9."""

import json
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch

import ucdr_core
from ucdr_core.evidence.record import MissingRun, RecordError
from ucdr_core.evidence.store import Store
from ucdr_core.methods import OptionError
from ucdr_core.training.prepare import prepare
from ucdr_core.training.spec import TrainSpec


@pytest.fixture
def spec(small):
    return TrainSpec.from_mapping(small)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "runs")


def test_the_same_seed_gives_the_same_result_and_another_does_not(small, tmp_path):
    one, again = (Store(tmp_path / str(k)).make(TrainSpec.from_mapping(small), progress=False) for k in range(2))
    assert one.key == again.key and one.result == again.result
    assert (one.folder / "weights.safetensors").read_bytes() == (again.folder / "weights.safetensors").read_bytes()
    other = Store(tmp_path / "other").make(TrainSpec.from_mapping({**small, "seed": 1}), progress=False)
    assert other.key != one.key and other.result["scores"] != one.result["scores"]


def test_a_default_written_out_is_the_same_run(small):
    assert TrainSpec.from_mapping({**small, "options": {"kappa": 2}}).key == TrainSpec.from_mapping(small).key
    assert TrainSpec.from_mapping({**small, "options": {"kappa": 3}}).key != TrainSpec.from_mapping(small).key


def test_files_count_by_their_content_not_by_their_place(small, tmp_path):
    """Word vectors and weights under another path are the same run; other vectors are another."""

    def written(folder, value):
        path = tmp_path / folder / "vectors.txt"
        path.parent.mkdir()
        path.write_text(f"cat {value} 0.5\ndog 0.1 0.2\n")
        return str(path)

    one, same, other = written("a", 1.0), written("b", 1.0), written("c", 2.0)
    keys = [TrainSpec.from_mapping({**small, "vectors": path}).key for path in (one, same, other)]
    assert keys[0] == keys[1] != keys[2]


def test_a_method_that_uses_no_word_vectors_is_the_same_run_with_any(small):
    frozen = {**small, "method": "frozen", "recipe": {}}
    assert (
        TrainSpec.from_mapping({**frozen, "vectors": "/nowhere/vectors.txt"}).key == TrainSpec.from_mapping(frozen).key
    )


def test_where_the_data_lies_is_not_part_of_the_identity(small, tree, tmp_path):
    shutil.copytree(tree, tmp_path / "elsewhere")
    assert (
        TrainSpec.from_mapping({**small, "data_root": str(tmp_path / "elsewhere")}).key
        == TrainSpec.from_mapping(small).key
    )


def test_changed_data_is_another_run(small, tree, tmp_path):
    shutil.copytree(tree, tmp_path / "fewer")
    next((tmp_path / "fewer" / "photo" / "cat").glob("[0-9A-F]*.png")).unlink()
    # The drawn split is stored by data set, so the split is named here.
    split = tmp_path / "split.json"
    split.write_text(json.dumps({"train": ["cat", "dog", "car", "moon"], "val": ["house"], "test": ["fish", "tree"]}))
    named = {**small, "split": str(split)}
    assert (
        TrainSpec.from_mapping({**named, "data_root": str(tmp_path / "fewer")}).key != TrainSpec.from_mapping(named).key
    )


@pytest.mark.parametrize(
    "change, message",
    [
        ({"metod": "snmpnet"}, "unknown option 'metod'"),
        ({"method": "sketchnet"}, "unknown method 'sketchnet'"),
        ({"seed": 1.0}, "seed must be int"),
        ({"seed": -1}, "seed must not be negative"),
        ({"regime": "thawed"}, "one of 'frozen'"),
        ({"recipe": {"lr": 0}}, "lr must be positive"),
        ({"recipe": {"epoch": 3}}, "unknown option 'epoch'"),
        ({"train_domains": "sketch"}, "list of str"),
        ({"gallery_held_out": 1.5}, r"\[0, 1\)"),
        ({"backbone": "resnet"}, "unknown backbone"),
        ({"options": {"margin": 1}}, "options of snmpnet: unknown option 'margin'"),
    ],
)
def test_specs_are_checked(small, change, message):
    with pytest.raises(OptionError, match=message):
        TrainSpec.from_mapping({**small, **change})


def test_a_record_holds_what_a_number_needs(spec, store):
    record = store.make(spec, progress=False)
    for name in record.evaluations:
        for metric, mean in record.scores(name).items():
            assert record.per_query(name, metric).mean() == pytest.approx(mean, abs=1e-6)
    assert record.result["data"]["fingerprint"] == spec.manifest().fingerprint
    assert {"seconds", "device", "versions", "commit", "peak_memory_mb"} <= set(record.circumstances)
    assert len(record.log) == record.result["epochs"] and "loss_ce" in record.log[0]
    best = max(entry["val_map_all"] for entry in record.log)
    assert record.log[record.result["selected_epoch"]]["val_map_all"] == pytest.approx(best)
    with pytest.raises(KeyError, match="it has .*zs_sbir:sketch:unseen"):
        record.scores("ucdr:moon:unseen")


def test_a_record_is_made_once(spec, store):
    first = store.make(spec, progress=False)
    stamp = (first.folder / "record.json").stat().st_mtime_ns
    store.make(spec, progress=False)
    assert (first.folder / "record.json").stat().st_mtime_ns == stamp


def test_embeddings_of_a_record_give_its_scores(spec, store):
    record = store.make(spec, progress=False)
    task = record.task("zs_sbir:sketch:unseen")
    labels = spec.manifest().samples.class_name.to_numpy().astype(str)
    scores = ucdr_core.evaluate(
        record.embed(task.query), labels[task.query], record.embed(task.gallery), labels[task.gallery]
    )
    assert scores["map_all"] == pytest.approx(record.scores("zs_sbir:sketch:unseen")["map_all"], abs=1e-9)


@pytest.mark.parametrize("name", ["record.json", "per_query.npz", "weights.safetensors", "log.jsonl", "spec.json"])
@pytest.mark.parametrize("damage", ["missing", "altered"])
def test_a_damaged_record_is_no_record_and_is_made_anew(spec, store, name, damage, capsys):
    record = store.make(spec, progress=False)
    path = record.folder / name
    if damage == "missing":
        path.unlink()
    else:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(bytes(content))
    with pytest.raises(RecordError, match=name):
        store.get(spec)
    again = store.make(spec, progress=False)
    assert again.result == record.result
    assert "set aside" in capsys.readouterr().out


def test_a_score_changed_by_hand_is_noticed(spec, store):
    record = store.make(spec, progress=False)
    path = record.folder / "record.json"
    content = json.loads(path.read_text())
    content["result"]["scores"]["zs_sbir:sketch:unseen"]["map_all"] += 0.1
    path.write_text(json.dumps(content))
    with pytest.raises(RecordError, match="altered"):
        store.get(spec)


def test_a_missing_run_says_how_to_make_it(spec, store):
    with pytest.raises(MissingRun, match="ucdr reproduce"):
        store.need(spec)


KILLED = """
import json, sys, time
from pathlib import Path
from ucdr_core.evidence.store import Store
from ucdr_core.training import loop
from ucdr_core.training.spec import TrainSpec
save = loop._save_state
def slowly(*arguments):
    save(*arguments)
    print("saved", flush=True)
    time.sleep(0.3)
loop._save_state = slowly
Store(Path(sys.argv[2])).make(TrainSpec.from_mapping(json.loads(sys.argv[1])), progress=False, checkpoint_seconds=0)
"""


@pytest.mark.parametrize("method", ["snmpnet", "eisnet"])
def test_a_run_killed_and_resumed_gives_the_identical_record(small, tmp_path, method):
    values = {**small, "method": method, "options": {}, "recipe": {**small["recipe"], "epochs": 6}}
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(torch.get_num_threads()),
    }  # another number of threads sums in another order
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, json.dumps(values), str(tmp_path / "cut")],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        for _ in range(2):
            assert process.stdout.readline() == "saved\n"
        process.send_signal(signal.SIGKILL)
    spec = TrainSpec.from_mapping(values)
    cut = Store(tmp_path / "cut")
    assert cut.get(spec) is None and list((tmp_path / "cut").glob(".*.partial/state.pt"))
    resumed = cut.make(spec, progress=False)
    whole = Store(tmp_path / "whole").make(spec, progress=False)
    assert resumed.result == whole.result
    for name in ("weights.safetensors", "log.jsonl"):
        assert (resumed.folder / name).read_bytes() == (whole.folder / name).read_bytes()
    assert not list((tmp_path / "cut").glob(".*.partial"))


def test_finetune_and_last_blocks_train_the_trunk(small, tmp_path):
    for regime in ("last-blocks", "finetune"):
        values = {**small, "regime": regime, "recipe": {**small["recipe"], "epochs": 1, "lr": 1e-4}}
        record = Store(tmp_path / regime).make(TrainSpec.from_mapping(values), progress=False)
        trained, _ = record.model()
        untrained, _ = prepare(record.spec, progress=False)
        pairs = list(zip(trained.features.upper.parameters(), untrained.features.upper.parameters()))
        assert pairs and any(not np.array_equal(a.detach(), b.detach()) for a, b in pairs)


def test_permuted_names_leave_no_class_its_own_vector(small):
    right, _ = prepare(TrainSpec.from_mapping(small), progress=False)
    wrong, _ = prepare(TrainSpec.from_mapping({**small, "permuted_names": True}), progress=False)
    a, b = right.class_vectors.numpy(), wrong.class_vectors.numpy()
    assert not np.isclose(a, b).all(1).any()
    np.testing.assert_allclose(np.sort(a, axis=0), np.sort(b, axis=0))
