"""Every value that tier paper trains with has a source, and is the one that the source has."""

import json
from collections import Counter
from dataclasses import fields

import pytest
import torch

from ucdr_core import chapters
from ucdr_core.chapters import paper_recipes
from ucdr_core.chapters.paper_recipes import OF_ALL, RECIPES, SPLITS, Given, given, sourced
from ucdr_core.chapters.tiers import TIERS, tier_of
from ucdr_core.data import images
from ucdr_core.methods import METHODS
from ucdr_core.training.loop import Recipe
from ucdr_core.training.spec import TrainSpec

PAPER = tier_of("paper")
VIEWS = ("sketchy", "tuberlin", "quickdraw", "domainnet")
VARIANTS = (  # (data set, held out, split of the table, whose version)
    *((view, "", "", "") for view in VIEWS),
    ("domainnet", "quickdraw", "", ""),
    ("domainnet", "sketch", "", ""),
    ("sketchy", "", "sketchy_random25", ""),
    ("tuberlin", "", "tuberlin_strad64", ""),
    *(
        (view, "", split, "snmpnet")
        for view, split in (("sketchy", ""), ("sketchy", "sketchy_random25"), ("tuberlin", ""))
    ),
)
# Of the question, not of the recipe: what a row or the tier asks.
ASKED = {
    *("method", "dataset", "train_domains", "gallery_domain", "permuted_names", "world_size", "seed", "data_root"),
    *("classes_left_out", "samples_left_out", "options", "recipe", "features"),
}


def with_effect(spec: TrainSpec) -> set[str]:
    """Names, as in `Given.values`, of the spec's values that the training depends on."""
    method = METHODS[spec.method]
    names = {f.name for f in fields(TrainSpec)} - ASKED
    if not method.uses_class_vectors:
        names -= {"vectors", "vectors_centred", "vectors_normalised", "vectors_length", "embedding_dim"}
    if spec.dataset != "domainnet":
        names -= {"gallery_held_out", "query_share"}
    if not method.trained:
        return names | {f"options.{name}" for name in spec.options}
    unused = set() if spec.regime == "frozen" else {"adapter_rank"}
    names |= {f"options.{name}" for name in spec.options if name not in unused}
    unused = {"momentum", "nesterov"} if spec.recipe["optimiser"] == "adam" else {"beta1"}
    if spec.recipe["selection"] == "last":
        unused |= {"patience", "select_by"}
    if spec.regime == "frozen":
        unused |= {"augment"}
    if method.batches != "domains":
        unused |= {"photo_share"}
    if method.closed_form:
        unused = set(spec.recipe) - {"selection", "select_by"}
    names |= {f"recipe.{name}" for name in spec.recipe if name not in unused}
    if spec.features:
        names |= {
            f"features.{name}" for name in with_effect(spec.features_spec()) if name.startswith(("options.", "rec"))
        }
    return names


def value_of(spec: TrainSpec, name: str):
    value = spec.mapping()
    for part in name.split("."):
        value = value[part]
    return value


def test_every_method_has_a_recipe():
    assert set(RECIPES) == set(METHODS)


def spec_and_sources(method: str, dataset: str, held_out: str, split: str, by: str):
    spec = PAPER.spec(method, dataset, held_out=held_out, paper_split=split, made_by=by)
    return spec, sourced(method, dataset, spec.train_domains, split, by)


@pytest.mark.parametrize("method", METHODS)
def test_every_value_has_a_source(method):
    """Prints each recipe beside its sources (`pytest -s`)."""
    for variant in VARIANTS:
        spec, sources = spec_and_sources(method, *variant)
        names = sorted(with_effect(spec))
        assert not (without := set(names) - set(sources)), f"{method}, {variant}: no source for {sorted(without)}"
        print("\n" + ", ".join((method, *filter(None, variant))))
        for name in names:
            value, source = sources[name]
            ours = value_of(spec, name)
            assert source.strip() and (ours.endswith(f"/{value}") if name == "vectors" else ours == value), name
            print(f"  {name:34} {json.dumps(value):30} {source}")


