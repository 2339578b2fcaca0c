"""Tier `paper`: every row at the paper's recipe; the same specs run on trees with the true layouts; what a run
takes."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from ucdr_core import chapters, cli
from ucdr_core.chapters import cost, paper_recipes
from ucdr_core.chapters.systems import SYSTEMS
from ucdr_core.chapters.tiers import tier_of
from ucdr_core.cli import reproduce
from ucdr_core.data import splits
from ucdr_core.evidence import batch
from ucdr_core.evidence.store import Store
from ucdr_core.methods import METHODS, backbones
from ucdr_core.methods.semantics import words_of
from ucdr_core.training.plan import duration, plan
from ucdr_core.training.spec import TrainSpec

PAPER = tier_of("paper")
TRIAL = {"weights": "random", "size_px": 32, "recipe": {"epochs": 1}}


@pytest.fixture(autouse=True)
def no_emulation(monkeypatch):
    """A CPU without bfloat16 instructions emulates them, many times slower: a quarter of an hour for this file.

    There the trunk computes in single precision; elsewhere nothing is changed.  `test_backbones` has the emulated trunk
    itself, small.
    """
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        monkeypatch.setattr(backbones.Stages, "autocast", property(lambda self: False, lambda self, value: None))


@pytest.fixture
def sketchy(tmp_path, monkeypatch):
    """$UCDR_DATA with all 125 classes of Sketchy in its true layout, two sketches and two photos each, and word vectors
    of all its words."""
    random = np.random.default_rng(0)
    split = splits.load("sketchy_yelamarthi")
    names = [*split.train, *split.val, *split.test]
    for name in names:
        for folder, suffix in (("256x256/sketch/tx_000000000000", "png"), ("EXTEND_image_sketchy", "jpg")):
            path = tmp_path / "sketchy" / folder / name
            path.mkdir(parents=True)
            for number in range(2):
                Image.fromarray(random.integers(0, 255, (12, 12, 3), np.uint8)).resize((32, 32)).save(
                    path / f"{name}_{number}.{suffix}"
                )
    words = sorted({word for name in names for word in words_of(split.words.get(name, name))})
    (tmp_path / "vectors").mkdir()
    lines = (f"{word} {' '.join(f'{value:.4f}' for value in random.standard_normal(300))}\n" for word in words)
    (tmp_path / "vectors" / paper_recipes.GLOVE).write_text("".join(lines))
    monkeypatch.setenv("UCDR_DATA", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("view", ["sketchy", "tuberlin", "quickdraw", "domainnet"])
@pytest.mark.parametrize("method", sorted(METHODS))
def test_recipes_are_valid_specs(method, view):
    spec = PAPER.spec(method, view, domains=("sketch", PAPER.gallery(view)))
    fixed = METHODS[method].frozen_features or not METHODS[method].trained or bool(spec.features)
    assert spec.regime == ("frozen" if fixed else "finetune") and spec.precision == "bfloat16"
    assert spec.split == paper_recipes.SPLITS[view] and spec.gallery_domain == PAPER.gallery(view)


def test_the_papers_numbers():
    """Read beside `protocols.md`'s sources: SnMpNet's run script, Doodle's code, STL's paper."""
    sketchy = PAPER.spec("snmpnet", "sketchy")
    assert [sketchy.options[name] for name in ("lambda_sn", "lambda_mp", "kappa")] == [1, 0.5, 2]
    assert sketchy.recipe["select_by"] == "map_200" and sketchy.invert_domains == ("sketch",)
    net = PAPER.spec("snmpnet", "domainnet", held_out="quickdraw")
    assert net.options["beta"] == 2 and net.recipe["batch_size"] == 60 and net.vectors.endswith(paper_recipes.WORD2VEC)
    doodle = PAPER.spec("doodle", "sketchy")
    assert (doodle.backbone, doodle.pixels, doodle.options["fully_connected"]) == ("vgg16_bn", "unit", True)
    assert doodle.options["negative_scale"] == 0.1
    assert [doodle.recipe[name] for name in ("lr", "weight_decay", "batch_size", "patience")] == [1e-4, 5e-4, 20, 20]
    assert PAPER.spec("stl", "tuberlin").options["weight_calibration"] == 0.5
    assert PAPER.spec("sake", "sketchy").recipe["photo_share"] == pytest.approx(2 / 3)


@pytest.mark.parametrize("label", SYSTEMS)
def test_every_system_has_its_run(label):
    spec = PAPER.system(label, "sketchy", (0,))[0]
    assert (spec.dataset, spec.method, spec.seed) == ("sketchy", SYSTEMS[label].method, 0)
    assert SYSTEMS[label].options.items() <= spec.options.items()


def test_a_row_keeps_what_makes_it_that_row():
    row = PAPER.spec("snmpnet", "sketchy", options={"mixing": False}, recipe={"nesterov": False}, seed=2)
    assert (row.options["mixing"], row.options["kappa"], row.recipe["nesterov"], row.seed) == (False, 2.0, False, 2)
    assert PAPER.spec("doodle", "sketchy", other_backbone=True).backbone == "se_resnet50"
    assert PAPER.spec("strad", "tuberlin").features["regime"] == "finetune"


@pytest.mark.parametrize("paper", chapters.PAPERS)
def test_every_paper_has_its_runs(paper):
    datasets = {spec.dataset for spec in chapters.runs_of("paper", paper)}
    assert datasets and datasets <= set(paper_recipes.SPLITS)


@pytest.mark.parametrize("method", ["snmpnet", "sake"])
def test_the_same_spec_runs_on_the_true_layout(sketchy, method, monkeypatch):
    monkeypatch.setenv("UCDR_TRIAL", json.dumps(TRIAL))
    vectors = str(sketchy / "vectors" / paper_recipes.GLOVE)
    record = Store().make(PAPER.spec(method, "sketchy", vectors=vectors), progress=False)
    assert record.result["counts"]["zs_sbir:sketch:unseen"] == {"queries": 42, "gallery": 42}
    assert record.spec.precision == "bfloat16"
    assert 0 < record.scores("zs_sbir:sketch:unseen")["map_all"] < 1


def test_run_takes_the_papers_recipe_for_a_published_data_set(sketchy, capsys):
    arguments = [
        "run",
        "snmpnet",
        "--dataset",
        "sketchy",
        "--device",
        "cpu",
        "--plan",
        "--set",
        "weights=random",
        "--set",
        "size_px=32",
    ]
    assert cli.main(arguments) == 0
    printed = capsys.readouterr().out
    assert "500 images" in printed and "split sketchy_yelamarthi" in printed
    assert "5 steps of 64 samples an epoch, at most 100 epochs" in printed


def test_where_nothing_can_be_run_it_is_said_why(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("UCDR_DATA", str(tmp_path))
    for action in (["--list"], []):
        assert cli.main(["reproduce", "--paper", "doodle", "--tier", "paper", *action]) == 2
        errors = capsys.readouterr().err
        assert "nothing of tier paper can be run here" in errors and "ucdr data download quickdraw" in errors


def test_what_can_be_run_is_listed_and_the_rest_is_left_out(sketchy, capsys):
    assert cli.main(["reproduce", "--paper", "snmpnet", "--tier", "paper", "--list"]) == 0
    printed = capsys.readouterr()
    assert "left out: there is no folder" in printed.err
    lines = printed.out.splitlines()
    assert lines and all(line.split()[1] == "todo" and " on sketchy" in line for line in lines)
    assert cli.main(["reproduce", "--paper", "snmpnet", "--tier", "paper", "--only", "ffff"]) == 2
    assert "no such run" in capsys.readouterr().err


def test_committed_runs_are_listed_as_evidence_and_own_ones_as_done(tmp_path, monkeypatch, capsys):
    """Runs on real pictures are in the evidence although the pictures are not on this machine."""
    monkeypatch.setenv("UCDR_DATA", str(tmp_path / "nowhere"))
    monkeypatch.setenv("UCDR_HOME", str(tmp_path / "home"))
    assert cli.main(["reproduce", "--paper", "snmpnet", "--tier", "real", "--list"]) == 0
    keys = {line.split()[0]: line.split()[1] for line in capsys.readouterr().out.splitlines()}
    assert set(keys.values()) == {"evidence"}
    trained = next(iter(keys))
    (tmp_path / "home" / "runs" / trained).mkdir(parents=True)
    assert cli.main(["reproduce", "--paper", "snmpnet", "--tier", "real", "--list"]) == 0
    assert f"{trained} done " in capsys.readouterr().out
    assert cli.main(["reproduce", "--paper", "snmpnet", "--tier", "real"]) == 2
    assert "nothing of tier real can be run here" in capsys.readouterr().err


def test_more_gpus_than_there_are_is_refused(sketchy, capsys):
    assert cli.main(["reproduce", "--paper", "snmpnet", "--tier", "paper", "--gpus", "99"]) == 2
    assert "this machine" in capsys.readouterr().err


def test_failures_are_listed_with_their_logs(small, tmp_path, monkeypatch, capsys):
    (tmp_path / "few.txt").write_text("cat 1 2\n")
    broken = TrainSpec.from_mapping({**small, "vectors": str(tmp_path / "few.txt")})
    monkeypatch.setattr(reproduce, "runs_of", lambda paper, tier: [broken])
    assert cli.main(["reproduce", "--jobs", "1"]) == 1
    errors = capsys.readouterr().err
    assert f"FAILED {broken.key}" in errors and "1 of 1 runs failed" in errors
    assert "have no vector" in batch.log_of(broken).read_text() and str(batch.log_of(broken)) in errors


# ------------------------------------------------------------------------------------------------------------------
# plan


def test_a_plan_counts_and_leaves_no_trace(small):
    spec = TrainSpec.from_mapping({**small, "seed": 7})
    planned, training = plan(spec), spec.training()
    assert (planned.images, planned.trained_on) == (len(training.manifest), len(training.train))
    assert (planned.batch, planned.steps, planned.epochs) == (12, len(training.train) // 12, 4)
    assert planned.step_seconds > 0 and planned.memory_gb > 0
    assert not Store().folder(spec).exists()
    assert "images/s" in planned.lines()[1] and "at most 4 epochs" in planned.lines()[0]


def test_run_prints_its_plan_before_it_starts(tree, capsys):
    arguments = [
        "run",
        "sae",
        "--dataset",
        "folders",
        "--data-root",
        str(tree),
        "--set",
        "size_px=32",
        "--set",
        "embedding_dim=50",
    ]
    assert cli.main([*arguments, "--plan"]) == 0
    printed = capsys.readouterr().out
    assert "plan: " in printed and "solved at once" in printed and "record" not in printed


def test_durations():
    assert [duration(s) for s in (0.25, 59, 600, 7200)] == ["0.2 s", "59 s", "10 min", "2.0 h"]


# ------------------------------------------------------------------------------------------------------------------
# cost


def test_costs_are_counted_from_published_numbers():
    """Doodle on Sketchy: 93 of 125 classes, 75,481 sketches, three images a triplet, 40 epochs."""
    assert cost.cost(PAPER.spec("doodle", "sketchy")).trained == pytest.approx(75_481 * 93 / 125 * 3 * 40)
    assert cost.cost(PAPER.spec("snmpnet", "sketchy")).trained == pytest.approx(73_002 * 93 / 125 * 2 * 25)
    assert cost.cost(PAPER.spec("frozen", "sketchy")).trained == 0
    assert cost.pack_gb("sketchy") == pytest.approx((75_481 + 73_002) * 224 * 224 * 3 / 1e9)


def test_a_faster_card_takes_less(monkeypatch):
    monkeypatch.setattr(cost, "memory_gb", lambda spec: 0.0)  # counted by a step of every method, and tested below

    def hours(rate: float) -> float:
        listing = cost.listing(PAPER, {"vgg16": rate, "vgg16_bn": rate, "se_resnet50": rate})
        return sum(float(row[3].replace(",", "")) for row in listing.rows)

    assert hours(5000) < hours(500) / 5
    doodle = cost.cost(PAPER.spec("doodle", "sketchy"))
    slow, fast = (doodle.hours({doodle.backbone: rate}) for rate in (500, 5000))
    assert slow == pytest.approx(10 * fast) and slow > 1
    assert json.dumps(cost.data_listing(PAPER).rows)


def test_memory_is_counted_from_a_step():
    """Adam keeps one number more per weight than SGD; what is kept of the forward pass grows with the batch, weights do
    not."""

    def of(**recipe):
        return cost.memory_gb(PAPER.spec("snmpnet", "sketchy", recipe={"batch_size": 16, **recipe}))

    weights = (
        28.09e6 - 2049 * 1000 + 2048 * 380 + 2048 * 393
    )  # SE-ResNet50 without its classifier, attention, two heads
    assert of(optimiser="adam") - of(optimiser="sgd") == pytest.approx(weights * 4 / 1e9, rel=0.005)
    assert of(batch_size=48) - of(batch_size=32) == pytest.approx(of(batch_size=32) - of(batch_size=16), rel=0.02)
    assert cost.memory_gb(PAPER.spec("frozen", "sketchy")) == 0
