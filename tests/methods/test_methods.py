"""Every method: gradients reach what should learn, one batch can be over-fitted, options are checked, reference rows
are what they say.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from ucdr_core.methods import METHODS, Batch, OptionError, from_mapping
from ucdr_core.methods.base import Encoder, FullyConnected, Sides, pooled
from ucdr_core.methods.strad import STRAD
from ucdr_core.retrieval import evaluate

TRAINED = [name for name, method in METHODS.items() if method.trained and not method.closed_form]
# Small enough to be quick, and one for every branch of a method that has several.
VARIANTS = {
    "snmpnet": ("snmpnet", {}),
    "eisnet": ("eisnet", {}),
    "eisnet, pairs dropped": ("eisnet", {"without_semi_hard": "drop"}),
    "cumix": ("cumix", {}),
    "cumix, product": ("cumix", {"logits": "product"}),
    "doodle": ("doodle", {"dim": 16}),
    "doodle, one network": ("doodle", {"dim": 16, "shared": True, "decoder_layers": 2}),
    "stl": ("stl", {"dim": 16, "hidden": 16, "prototype_dim": 8, "positions": 1, "scale": 1.0}),
    "stl, photos as anchors": (
        "stl",
        {"dim": 16, "hidden": 16, "prototype_dim": 8, "positions": 2, "scale": 1.0, "anchors": "photos"},
    ),
    "stl, inductive, separate": (
        "stl",
        {"dim": 16, "hidden": 16, "positions": 1, "scale": 1.0, "weight_calibration": 0.0, "network": "separate"},
    ),
    "simple sb": ("simple", {}),
    "simple db": ("simple", {"shared": False}),
    "strad": ("strad", {"hidden": 32, "structure": 16, "samples": 4}),
    "strad, earlier code": (
        "strad",
        {
            "hidden": 32,
            "structure": 16,
            "samples": 4,
            "alignment": "ranking",
            "reconstruction": "code",
            "weight_or": 0.0,
            "weight_sk": 10.0,
            "sketch_space": False,
        },
    ),
    "sake": ("sake", {"dim": 16}),
    "sake, w/o label": ("sake", {"dim": 30, "indicator": False, "classifier": "margin", "start": "random"}),
    "sem_pcyc": ("sem_pcyc", {"dim": 16}),
    "sem_pcyc, trained classifiers": ("sem_pcyc", {"dim": 16, "classifier": "trained"}),
    "cvae": ("cvae", {"hidden": 64, "latent": 8, "samples": 4, "weight_kl": 0.01}),
    # Weights of N(0, 0.01) are for layers that are wider than these.
    "zsih": ("zsih", {"bits": 24, "hidden": 32, "fusion": 8, "initial_deviation": 0.05}),
    "zsih, paper": ("zsih", {"bits": 24, "hidden": 32, "fusion": 8, "neurons": "paper", "targets": "paper"}),
    "siamese": ("siamese", {"dim": 16, "scale": 5.0}),
    "siamese, hinge": ("siamese", {"dim": 16, "scale": 5.0, "form": "hinge"}),
    "san": ("san", {"dim": 16, "width": 4, "map_px": 1, "margin": 0.5}),
    "cmt": ("cmt", {"hidden": 16}),
    "devise": ("devise", {}),
    "xu2019": ("xu2019", {"hidden": 32, "noise_dim": 4}),
    "content_style": ("content_style", {"dim": 16, "hidden": 32, "style_dim": 2}),
    "sketchgcn": ("sketchgcn", {"dim": 16, "latent": 4}),
    "ocean": ("ocean", {"dim": 16, "hidden": 32}),
}
PIXELS = ("san",)  # a network of its own, fed with images


def test_every_trained_method_is_tested_here():
    assert {name for name, _ in VARIANTS.values()} == set(TRAINED)


def make(name, upper=None, channels=24, classes=6, **options):
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    vectors = torch.from_numpy(random.standard_normal((classes, 10)))
    cls = METHODS[name]
    extra = {"unseen_vectors": torch.from_numpy(random.standard_normal((3, 10)))} if cls.wants_unlabelled else {}
    extra |= {"teacher": nn.Linear(channels, 30)} if cls.wants_teacher else {}
    return cls(upper or nn.Sequential(), channels, vectors, cls.Options(**options), **extra).double()


def batch(method=None, channels=24, classes=6, size=12, images=False):
    """Blocks of 12 as the method wants them: two domains, triplets (and unlabelled photos), pairs, or quadruplets."""
    random = np.random.default_rng(1)
    kind = method.batches if method is not None else "domains"
    labels = random.integers(0, classes, size)
    labels = np.tile(labels[: size // 2], 2) if kind == "domains" else labels
    photos = np.repeat([False, True], size // 2)
    if kind != "domains":
        others = [] if kind == "pairs" else [(labels + random.integers(1, classes, size)) % classes]
        labels = [labels, labels, *([labels] if kind == "quadruplets" else []), *others]
        photos = [np.zeros(size, bool), *[np.ones(size, bool)] * (len(labels) - 1)]
        if method.wants_unlabelled:
            labels[2] = np.where(np.arange(size) % 3, labels[2], -1)  # some negatives are unlabelled
            labels, photos = [*labels, np.full(size, -1)], [*photos, np.ones(size, bool)]
        labels, photos = np.concatenate(labels), np.concatenate(photos)
    centres = random.standard_normal((classes + 1, channels, 1, 1))
    if images:
        inputs = torch.rand(len(labels), 3, 9, 9, dtype=torch.float64)
    else:
        inputs = torch.from_numpy(centres[labels] + 0.1 * random.standard_normal((len(labels), channels, 3, 3)) + 1)
    return Batch(
        inputs,
        torch.from_numpy(labels),
        torch.from_numpy(photos),
        torch.from_numpy(photos.astype(int)),
        inputs.flip(2),
        torch.from_numpy(random.integers(1, 31, len(labels))),
        epoch=5,
        step=40,
        iteration=40,
    )


def inputs_of(method, data):
    """What the method is fed: maps, for STRAD the pooled features of another, for SaN images."""
    if isinstance(method, METHODS["san"]):
        random = np.random.default_rng(4)
        shapes = torch.from_numpy(random.random((7, 3, 64, 64)))
        return replace(
            data,
            inputs=shapes[data.labels] + 0.05 * torch.from_numpy(random.standard_normal((len(data.labels), 3, 64, 64))),
        )
    return replace(data, inputs=data.inputs.mean((2, 3)).clamp(min=0)) if isinstance(method, METHODS["strad"]) else data


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_loss_term_is_finite_and_gradients_reach_what_learns(variant):
    name, options = VARIANTS[variant]
    method, random = make(name, **options), np.random.default_rng(2)
    data = inputs_of(method, batch(method))
    for _ in range(3):  # the adapter's first factor learns once its second has left zero
        terms = method.losses(data, random)
        assert all(torch.isfinite(value) for value in terms.values())
        method.zero_grad()
        sum(terms.values()).backward()
        with torch.no_grad():
            for p in method.parameters():
                if p.grad is not None:
                    p -= 1e-3 * p.grad
    unreached = [
        n for n, p in method.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.abs().sum() > 0)
    ]
    # Biases inside the attention cancel in its softmax, and reference weights never learn; ZSIH's head of variances is
    # in the regulariser alone, which leaves biases of 0 as they are.
    unreached = [n for n in unreached if n != "decode_variance.bias"]
    assert [n for n in unreached if ".attention." not in n or not n.endswith("bias")] == []
    assert all(p.grad is None for n, p in method.named_parameters() if n.startswith("slow."))


@pytest.mark.parametrize("variant", VARIANTS)
def test_one_batch_can_be_over_fitted(variant):
    """On one batch the loss falls and every sketch finds the photos of its class."""
    name, options = VARIANTS[variant]
    if name in ("snmpnet", "eisnet", "cumix"):
        options = {**options, "temperature": 0.1, **({"mixing": False, "lambda_sn": 0.01} if name == "snmpnet" else {})}
    if name == "doodle":
        # Noise and adversaries (nearly) aside.
        options = {**options, "dropout": 0.0, "weight_domain": 0.0, "weight_semantic": 0.1, "margin": 20.0}
    if name == "stl":
        options = {
            **options,
            "dropout": 0.0,
            **({"weight_calibration": 0.01} if options.get("weight_calibration", 1) else {}),
        }
    if name == "strad":
        options = {**options, "weight_kl": 0.01}
    if name in ("sem_pcyc", "xu2019", "ocean"):
        options = {**options, "weight_adversarial": 0.0}  # a game has no loss that falls
    if name == "content_style":
        options = {**options, "weight_domain": 0.0}
    method, random = make(name, **options), np.random.default_rng(2)
    data = inputs_of(method, batch(method))
    optimiser = torch.optim.Adam([p for p in method.parameters() if p.requires_grad], lr=1e-2)
    losses = []
    for _ in range(150):
        loss = sum(method.losses(data, random).values())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        method.after_step()
        losses.append(loss.item())
    known = data.labels >= 0
    method.eval()
    with torch.inference_mode():
        embedded = method.embed(data.inputs, data.photos)
    scores = evaluate(
        embedded[~data.photos & known],
        data.labels[~data.photos & known],
        embedded[data.photos & known],
        data.labels[data.photos & known],
        getattr(method.options, "distance", "cosine"),
    )
    # A batch of triplets does not ask for every pair of classes.
    assert losses[-1] < 0.7 * losses[0] and scores["map_all"] > (0.85 if method.batches == "triplets" else 0.95), (
        losses[0],
        losses[-1],
        scores["map_all"],
    )


@pytest.mark.parametrize(
    "variant", [v for v, (name, _) in VARIANTS.items() if not METHODS[name].frozen_features and name not in PIXELS]
)
def test_trained_upper_part_takes_the_adapters_place(variant):
    name, options = VARIANTS[variant]
    upper = nn.Sequential(nn.Conv2d(3, 24, 3), nn.BatchNorm2d(24), nn.ReLU())
    method = make(name, upper=upper, **options)
    sum(method.losses(batch(method, images=True), np.random.default_rng(0)).values()).backward()
    assert upper[0].weight.grad.abs().sum() > 0
    assert not any("adapter" in n and "slow" not in n for n, _ in method.named_parameters())


def test_snmpnet_switches_change_the_loss():
    data = batch()

    def loss(**options):
        return sum(make("snmpnet", **options).losses(data, np.random.default_rng(0)).values()).item()

    base = loss()
    for change in (
        {"sn_form": "paper"},
        {"heads": "serial"},
        {"kappa": 0.0},
        {"temperature": 0.5},
        {"mixing": False},
        {"lambda_mp": 0.0},
        {"beta": 2.0},
    ):
        assert abs(loss(**change) - base) > 1e-6, change


def test_the_momentum_encoder_follows_slowly():
    method = make("eisnet", momentum=0.9)
    with torch.no_grad():
        method.metric.weight.add_(1)
    before = method.slow[1].weight.clone()
    method.after_step()
    torch.testing.assert_close(method.slow[1].weight, 0.9 * before + 0.1 * method.metric.weight)


def test_reference_rows():
    maps = torch.rand(5, 7, 3, 3, dtype=torch.float64)
    frozen = make("frozen", channels=7)
    torch.testing.assert_close(frozen.embed(maps, torch.ones(5, dtype=torch.bool)), pooled(maps))
    queries, gallery = make("frozen_centred", channels=7).transform_test_embeddings(
        np.array([[1.0, 3.0], [3.0, 3.0]]), np.array([[5.0, 5.0]])
    )
    np.testing.assert_array_equal(queries, [[-1, 0], [1, 0]])
    np.testing.assert_array_equal(gallery, [[0, 0]])
    assert METHODS["frozen_centred"].transductive and not METHODS["frozen"].transductive


@pytest.mark.parametrize(
    "values, message",
    [
        ({"kapa": 2.0}, "unknown option 'kapa'.*kappa"),
        ({"kappa": "2"}, "kappa must be float"),
        ({"mixing": 1}, "mixing must be bool"),
        ({"heads": "both"}, "one of 'parallel', 'serial'"),
        ({"mixup_step": 2.5}, "mixup_step must be int"),
        ({"kappa": True}, "kappa must be float"),
        ({"kappa": float("nan")}, "finite"),
    ],
)
def test_options_are_checked(values, message):
    with pytest.raises(OptionError, match=message):
        from_mapping(METHODS["snmpnet"].Options, values, "options")


def test_an_int_is_taken_for_a_float():
    assert from_mapping(METHODS["snmpnet"].Options, {"kappa": 4}, "options").kappa == 4.0


# ------------------------------------------------------------------------------------------------------- two networks


def test_each_sample_goes_through_its_own_side(random):
    sides = Sides(nn.Linear(3, 2), shared=False).double()
    with torch.no_grad():
        sides.photo.weight.add_(1)
    x = torch.from_numpy(random.standard_normal((5, 3)))
    for photos in ([True, False, True, False, False], [False, False, False, True, True], [True] * 5, [False] * 5):
        out = sides(x, torch.tensor(photos))
        for row, photo in enumerate(photos):
            torch.testing.assert_close(out[row], (sides.photo if photo else sides.sketch)(x[row]))
    assert len(list(Sides(nn.Linear(3, 2), shared=True).parameters())) == 2


def gradients(method, data, **changed):
    """Gradient of each parameter of a method with other options, on the same draws."""
    method.options = replace(method.options, **changed)
    method.zero_grad()
    sum(method.losses(data, np.random.default_rng(0)).values()).backward()
    return {n: p.grad.clone() for n, p in method.named_parameters() if p.grad is not None}


def test_the_domain_loss_is_really_reversed_in_the_encoder_and_not_in_the_classifier():
    """With the domain loss alone, the encoder's gradient is the classifier's own times -1 once the ramp is up, and 0
    before.
    """
    options = {"dim": 16, "weight_triplet": 0.0, "weight_semantic": 0.0}
    method = make("doodle", **options)
    data = batch(method)
    up = gradients(method, replace(data, iteration=25))
    half = gradients(method, replace(data, iteration=15))
    off = gradients(method, replace(data, iteration=5))
    from ucdr_core.methods import doodle

    plain = doodle.reverse_gradient
    doodle.reverse_gradient = lambda x, strength: x  # what an ordinary classifier's gradient would be
    try:
        ordinary = gradients(method, data)
    finally:
        doodle.reverse_gradient = plain
    for n in ordinary:
        if n.startswith("encode"):
            torch.testing.assert_close(up[n], -ordinary[n])
            torch.testing.assert_close(half[n], -0.5 * ordinary[n])
            assert not off[n].abs().sum() > 0
        else:
            torch.testing.assert_close(up[n], ordinary[n])
    assert any(n.startswith("encode") for n in ordinary) and any(n.startswith("domain") for n in ordinary)


def test_the_ramp_of_the_code_starts_anew_each_epoch():
    method = make("doodle", dim=16, weight_triplet=0.0, weight_semantic=0.0)
    data = replace(batch(method), step=3, iteration=100)
    assert gradients(method, data)["encode.sketch.1.weight"].abs().sum() > 0
    assert not gradients(method, data, ramp="code")["encode.sketch.1.weight"].abs().sum() > 0


def test_the_semantic_loss_pulls_positives_and_pushes_negatives():
    """With the semantic loss alone, a step against the gradient brings the decoded positive nearer to the anchor's word
    vector and takes the negative from it: the decoder held fixed, the photo's embedding alone moved."""
    method = make("doodle", dim=16, weight_triplet=0.0, weight_domain=0.0, dropout=0.0)
    data = batch(method)
    v = method.embed(data.inputs, data.photos).detach().requires_grad_()
    method.encode.forward = lambda inputs, photos: v
    sum(method.losses(data, np.random.default_rng(0)).values()).backward()
    s = method.class_vectors[data.labels[:12]]

    def distance(rows, embedded):
        return (1 - torch.cosine_similarity(method.head(method.decoder, embedded[rows], None), s)).mean().item()

    moved = (v - 10 * v.grad).detach()
    assert distance(slice(12, 24), moved) < distance(slice(12, 24), v) and distance(slice(24, 36), moved) > distance(
        slice(24, 36), v
    )
    # lambda_s = 0.5: half as strong on the negatives, the other way round
    assert 0 < v.grad[24:].norm() < v.grad[12:24].norm()


