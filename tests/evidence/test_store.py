"""Specs, records and the store: identity, damage, resuming after kill -9."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save

import ucdr_core
from ucdr_core.evidence.record import MissingRun, RecordError, digest_of, load_record
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
        ({"seed": -1}, "seed: it must be in"),
        ({"regime": "thawed"}, "one of 'frozen'"),
        ({"recipe": {"lr": 0}}, "lr: it must be in"),
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


def rewritten(folder, change):
    """A record that was changed and has a digest that matches."""
    content = json.loads((folder / "record.json").read_text())
    del content["digest"]
    change(content)
    (folder / "record.json").write_text(json.dumps({**content, "digest": digest_of(content)}))


@pytest.fixture
def finished(record, tmp_path):
    """The session's run in a store of its own, and its spec."""
    shutil.copytree(record.folder, tmp_path / "runs" / record.key)
    return Store(tmp_path / "runs"), record.spec


def test_a_folder_copied_to_another_key_does_not_serve(finished):
    store, spec = finished
    other = TrainSpec.from_mapping({**spec.mapping(), "seed": 1})
    shutil.copytree(store.folder(spec), store.folder(other))
    for look in (store.get, store.trained, lambda other: load_record(store.folder(other))):
        with pytest.raises(RecordError, match="is that of run"):
            look(other)
    rewritten(store.folder(other), lambda content: content.update(key=other.key))
    with pytest.raises(RecordError, match="its seed is 0, and 1 is asked for"):
        store.get(other)
    with pytest.raises(RecordError, match=f"has the name {spec.key} now"):
        load_record(store.folder(other))
    assert store.get(spec).result and load_record(store.folder(spec)).result


def test_the_same_data_elsewhere_is_served_from_there(finished, tree, tmp_path):
    store, spec = finished
    shutil.copytree(tree, tmp_path / "elsewhere")
    moved = TrainSpec.from_mapping({**spec.mapping(), "data_root": str(tmp_path / "elsewhere")})
    assert moved.key == spec.key and store.get(moved).spec.data_root == str(tmp_path / "elsewhere")


def score(value):
    def change(content):
        next(iter(content["result"]["scores"].values()))["map_all"] = value

    return change


@pytest.mark.parametrize(
    "change, message",
    [
        (score(float("nan")), "holds NaN"),
        (score(float("inf")), "holds Infinity"),
        (score(1.5), r"not in \[0, 1\]"),
        (score(-0.1), r"not in \[0, 1\]"),
        (score(0.123), "do not have the mean"),
        (score(None), "must be a number, not null"),
        (score(True), "must be a number"),
        (lambda content: content["result"]["scores"].clear(), "no scores"),
        (
            lambda content: next(iter(content["result"]["counts"].values())).update(queries=1),
            "not those of its queries",
        ),
        (lambda content: content["files"].pop("weights.safetensors"), "has no 'weights.safetensors'"),
        (lambda content: content["files"].update({"../../x": "0"}), "of no run"),
        (lambda content: content.update(spec=[]), "must be a mapping"),
        (lambda content: content["spec"].update(method="nothing"), "unknown method"),
        (lambda content: content["spec"]["recipe"].update(lr=-1), "lr"),
        (lambda content: content.update(result={"scores": [[[]]]}), "must be a mapping"),
    ],
)
def test_a_record_that_cannot_be_is_refused_though_its_digest_matches(finished, change, message):
    store, spec = finished
    rewritten(store.folder(spec), change)
    with pytest.raises(RecordError, match=message) as refused:
        store.get(spec)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "3",
        '"x"',
        "{}",
        "[" * 100_000,
        '{"a":' * 100_000,
        "9" * 5000,
        "\xff",
        '{"key": 1, "key": 2}',
        "{",
    ],
    ids=lambda text: text[:10] or "empty",
)
def test_a_record_of_another_kind_is_refused_in_one_line(finished, text):
    store, spec = finished
    (store.folder(spec) / "record.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(RecordError, match="is no run record") as refused:
        store.get(spec)
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 500


def test_values_per_query_of_another_run_are_refused(finished):
    store, spec = finished
    path = store.folder(spec) / "per_query.npz"
    with np.load(path) as arrays:
        np.savez(path, **{name: np.roll(values, 1) * 0.9 for name, values in arrays.items()})
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    rewritten(store.folder(spec), lambda content: content["files"].update({"per_query.npz": digest}))
    with pytest.raises(RecordError, match="do not have the mean"):
        store.get(spec)


def test_what_was_set_aside_before_stays(spec, store, capsys):
    folder = store.folder(spec)
    for name in (folder.name, f"{folder.name}.damaged.1"):
        (store.root / name).mkdir(parents=True)
        (store.root / name / "notes.txt").write_text(name)
    assert store.make(spec, progress=False).result
    assert f"set aside as {folder.name}.damaged.2" in capsys.readouterr().out
    assert (store.root / f"{folder.name}.damaged.1" / "notes.txt").exists()
    assert (store.root / f"{folder.name}.damaged.2" / "notes.txt").read_text() == folder.name


def test_a_rename_that_was_cut_off_is_made_good_without_training(finished, monkeypatch):
    store, spec = finished
    store.folder(spec).rename(work := store.root / f".{spec.key}.partial")
    (work / "state.pt").write_bytes(b"left over")
    monkeypatch.setattr(Store, "fill", lambda *arguments: pytest.fail("it trains"))
    assert store.make(spec, progress=False).key == spec.key
    assert not work.exists() and not (store.folder(spec) / "state.pt").exists()


def test_a_finished_run_needs_no_folder_that_can_be_written(finished, monkeypatch):
    store, spec = finished
    monkeypatch.setattr("ucdr_core.files.locked", lambda path: pytest.fail("it writes"))
    assert store.make(spec, progress=False).key == spec.key


def test_a_file_in_the_place_of_the_runs_is_named(spec, tmp_path):
    (tmp_path / "runs").write_text("")
    for call in (Store(tmp_path / "runs").get, Store(tmp_path / "runs").make):
        with pytest.raises(RecordError, match="runs.*: a file stands where a folder is meant"):
            call(spec)


def test_a_full_disk_is_one_line_and_the_training_goes_on_after_it(spec, store, monkeypatch):
    def full(path, content):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("ucdr_core.files.write", full)
    with pytest.raises(RecordError, match="No space left on device") as refused:
        store.make(spec, progress=False)
    assert "\n" not in str(refused.value)
    monkeypatch.undo()
    assert store.make(spec, progress=False).result


def test_weights_that_are_not_finite_are_not_used(finished):
    store, spec = finished
    path = store.folder(spec) / "weights.safetensors"
    weights = load_file(path)
    weights["semantic.weight"][0, 0] = float("nan")
    path.write_bytes(save(weights))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    rewritten(store.folder(spec), lambda content: content["files"].update({path.name: digest}))
    with pytest.raises(RecordError, match="semantic.weight .* not finite"):
        store.get(spec).model()


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