def test_a_value_without_a_source_is_found(monkeypatch):
    blocks = [block for block in RECIPES["siamese"] if "recipe.momentum" not in block.values]
    monkeypatch.setitem(RECIPES, "siamese", blocks)
    spec, sources = spec_and_sources("siamese", *VARIANTS[0])
    assert with_effect(spec) - set(sources) >= {"recipe.momentum", "recipe.nesterov"}


@pytest.mark.parametrize("method", METHODS)
def test_every_block_gives_values_that_there_are(method):
    """A name that there is not, a block that never holds, a value from two sources at once."""
    known = {
        *(f.name for f in fields(TrainSpec)),
        *(f"recipe.{f.name}" for f in fields(Recipe)),
        *(f"options.{f.name}" for f in fields(METHODS[method].Options)),
        *(f"features.options.{f.name}" for f in fields(METHODS["simple"].Options)),
    }
    for block in (*OF_ALL, *RECIPES[method]):
        assert block.source and block.values and set(block.values) <= known, block
        assert any(
            block.holds(dataset, split or SPLITS[dataset], PAPER.without(dataset, held_out), by)
            for dataset, held_out, split, by in VARIANTS
        ), block
    always = Counter(name for block in RECIPES[method] if not block.condition for name in block.values)
    assert not {name for name, times in always.items() if times > 1}


def test_a_block_holds_where_it_says():
    block = given("somewhere", {"lr": 1.0}, on=("sketchy", "tuberlin_strad64"), without="quickdraw", by="snmpnet")
    assert block == Given("somewhere", {"recipe.lr": 1.0}, ("sketchy", "tuberlin_strad64"), "quickdraw", "snmpnet")
    assert block.holds("sketchy", "", ("sketch",), "snmpnet") and block.holds(
        "tuberlin", "tuberlin_strad64", (), "snmpnet"
    )
    assert not block.holds("tuberlin", "tuberlin_random30", (), "snmpnet")
    assert not block.holds("sketchy", "", ("quickdraw",), "snmpnet") and not block.holds("sketchy", "", (), "")
    assert block.condition == "sketchy or tuberlin_strad64, without quickdraw, rows made by the authors of snmpnet"


# ------------------------------------------------------------------------------- beside the authors' options, by hand


def recipe(method: str, view: str = "sketchy", **row) -> dict:
    return PAPER.spec(method, view, **row).recipe


def options(method: str, view: str = "sketchy", **row) -> dict:
    return PAPER.spec(method, view, **row).options


def chosen(values: dict, **expected) -> bool:
    return {name: values[name] for name in expected} == expected


def test_snmpnet_has_its_run_script():
    weights = {
        ("sketchy", ""): (1, 0.5, 2),
        ("sketchy", "sketchy_random25"): (1, 1, 1),
        ("tuberlin", ""): (1, 1, 1),
        ("domainnet", ""): (1, 1, 1),
    }
    metrics = {("sketchy", ""): "map_200", ("domainnet", ""): "map_200"}
    for (view, split), (first, second, kappa) in weights.items():
        spec = PAPER.spec("snmpnet", view, paper_split=split)
        assert chosen(spec.options, lambda_sn=first, lambda_mp=second, kappa=kappa, sn_form="code", mixup_step=2)
        assert spec.recipe["select_by"] == metrics.get((view, split), "map_all")
        assert spec.recipe["batch_size"] == (60 if view == "domainnet" else 64)
    assert chosen(
        recipe("snmpnet"),
        lr=1e-3,
        momentum=0.9,
        nesterov=False,
        weight_decay=0,
        epochs=100,
        patience=15,
        decay="exponential",
    )
    assert options("snmpnet", "domainnet", held_out="quickdraw")["beta"] == 2
    assert options("snmpnet", "domainnet", held_out="sketch")["beta"] == 1
    inverted = {view: PAPER.spec("snmpnet", view).invert_domains for view in VIEWS}
    assert inverted["sketchy"] == ("sketch",) and inverted["tuberlin"] == ()
    assert set(inverted["domainnet"]) == {"sketch", "quickdraw"}