def test_doodle_switches_change_the_loss():
    def loss(**options):
        method = make("doodle", **{"dim": 16, **options})
        return {name: value.item() for name, value in method.losses(batch(method), np.random.default_rng(0)).items()}

    base = loss()
    assert loss(semantic_form="code")["semantic"] == pytest.approx(3 * base["semantic"])
    for change in ({"decoder_layers": 2}, {"attention": False}, {"margin": 2.0}, {"dropout": 0.2}):
        assert loss(**change) != base, change
    assert set(loss(weight_domain=0.0, weight_semantic=0.0)) == {"triplet"}


# ---------------------------------------------------------------------------------------------------------------- STL


def test_stl_shares_what_its_network_says():
    def count(network):
        return sum(p.numel() for p in make("stl", dim=16, hidden=16, positions=1, network=network).parameters())

    trunk = sum(p.numel() for p in make("stl", dim=16, hidden=16, positions=1, network="shared").trunk.parameters())
    mlp = sum(p.numel() for p in make("stl", dim=16, hidden=16, positions=1, network="shared").mlp.parameters())
    assert count("semi") == count("shared") + trunk and count("separate") == count("semi") + mlp


def test_unlabelled_photos_reach_the_calibration_alone():
    """The labels of the last block are never looked at, and without a calibration loss the block is not asked for."""
    method = make("stl", dim=16, hidden=16, positions=1)
    data = batch(method)
    terms = method.losses(data, np.random.default_rng(0))
    other = replace(data, labels=torch.where(torch.arange(len(data.labels)) >= 36, 3, data.labels))
    changed = method.losses(other, np.random.default_rng(0))
    assert {name: value.item() for name, value in terms.items()} == {
        name: value.item() for name, value in changed.items()
    }
    assert not make("stl", dim=16, hidden=16, positions=1, weight_calibration=0.0).wants_unlabelled


