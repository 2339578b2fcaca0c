"""Tier P: every row at the paper's recipe; the same specs run on trees with the true layouts; what a run takes."""
import json

import numpy as np
import pytest
import torch
from PIL import Image

from ucdr_core.methods import backbones
from ucdr_core import cli, chapters as papers
from ucdr_core.evidence import batch as reproduce
from ucdr_core.data import splits
from ucdr_core.methods import METHODS
from ucdr_core.chapters import cost, embedded, full
from ucdr_core.chapters.embedded import SYSTEMS
from ucdr_core.training.plan import duration, plan
from ucdr_core.evidence.store import Store
from ucdr_core.training.spec import TrainSpec


@pytest.fixture(autouse=True)
def no_emulation(monkeypatch):
    """A CPU without bfloat16 instructions emulates them, many times slower: a quarter of an hour for this file.

    There the trunk computes in single precision; elsewhere nothing is changed.  `test_backbones` has the emulated trunk itself, small.
    """
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        monkeypatch.setattr(backbones.Stages, "autocast", property(lambda self: False, lambda self, value: None))


@pytest.fixture
def sketchy(tmp_path, monkeypatch):
    """$UCDR_DATA with all 125 classes of Sketchy in its true layout, two sketches and two photos each, and word vectors of all its words."""
    random = np.random.default_rng(0)
    split = splits.load("sketchy_yelamarthi")
    names = [*split.train, *split.val, *split.test]
    for name in names:
        for folder, suffix in (("256x256/sketch/tx_000000000000", "png"), ("EXTEND_image_sketchy", "jpg")):
            path = tmp_path / "sketchy" / folder / name
            path.mkdir(parents=True)
            for number in range(2):
                Image.fromarray(random.integers(0, 255, (12, 12, 3), np.uint8)).resize((32, 32)).save(path / f"{name}_{number}.{suffix}")
    from ucdr_core.methods.semantics import words_of

    words = sorted({word for name in names for word in words_of(split.words.get(name, name))})
    (tmp_path / "vectors").mkdir()
    (tmp_path / "vectors" / full.GLOVE).write_text("".join(f"{word} {' '.join(f'{v:.4f}' for v in random.standard_normal(300))}\n" for word in words))
    monkeypatch.setenv("UCDR_DATA", str(tmp_path))
    return tmp_path


def test_every_method_has_a_recipe_with_its_source():
    assert set(full.RECIPES) == set(METHODS)
    for name, recipe in full.RECIPES.items():
        assert recipe.source, name


@pytest.mark.parametrize("dataset", ["sketchy", "tuberlin", "quickdraw", "domainnet"])
@pytest.mark.parametrize("method", sorted(METHODS))
def test_recipes_are_valid_specs(method, dataset):
    spec = TrainSpec.from_mapping(full.defaults(method, dataset, ("sketch", "real" if dataset == "domainnet" else "photo")))
    trains = METHODS[method].trained and not METHODS[method].frozen_features
    assert spec.regime == ("finetune" if trains else "frozen") and spec.precision == "bfloat16"


def test_the_papers_numbers():
    """Read beside `protocols.md`'s sources: SnMpNet's run script, Doodle's code, STL's paper."""
    sketchy = full.defaults("snmpnet", "sketchy", ("sketch", "photo"))
    assert (sketchy["options"]["lambda_sn"], sketchy["options"]["lambda_mp"], sketchy["options"]["kappa"]) == (1, 0.5, 2)
    assert sketchy["recipe"]["select_by"] == "map_200" and sketchy["invert_domains"] == ["sketch"]
    net = full.defaults("snmpnet", "domainnet", ("sketch", "real", "clipart", "infograph", "painting"))
    assert net["options"]["beta"] == 2 and net["recipe"]["batch_size"] == 60 and net["vectors"].endswith(full.WORD2VEC)
    doodle = TrainSpec.from_mapping(full.defaults("doodle", "sketchy"))
    assert doodle.backbone == "vgg16_bn" and doodle.pixels == "unit" and doodle.options["fully_connected"] and doodle.options["negative_scale"] == 0.1
    assert (doodle.recipe["lr"], doodle.recipe["weight_decay"], doodle.recipe["batch_size"], doodle.recipe["patience"]) == (1e-4, 5e-4, 20, 20)
    assert full.defaults("stl", "tuberlin")["options"]["weight_calibration"] == 0.5
    assert TrainSpec.from_mapping(full.defaults("sake", "sketchy")).recipe["photo_share"] == pytest.approx(2 / 3)