def test_what_snmpnet_is_compared_with_has_the_options_of_its_repository():
    for view in ("sketchy", "domainnet"):
        assert chosen(recipe("cumix", view), batch_size=40, patience=30, weight_decay=5e-5, lr=1e-3)
        assert chosen(recipe("eisnet", view), batch_size=64, patience=30, weight_decay=0, lr=1e-3, nesterov=False)
    assert chosen(options("cumix"), eta_image=0.001, eta_feature=2.0, beta=1.0)
    assert chosen(options("eisnet"), margin=2.0, negatives=256, queue=1024, weight_triplet=0.5, weight_jigsaw=0.7)
    assert PAPER.spec("eisnet", "sketchy").size_px == 222


def test_udcdr_asks_with_the_share_of_each_domain():
    assert PAPER.spec("snmpnet", "domainnet", held_out="quickdraw").query_share == 0.1
    assert PAPER.spec("snmpnet", "domainnet", held_out="sketch").query_share == 0.25
    assert PAPER.evaluation("udcdr:sketch:seen") == "udcdr:sketch:seen:0.25"
    assert PAPER.evaluation("udcdr:quickdraw:seen") == "udcdr:quickdraw:seen:0.1"
    assert PAPER.evaluation("ucdr:sketch:unseen") == "ucdr:sketch:unseen"


def test_doodle_has_its_options_and_snmpnets_rows_of_it_theirs():
    assert chosen(
        recipe("doodle"),
        lr=1e-4,
        momentum=0.9,
        nesterov=True,
        weight_decay=5e-4,
        batch_size=20,
        patience=20,
        decay="constant",
    )
    assert chosen(
        options("doodle"), dim=256, negatives="semantic", negative_scale=0.1, attention=True, decoder_layers=2
    )
    doodle = PAPER.spec("doodle", "sketchy")
    assert (doodle.backbone, doodle.pixels, doodle.invert_domains, doodle.vectors_length) == ("vgg16_bn", "unit", (), 1)
    assert not PAPER.spec("doodle", "tuberlin").vectors_normalised
    theirs = PAPER.spec("doodle", "sketchy", made_by="snmpnet", options={"shared": True})
    assert chosen(theirs.recipe, lr=1e-4, weight_decay=5e-4, batch_size=64, patience=30, epochs=100)
    assert chosen(theirs.options, dim=300, negatives="relative", shared=True)
    assert (theirs.invert_domains, theirs.pixels) == (("sketch",), "normalised")
    assert theirs.vectors.endswith(paper_recipes.GLOVE) and not theirs.vectors_normalised


def test_the_systems_of_strads_table_have_its_authors_values():
    assert chosen(
        recipe("strad"),
        optimiser="adam",
        lr=2e-4,
        beta1=0.5,
        batch_size=64,
        warmup_steps=1000,
        clip_norm=1,
        patience=20,
    )
    assert chosen(
        recipe("siamese"),
        optimiser="sgd",
        lr=5e-3,
        momentum=0.9,
        nesterov=False,
        clip_norm=1,
        batch_size=32,
        patience=10,
    )
    assert chosen(options("siamese"), form="exponential", scale=500, dim=4096)
    assert chosen(recipe("san"), optimiser="adam", lr=2e-4, batch_size=32, clip_norm=1)
    assert chosen(recipe("cmt"), lr=0.1, momentum=0.6, nesterov=False, decay="halving", batch_size=32, epochs=20)
    for method in METHODS:
        spec = PAPER.spec(method, "tuberlin", paper_split="tuberlin_strad64")
        assert spec.split == "tuberlin_strad64" and (spec.recipe["selection"] == "last" or not METHODS[method].trained)