# -------------------------------------------------------------------------------------------------------------- STRAD


def test_the_cosine_of_fused_embeddings_is_the_weighted_mean_of_the_three():
    """Equation 9: D = lambda_1 (D_im + D_sk) + lambda_2 D_st with D = 1 - cos."""
    method = make("strad", hidden=32, structure=16, samples=4).eval()
    method.fusion.copy_(torch.tensor([0.3, 0.3, 0.4]))
    x, photos = torch.rand(2, 24, dtype=torch.float64), torch.tensor([False, True])
    with torch.inference_mode():
        cosines = [
            torch.cosine_similarity(*method.embed(x, photos, space)[:, None]).item()
            for space in ("sketch", "image", "structure")
        ]
        fused = torch.cosine_similarity(*method.embed(x, photos)[:, None]).item()
    assert fused == pytest.approx(0.3 * cosines[0] + 0.3 * cosines[1] + 0.4 * cosines[2])


def test_the_generated_image_is_the_mean_over_sampled_appearances():
    method = make("strad", hidden=32, structure=16, samples=4).eval()
    f = torch.rand(3, 24, dtype=torch.float64)
    with torch.inference_mode():
        made = method.feature("generated image", f)
        structure = method.feature("sketch structure", f)
        for row in range(3):
            slow = torch.stack([method.to_image(torch.cat([z, structure[row]])[None])[0] for z in method.z]).mean(0)
            torch.testing.assert_close(made[row], slow)