def test_a_row_keeps_what_makes_it_that_row():
    for label in SYSTEMS:
        small = TrainSpec.from_mapping({**embedded.system(label), "dataset": "emoji-sketchy", "split": "emoji", "train_domains": ["sketch", "photo"], "gallery_domain": "photo"})
        large = full.full(small)
        assert large.dataset == "sketchy" and large.method == small.method
    row = full.full(embedded.sketch_photo("sketchy", "snmpnet", options={"mixing": False}, recipe={"nesterov": False}, seed=2))
    assert row.options["mixing"] is False and row.options["kappa"] == 2.0 and row.recipe["nesterov"] is False and row.seed == 2
    assert full.full(embedded.sketch_photo("sketchy", "doodle", backbone="efficientnet_lite1")).backbone == "se_resnet50"
    assert full.full(embedded.sketch_photo("tuberlin", "strad")).features["regime"] == "finetune"


def test_every_row_of_every_paper_has_its_run_of_tier_p():
    for paper in papers.PAPERS:
        assert full.matrix(papers.specs_of(paper)), paper


@pytest.mark.parametrize("method", ["snmpnet", "sake"])
def test_the_same_spec_runs_on_the_true_layout(sketchy, method):
    small = embedded.sketch_photo("sketchy", method)
    values = full.full(small).mapping()
    spec = TrainSpec.from_mapping({**values, "weights": "random", "size_px": 32, "vectors": str(sketchy / "vectors" / full.GLOVE),
                                   "recipe": {**values["recipe"], "epochs": 1}})
    record = Store().make(spec, progress=False)
    assert record.result["counts"]["zs_sbir:sketch:unseen"] == {"queries": 42, "gallery": 42} and record.spec.precision == "bfloat16"
    assert 0 < record.scores("zs_sbir:sketch:unseen")["map_all"] < 1


def test_run_takes_the_papers_recipe_for_a_published_data_set(sketchy, capsys):
    arguments = ["run", "snmpnet", "--dataset", "sketchy", "--device", "cpu", "--plan", "--set", "weights=random", "--set", "size_px=32"]
    assert cli.main(arguments) == 0
    said = capsys.readouterr().out
    assert "500 images" in said and "5 steps of 64 samples an epoch, at most 100 epochs" in said and "split sketchy_yelamarthi" in said