def test_other_systems_have_the_values_of_their_code():
    assert chosen(
        recipe("sake"), optimiser="adam", lr=1e-4, weight_decay=5e-4, batch_size=40, epochs=20, photo_share=2 / 3
    )
    assert chosen(options("sake"), dim=512, classifier="linear", weight_similarity=0.3)
    assert chosen(options("sake", made_by="snmpnet"), classifier="margin", start="svd")
    assert PAPER.spec("sake", "sketchy").invert_domains == ()
    assert PAPER.spec("sake", "sketchy", made_by="snmpnet").invert_domains == ("sketch",)
    assert chosen(recipe("sem_pcyc"), optimiser="adam", beta1=0.9, lr=1e-4, batch_size=128, patience=20)
    assert chosen(recipe("cvae"), lr=2e-4, beta1=0.5, batch_size=128, epochs=25, selection="last")
    assert chosen(recipe("zsih"), lr=5e-4, batch_size=200)


def test_tables_stand_on_the_papers_splits():
    def splits(paper: str, table: str, view: str) -> set:
        return {spec.split for spec in chapters.load(paper).TABLES[table](PAPER).runs if spec.dataset == view}

    assert splits("snmpnet", "table6", "sketchy") == {"sketchy_random25"}
    assert splits("snmpnet", "table1", "sketchy") == {"sketchy_yelamarthi"}
    assert splits("strad", "table1", "tuberlin") == {"tuberlin_strad64"}
    assert splits("strad", "table1", "sketchy") == {"sketchy_yelamarthi"}
    assert splits("doodle", "table2", "tuberlin") == {"tuberlin_random30"}


@pytest.mark.parametrize("tier", TIERS.values(), ids=list(TIERS))
@pytest.mark.parametrize(
    ("paper", "table", "own"),
    [
        ("snmpnet", "table5", "SnMpNet (all)"),
        ("doodle", "switches", "Doodle to Search"),
        ("stl", "switches", "STL"),
        ("strad", "switches", "STRAD (D), chosen on validation classes"),
    ],
)
def test_a_switch_changes_the_method_s_own_runs(tier, paper, table, own):
    rows = chapters.load(paper).TABLES[table](tier).rows
    base = next(row for row in rows if row.label == own and not row.mark.startswith("control"))
    switches = [row for row in rows if row.mark in ("switch", "oracle") or row.label.startswith("STL, $")]
    assert len(switches) >= 3 and base.runs
    for row in switches:
        assert row.runs and row.runs != base.runs, row.label
    assert len({str(row.runs) for row in switches}) == len(switches)


@pytest.mark.parametrize("tier", TIERS.values(), ids=list(TIERS))
def test_the_audit_measures_no_run_against_itself(tier):
    measured = [row.measured for row in chapters.load("audit").TABLES["differences"](tier).rows if row.measured]
    assert all(pair.ours != pair.other for claim in measured for pair in claim.pairs if any(pair.ours))


def test_rates_fall_as_in_the_codes():
    assert [Recipe(lr=0.1, decay="halving").rate(epoch) for epoch in (0, 1, 2, 19)] == [0.1, 0.05, 0.025, 5e-5]
    assert Recipe(lr=1e-3).rate(20) == pytest.approx(1e-6) and Recipe(lr=1e-3).rate(60) == 1e-6
    assert Recipe(lr=0.2, decay="constant").rate(7) == 0.2


def test_sakes_augmentation_leaves_as_many_pictures_alone_as_its_code():
    """Of four changes each is made with probability .5, all of them with .7; a flip alone mirrors."""
    pixels = torch.rand(3000, 1, 8, 8).expand(-1, 3, -1, -1)
    made = images.augment(pixels, torch.Generator().manual_seed(0), "sake")
    for target, share in ((pixels, 0.3 + 0.7 / 16), (pixels.flip(3), 0.7 / 16)):
        close = (made - target).abs().amax((1, 2, 3)) < 1e-4
        assert close.double().mean() == pytest.approx(share, abs=3.5 * (share * (1 - share) / 3000) ** 0.5)
    assert made.min() == 0  # black where nothing was