@pytest.mark.parametrize(
    "off, spaces",
    [
        ((), ("", "sketch", "image", "structure")),
        (("sk",), ("", "image", "structure")),
        (("im", "kl"), ("", "sketch", "structure")),
        (("cls",), ("", "sketch", "image")),
        (("kl", "sk", "im", "or"), ("", "structure")),
    ],
)
def test_a_space_is_searched_where_its_loss_is_trained(off, spaces):
    """The missing entries of Table 2."""
    method = make("strad", hidden=32, structure=16, samples=4, **{f"weight_{loss}": 0.0 for loss in off})
    assert method.spaces == spaces
    method.losses(inputs_of(method, batch(method)), np.random.default_rng(0))
    for space in spaces:
        assert torch.isfinite(
            method.eval().embed(torch.rand(2, 24, dtype=torch.float64), torch.tensor([False, True]), space)
        ).all()


def test_the_fusion_weight_is_the_best_by_the_score_it_is_given():
    method = make("strad", hidden=32, structure=16, samples=4)
    method.choose(lambda: -abs(method.fusion[2].item() - 0.6))
    torch.testing.assert_close(method.fusion, torch.tensor([0.2, 0.2, 0.6], dtype=torch.float64))
    assert isinstance(method, STRAD)


def test_orthogonality_reaches_the_photo_encoders_alone():
    method = make("strad", hidden=32, structure=16, samples=4)
    method.losses(inputs_of(method, batch(method)), np.random.default_rng(0))["or"].backward()
    parts = {n.split(".")[0] for n, p in method.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert parts == {"appearance", "structure_photo"}
    with pytest.raises(OptionError, match="no space"):
        make("strad", weight_cls=0.0, weight_im=0.0, weight_sk=0.0)


# ---------------------------------------------------------------------------------------------- on a device, on several


@pytest.mark.parametrize("name", [name for name, cls in METHODS.items() if cls.trained and not cls.closed_form])
def test_a_step_never_waits_for_the_device(name):
    """Tensors of the meta device have no values: whatever reads one (`.item()`, a mask as an index, a branch on a loss)
    fails.
    """
    method = make(name, **({"map_px": 1} if name in PIXELS else {}))
    data = inputs_of(method, batch(method))
    method = method.to("meta").train()
    data = replace(
        data, **{key: getattr(data, key).to("meta") for key in ("inputs", "labels", "jigsaw_inputs", "jigsaw_labels")}
    )
    sum(method.losses(data, np.random.default_rng(0)).values()).backward()
    assert all(p.grad is None or p.grad.is_meta for p in method.parameters())


def test_fully_connected_layers_stand_in_for_pooling():
    torch.manual_seed(0)
    layers = FullyConnected((nn.Linear(24 * 49, 8), nn.Linear(8, 8))).double()
    encoder = Encoder(nn.Sequential(nn.Conv2d(3, 24, 1)), 24, 4, layers=layers).double()
    pixels = torch.rand(2, 3, 14, 14, dtype=torch.float64)
    maps = torch.nn.functional.avg_pool2d(encoder.upper(pixels), 2).flatten(1)
    expected = layers.layers[1](layers.layers[0](maps).clamp(min=0)).clamp(min=0)
    encoder.eval()
    torch.testing.assert_close(encoder(pixels), expected)
    encoder.train()
    layers.random = np.random.default_rng(0)
    assert encoder.width == 8 and not torch.allclose(encoder(pixels), expected)


def test_whitening_leaves_every_direction_alike_and_centring_at_the_other_end(random):
    from ucdr_core.methods.reference import FrozenWhitened

    queries, gallery = (
        random.standard_normal((300, 5)) @ random.standard_normal((5, 5)) + 3,
        random.standard_normal((500, 5)) * [1, 2, 3, 4, 5] - 7,
    )
    plain = make("frozen_whitened", channels=5, shrinkage=0.0).transform_test_embeddings(queries, gallery)
    both = (np.cov(plain[0].T, bias=True) + np.cov(plain[1].T, bias=True)) / 2
    np.testing.assert_allclose(both, np.eye(5), atol=1e-9)
    strong = make("frozen_whitened", channels=5, shrinkage=1e9).transform_test_embeddings(queries, gallery)
    centred = make("frozen_centred", channels=5).transform_test_embeddings(queries, gallery)
    for one, other in zip(strong, centred):
        np.testing.assert_allclose(one / np.linalg.norm(one), other / np.linalg.norm(other), atol=1e-6)
    assert FrozenWhitened.transductive