def test_tier_p_says_what_is_missing(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("UCDR_DATA", str(tmp_path))
    assert cli.main(["reproduce", "--paper", "doodle", "--tier", "P", "--list"]) == 2
    said = capsys.readouterr().err
    assert "nothing of tier P can be run here" in said and "ucdr data download quickdraw" in said


def test_tier_p_lists_what_can_be_run_and_leaves_out_what_cannot(sketchy, capsys):
    assert cli.main(["reproduce", "--paper", "snmpnet", "--tier", "P", "--list"]) == 0
    said = capsys.readouterr().out
    assert "left out: there is no folder" in said and " todo snmpnet on sketchy" in said and " on domainnet" not in said
    assert cli.main(["reproduce", "--paper", "snmpnet", "--tier", "P", "--only", "ffff"]) == 2
    assert "no such run" in capsys.readouterr().err


def test_more_gpus_than_there_are_is_refused(sketchy, capsys):
    assert cli.main(["reproduce", "--paper", "snmpnet", "--tier", "P", "--gpus", "99"]) == 2
    assert f"this machine has {torch.cuda.device_count()}" in capsys.readouterr().err


def test_failures_are_listed_with_their_logs(small, tmp_path, monkeypatch, capsys):
    (tmp_path / "few.txt").write_text("cat 1 2\n")
    broken = TrainSpec.from_mapping({**small, "vectors": str(tmp_path / "few.txt")})
    monkeypatch.setattr(reproduce, "matrix", lambda paper, tier: [broken])
    assert cli.main(["reproduce", "--jobs", "1"]) == 1
    said = capsys.readouterr().err
    assert f"FAILED {broken.key}" in said and "1 of 1 runs failed" in said
    assert "have no vector" in reproduce.log_of(broken).read_text() and str(reproduce.log_of(broken)) in said


# ------------------------------------------------------------------------------------------------------------------ plan

def test_a_plan_counts_and_leaves_no_trace(small):
    spec = TrainSpec.from_mapping({**small, "seed": 7})
    made = plan(spec)
    training = spec.training()
    assert made.images == len(training.manifest) and made.trained_on == len(training.train) and made.batch == 12
    assert made.steps == len(training.train) // 12 and made.epochs == 4 and made.step_seconds > 0 and made.memory_gb > 0
    assert not Store().folder(spec).exists()
    assert "images/s" in made.lines()[1] and "at most 4 epochs" in made.lines()[0]


def test_run_prints_its_plan_before_it_starts(tree, capsys):
    arguments = ["run", "sae", "--dataset", "folders", "--data-root", str(tree), "--set", "size_px=32", "--set", "embedding_dim=50"]
    assert cli.main([*arguments, "--plan"]) == 0
    assert "plan: " in (said := capsys.readouterr().out) and "solved at once" in said and "record" not in said


def test_durations():
    assert [duration(s) for s in (0.25, 59, 600, 7200)] == ["0.2 s", "59 s", "10 min", "2.0 h"]


# ------------------------------------------------------------------------------------------------------------------ cost

def test_costs_are_counted_from_published_numbers():
    """Doodle on Sketchy: 93 of 125 classes, 75,481 sketches, three images a triplet, 40 epochs."""
    spec = full.full(embedded.sketch_photo("sketchy", "doodle"))
    assert cost.cost(spec).trained == pytest.approx(75_481 * 93 / 125 * 3 * 40)
    assert cost.cost(full.full(embedded.sketch_photo("sketchy", "snmpnet"))).trained == pytest.approx(73_002 * 93 / 125 * 2 * 25)
    assert cost.cost(full.full(embedded.sketch_photo("sketchy", "frozen"))).trained == 0
    assert cost.pack_gb("sketchy") == pytest.approx((75_481 + 73_002) * 224 * 224 * 3 / 1e9)


def test_a_faster_card_takes_less(monkeypatch):
    monkeypatch.setattr(cost, "memory_gb", lambda spec: 0.0)  # counted by a step of every method, and tested below
    one, two = (sum(float(row[3].replace(",", "")) for row in cost.listing({"vgg16": rate, "vgg16_bn": rate, "se_resnet50": rate}).rows) for rate in (500, 5000))
    assert two < one / 5
    own = cost.cost(full.full(embedded.sketch_photo("sketchy", "doodle")))
    assert own.hours({own.backbone: 500}) == pytest.approx(10 * own.hours({own.backbone: 5000})) and own.hours({own.backbone: 500}) > 1
    assert json.dumps(cost.data_listing().rows)


def test_memory_is_counted_from_a_step():
    """Adam keeps one number more per weight than SGD; what is kept of the forward pass grows with the batch, weights do not."""
    def of(**recipe):
        return cost.memory_gb(TrainSpec.from_mapping({**full.defaults("snmpnet", "sketchy", ("sketch", "photo")), "recipe": {"batch_size": 16, **recipe}}))

    weights = 28.09e6 - 2049 * 1000 + 2048 * 380 + 2048 * 393  # SE-ResNet50 without its classifier, attention, two heads
    assert of(optimiser="adam") - of(optimiser="sgd") == pytest.approx(weights * 4 / 1e9, rel=0.005)
    assert of(batch_size=48) - of(batch_size=32) == pytest.approx(of(batch_size=32) - of(batch_size=16), rel=0.02)
    assert cost.memory_gb(full.full(embedded.sketch_photo("sketchy", "frozen"))) == 0
