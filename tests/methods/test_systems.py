"""The systems that the papers compare with: their losses and solutions against computations that share nothing with
them.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.linalg import solve_sylvester
from test_methods import batch, inputs_of, make
from torch import nn
from torch.nn import functional

from ucdr_core.methods import (
    METHODS,
    OptionError,
    backbones,
    devise,
    eszsl,
    sae,
    sem_pcyc,
    siamese,
    zsih,
)
from ucdr_core.methods.base import by_side, mlp, scaled_features
from ucdr_core.methods.losses import least_squares_game
from ucdr_core.methods.sake import ConditionedLayer
from ucdr_core.retrieval import evaluate
from ucdr_core.training.spec import TrainSpec

D = torch.float64


def terms_of(name, data=None, **options):
    """(method, its batch, its losses as numbers), with draws of seed 0."""
    method = make(name, **options)
    data = inputs_of(method, data or batch(method))
    return method, data, {key: value.item() for key, value in method.losses(data, np.random.default_rng(0)).items()}


def array(tensor):
    return tensor.detach().numpy()


def softmax(x):
    e = np.exp(x - x.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def cross_entropy(logits, labels):
    return -np.log(softmax(logits)[np.arange(len(labels)), labels]).mean()


def cosines(a, b):
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


# --------------------------------------------------------------------------------------------------------------- SAKE


def test_sakes_teacher_is_the_classifier_on_untouched_features_of_photos_alone():
    similarity = torch.rand(6, 30, dtype=D, generator=torch.Generator().manual_seed(0))
    for shift, scale, weight in ((None, 1.0, 1.0), (similarity, 1.0, 1.0), (similarity, 2.0, 0.5)):
        options = {"weight_teacher": weight, "teacher_scale": scale}
        method, data, _ = terms_of("sake", dim=16, **options)
        method.similarity = shift
        terms = {name: value.item() for name, value in method.losses(data, np.random.default_rng(0)).items()}
        g, labels, photos = array(data.inputs.mean((2, 3))), data.labels.numpy(), data.photos.numpy()
        teacher = g @ array(method.teacher_weight).T + array(method.teacher_bias)
        target = softmax(scale * teacher + (0.3 * array(shift)[labels] if shift is not None else 0))
        h = array(method.hidden(data.inputs, data.photos))
        student = np.log(softmax(h @ array(method.student.weight).T + array(method.student.bias)))
        assert terms["teacher"] == pytest.approx(-weight * (target * student)[photos].sum() / photos.sum())
        logits = h @ array(method.classifier.weight).T + array(method.classifier.bias)
        assert terms["ce"] == pytest.approx(cross_entropy(logits, labels))


def test_sakes_margin_takes_the_place_of_the_linear_classifier():
    method, data, _ = terms_of("sake", dim=16, classifier="margin", weight_teacher=0.0)
    h, labels = array(method.hidden(data.inputs, data.photos)), data.labels.numpy()
    for epoch, m in ((5, 1), (20, 2), (25, 4)):
        logits = -np.linalg.norm(h[:, None] - array(method.classifier.centres), axis=2)
        logits[np.arange(len(h)), labels] *= m
        terms = method.losses(replace(data, epoch=epoch), np.random.default_rng(0))
        assert terms["ce"].item() == pytest.approx(cross_entropy(logits, labels)) and set(terms) == {"ce"}
    linear, _, _ = terms_of("sake", dim=16, weight_teacher=0.0)
    assert linear.losses(replace(data, epoch=25), None)["ce"] == linear.losses(data, None)["ce"]


def test_sake_starts_as_the_imagenet_classifier():
    """With D as large as the classifier's rank, the student says at the start what the teacher says of the adapter's
    features, but for its bias.
    """
    method, data, _ = terms_of("sake", dim=24)
    g = method.excitation(method.encoder(data.inputs))
    with torch.no_grad():
        method.project.bias.zero_()
        method.student.bias.zero_()
    student = method.student(method.hidden(data.inputs, data.photos))
    torch.testing.assert_close(student, g @ method.teacher_weight.T)
    torch.testing.assert_close(
        method.student.weight.T @ method.student.weight, torch.eye(24, dtype=D), atol=1e-6, rtol=0
    )


def test_the_indicator_tells_sketches_from_photos_once_it_has_learned():
    method, data, _ = terms_of("sake", dim=16)
    sketch, photo = (torch.full_like(data.photos, value) for value in (False, True))
    # Its weights start at 0.
    torch.testing.assert_close(method.embed(data.inputs, sketch), method.embed(data.inputs, photo))
    with torch.no_grad():
        method.excitation.fc2.weight.fill_(3)
    g = method.encoder(data.inputs)
    torch.testing.assert_close(method.hidden(data.inputs, sketch), method.project(g))  # 2 sigmoid(0) = 1
    lifted = g * 2 * torch.sigmoid(torch.tensor(3.0, dtype=D))
    torch.testing.assert_close(method.hidden(data.inputs, photo), method.project(lifted))


def test_without_label_the_excitation_stays_and_the_indicator_alone_goes():
    with_label, without = make("sake", dim=16), make("sake", dim=16, indicator=False)
    assert type(without.excitation) is type(with_label.excitation)
    names, left = ({name for name, _ in method.named_parameters()} for method in (with_label, without))
    assert {name.replace("fc2.layer", "fc2") for name in names} - left == set()
    assert len(names) == len(left) + 1 and "excitation.fc2.layer.weight" in names


def test_in_a_squeeze_and_excitation_network_the_indicator_enters_every_block():
    from timm.models.senet import SEModule

    upper = nn.Sequential(nn.Conv2d(3, 24, 3), SEModule(24, 4), nn.Conv2d(24, 24, 1), SEModule(24, 4))
    method = make("sake", upper=upper, dim=16)
    data = batch(method, images=True)
    assert [type(upper[i].fc2) for i in (1, 3)] == [ConditionedLayer] * 2
    assert isinstance(method.excitation, nn.Identity)
    x = torch.rand(2, 6, 1, 1, dtype=D)
    method.indicator.photos = torch.tensor([[0.0], [1.0]], dtype=D)
    with torch.no_grad():
        upper[1].fc2.weight.fill_(0.5)
    out, by_hand = upper[1].fc2(x), upper[1].fc2.layer(x)
    torch.testing.assert_close(out[0], by_hand[0])
    torch.testing.assert_close(out[1], by_hand[1] + 0.5)
    assert not any("before" in name for name in method.state_dict())  # the teacher is not saved with the weights
    before = method.teacher_logits(data.inputs)
    with torch.no_grad():
        upper[0].weight.add_(1)
    torch.testing.assert_close(method.teacher_logits(data.inputs), before)


def test_the_packaged_classifier_is_the_trunks_own():
    trunk = backbones.trunk("efficientnet_lite0")
    head = trunk.classifier()
    assert head.weight.shape == (1000, 1280) and head.weight.std() > 0.01
    assert not any("classifier" in name for name in trunk.state_dict())
    assert backbones.trunk("se_resnet50", "random").classifier().weight.shape == (1000, 2048)
    with pytest.raises(backbones.WeightsError, match="vgg16 does not act on the pooled map"):
        backbones.trunk("vgg16", "random").classifier()


# --------------------------------------------------------------------------------------------------------------- CVAE


def test_cvaes_loss_by_hand():
    method, data, terms = terms_of("cvae", hidden=16, latent=3, samples=4, weight_kl=0.5, dropout=0.0)
    x_sk, x_im = np.split(array(scaled_features(data.inputs)), 2)

    def dense(x, layer):
        return x @ array(layer.weight).T + array(layer.bias)

    def hidden(x, block):
        y = np.maximum(dense(x, block[0]), 0)
        return (y - y.mean(0)) / np.sqrt(y.var(0) + 1e-3)

    h = hidden(hidden(np.hstack([x_im, x_sk]), method.first), method.second)
    mean, log_variance = (np.tanh(dense(h, head[0])) for head in (method.mean, method.log_variance))
    z = mean + np.random.default_rng(0).standard_normal(mean.shape) * np.exp(log_variance / 2)
    d = method.decoder
    made = np.maximum(dense(np.maximum(dense(np.hstack([z, x_sk]), d[0]), 0), d[2]), 0)
    back = np.maximum(dense(np.maximum(dense(made, method.to_sketch[0]), 0), method.to_sketch[2]), 0)
    assert terms["image"] == pytest.approx(((made - x_im) ** 2).mean())
    assert terms["sketch"] == pytest.approx(10 * ((back - x_sk) ** 2).mean())
    normal = torch.distributions.Normal
    kl = torch.distributions.kl_divergence(
        normal(torch.from_numpy(mean), torch.from_numpy(np.exp(log_variance / 2))), normal(0.0, 1.0)
    )
    assert terms["kl"] == pytest.approx(0.5 * kl.sum(1).mean().item())


def test_cvae_asks_with_the_mean_of_what_it_makes():
    method, data, _ = terms_of("cvae", hidden=16, latent=3, samples=4)
    x = scaled_features(data.inputs[:2])
    slow = torch.stack(
        [torch.stack([method.decoder(torch.cat([z, row])[None])[0] for z in method.z]).mean(0) for row in x]
    )
    torch.testing.assert_close(method.embed(data.inputs[:2], torch.tensor([False, False])), slow)
    torch.testing.assert_close(method.embed(data.inputs[:2], torch.tensor([True, True])), x)


# ----------------------------------------------------------------------------------------------------------- SEM-PCYC


def test_group_sparsity_sums_the_lengths_of_the_inputs_weights():
    assert sem_pcyc.group_sparsity(torch.tensor([[3.0, 0.0], [4.0, 2.0]])).item() == 7.0


def game():
    """D(x) = x_1 + 2 x_2 answers 3 to what is real, 0.5 and 2 to what is made."""
    critic = nn.Linear(2, 1, bias=False).double()
    with torch.no_grad():
        critic.weight.copy_(torch.tensor([[1.0, 2.0]]))
    points = [[1.0, 1.0]], [[0.5, 0.0]], [[0.0, 1.0]]
    real, *made = (torch.tensor(x, dtype=D, requires_grad=True) for x in points)
    return critic, real, made


def test_each_player_of_the_game_is_moved_by_its_own_loss_alone():
    critic, real, (made, _) = game()
    maker, judged = least_squares_game(critic, real, made)
    assert maker.item() == pytest.approx(0.25) and judged.item() == pytest.approx(((3 - 1) ** 2 + 0.5**2) / 2)
    (maker + judged).backward()
    torch.testing.assert_close(made.grad, 2 * (0.5 - 1) * critic.weight.detach())  # not judged's
    by_hand = (2 * (3 - 1) * real.detach() + 2 * 0.5 * made.detach()) / 2  # not maker's
    torch.testing.assert_close(critic.weight.grad, by_hand)
    assert real.grad is None


def test_what_is_real_counts_as_often_as_something_is_made():
    critic, real, made = game()
    maker, judged = least_squares_game(critic, real, *made)
    assert maker.item() == pytest.approx((0.5 - 1) ** 2 + (2 - 1) ** 2)
    assert judged.item() == pytest.approx((2 * (3 - 1) ** 2 + 0.5**2 + 2**2) / 4)


@pytest.mark.parametrize("soft_for", ["both", "critic"])
def test_soft_targets_and_noise_are_drawn_for_each_answer(soft_for):
    critic, real, (made, _) = game()
    how = {"noise": 0.5, "softness": 0.3, "soft_for": soft_for}
    maker, judged = least_squares_game(critic, real, made, random=np.random.default_rng(0), **how)
    copy = np.random.default_rng(0)

    def answer(x):
        return (array(x) + 0.5 * copy.standard_normal((1, 2))) @ [1.0, 2.0]

    by_hand = answer(made) - (copy.uniform(0.7, 1) if soft_for == "both" else 1)
    assert maker.item() == pytest.approx(by_hand.item() ** 2)
    errors = answer(real) - copy.uniform(0.7, 1), answer(made) - copy.uniform(0, 0.3)
    assert judged.item() == pytest.approx(sum(error.item() ** 2 for error in errors) / 2)


def sem_pcyc_terms(**options):
    method = make("sem_pcyc", dim=5, **options)
    x_sketch, x_photo = scaled_features(batch(method).inputs).chunk(2)
    labels = batch(method).labels[:12]
    w = method.class_vectors[labels]
    made = method.make(x_sketch, x_photo, w, np.random.default_rng(0))
    return method, x_sketch, x_photo, w, labels, made


def test_sem_pcycs_generators_go_round_from_features_and_from_semantics():
    method, x_sketch, x_photo, w, _, made = sem_pcyc_terms(dropout=0.0)
    to, back = method.to_semantic, method.from_semantic
    e = functional.relu(w @ method.compress.weight.T + method.compress.bias)
    torch.testing.assert_close(made.e, e)
    torch.testing.assert_close(made.restored, functional.relu(method.restore(e)))
    torch.testing.assert_close(made.sketch_again, back.sketch(to.sketch(x_sketch)))
    torch.testing.assert_close(made.photo_again, back.photo(to.photo(x_photo)))
    torch.testing.assert_close(made.semantic_by_sketch, to.sketch(back.sketch(e)))
    torch.testing.assert_close(made.semantic_by_photo, to.photo(back.photo(e)))
    torch.testing.assert_close(made.sketch, back.sketch(e))
    torch.testing.assert_close(made.semantic_of_photo, to.photo(x_photo))
    widths = [layer.out_features for layer in to.sketch.layers if isinstance(layer, nn.Linear)]
    assert widths == [14, 14, 5]  # (24 + 5) / 2


def test_sem_pcycs_generators_drop_half_of_what_they_have_in_training_alone():
    generator, x = sem_pcyc.Generator(6, 4, 0.5).double(), torch.rand(8, 6, dtype=D)
    masks = [np.random.default_rng(0).random((2, 8, 5))[i] >= 0.5 for i in range(2)]
    layers = generator.layers
    hidden = layers[2](layers[1](layers[0](x))) * torch.from_numpy(masks[0]) * 2
    hidden = layers[5](layers[4](layers[3](hidden))) * torch.from_numpy(masks[1]) * 2
    torch.testing.assert_close(generator(x, np.random.default_rng(0)), layers[6](hidden))
    torch.testing.assert_close(generator(x), layers(x))


def test_sem_pcycs_players_are_moved_by_their_own_terms_alone():
    method, *features, made = sem_pcyc_terms()
    terms = method.terms(made, *features, np.random.default_rng(0))
    players = {
        "autoencoder": [method.compress, method.restore],
        "critics": list(method.critics),
        "generators": [method.to_semantic, method.from_semantic],
    }
    for name, term in terms.items():
        mover = name if name in players else "generators"
        for player, modules in players.items():
            weights = [p for module in modules for p in module.parameters()]
            gradients = torch.autograd.grad(term, weights, retain_graph=True, allow_unused=True)
            assert any(g is not None and g.abs().sum() > 0 for g in gradients) == (player == mover), (name, player)


def test_sem_pcycs_losses_are_the_terms_of_what_its_networks_make():
    method, *features, made = sem_pcyc_terms()
    random = np.random.default_rng(0)
    made = method.make(*features[:3], random)
    by_hand = method.terms(made, *features, random)
    again = make("sem_pcyc", dim=5)
    for name, term in again.losses(batch(again), np.random.default_rng(0)).items():
        torch.testing.assert_close(term, by_hand[name])


def test_the_random_classifiers_of_the_code_do_not_learn():
    for classifier, learns in (("random", False), ("trained", True)):
        weights = list(make("sem_pcyc", classifier=classifier).classifiers.parameters())
        assert len(weights) == 3 and all(p.requires_grad == learns for p in weights)


# --------------------------------------------------------------------------------------------------------------- ZSIH


def test_the_fusion_is_a_kronecker_product_and_the_graph_is_normalised():
    random = np.random.default_rng(0)
    u, v, s = random.random((3, 2)), random.random((3, 4)), random.random((3, 5))
    np.testing.assert_allclose(
        zsih.kronecker(torch.from_numpy(u), torch.from_numpy(v)), [np.kron(a, b) for a, b in zip(u, v)]
    )
    a = np.array([[np.exp(-((i - j) ** 2).sum() / 0.1) for j in s] for i in s])
    degree = np.diag((a.sum(1) + 1e-8) ** -0.5)
    np.testing.assert_allclose(zsih.semantic_graph(torch.from_numpy(s), 0.1), degree @ a @ degree)


@pytest.mark.parametrize("drawn", [True, False])
def test_bits_lie_above_their_thresholds_and_their_gradient_is_the_probabilitys(drawn):
    logits = torch.linspace(-2, 2, 2000, dtype=D)[:, None].requires_grad_()
    bits = zsih.bits_above(logits, torch.from_numpy(np.random.default_rng(0).random((2000, 1))) if drawn else 0.5)
    assert torch.isin(bits.detach(), torch.tensor([0.0, 1.0], dtype=D)).all()
    if drawn:
        assert 0 < bits[:200].mean() < 0.25 and 1 > bits[-200:].mean() > 0.75
    else:
        torch.testing.assert_close(bits, (logits > 0).double())
    bits.sum().backward()
    torch.testing.assert_close(logits.grad, logits.sigmoid() * (1 - logits.sigmoid()))


@pytest.mark.parametrize("neurons, targets", [("code", "code"), ("paper", "paper"), ("code", "paper")])
def test_zsihs_loss_by_hand(neurons, targets):
    options = {"neurons": neurons, "targets": targets, "initial_deviation": 0.3, "weight_entropy": 2.0}
    method, data, terms = terms_of("zsih", bits=6, hidden=8, fusion=3, **options)

    def dense(x, layer):
        return x @ array(layer.weight).T + array(layer.bias)

    sketch, photo = np.split(array(scaled_features(data.inputs)), 2)
    s = array(method.class_vectors[data.labels[:12]])
    graph = array(zsih.semantic_graph(torch.from_numpy(s), 0.1))
    u, v = (np.maximum(dense(x, layer), 0) for x, layer in ((photo, method.project[0]), (sketch, method.project[1])))
    fused = np.array([np.kron(a, b) for a, b in zip(u, v)])
    logits = graph @ dense(np.maximum(graph @ dense(fused, method.convolve[0]), 0), method.convolve[1])
    p = 1 / (1 + np.exp(-logits))
    threshold = 0.5 if neurons == "code" else np.random.default_rng(0).random(p.shape)
    code = (p > threshold).astype(float)
    target = code if targets == "paper" else (logits > 0.5).astype(float)
    assert 0 < code.mean() < 1 and (targets == "paper" or (target != code).any())
    assert terms["semantic"] == pytest.approx(0.25 * ((dense(code, method.decode) - s) ** 2).sum())
    assert terms["entropy"] == pytest.approx(-2 * (code * np.log(p) + (1 - code) * np.log(1 - p)).mean())
    alone = [
        1 / (1 + np.exp(-dense(np.maximum(dense(part, side[0]), 0), side[2])))
        for part, side in ((sketch, method.encode.sketch), (photo, method.encode.photo))
    ]
    assert terms["codes"] == pytest.approx(0.05 * sum(((part - target) ** 2).sum() for part in alone))
    squares = sum((array(p) ** 2).sum() for p in method.parameters())
    assert terms["regulariser"] == pytest.approx(0.0025 * squares)


def test_zsih_starts_from_small_weights_and_no_biases():
    method = make("zsih", bits=64, hidden=64, fusion=16)
    for name, value in method.named_parameters():
        assert not value.any() if name.endswith("bias") else 0.008 < value.std() < 0.012, name


def test_codes_are_ranked_by_hamming_distance_with_ties_as_one_group():
    from sklearn.metrics import average_precision_score

    random = np.random.default_rng(0)
    queries, gallery = random.integers(0, 2, (5, 6)).astype(float), random.integers(0, 2, (60, 6)).astype(float)
    query_labels, gallery_labels = random.integers(0, 3, 5), random.integers(0, 3, 60)
    ours = evaluate(queries, query_labels, gallery, gallery_labels, METHODS["zsih"].distance).per_query["map_all"]
    for row in range(5):
        hamming = (queries[row] != gallery).sum(1)
        assert len(set(hamming)) < 8  # massive ties
        assert ours[row] == pytest.approx(average_precision_score(gallery_labels == query_labels[row], -hamming))
    order = random.permutation(60)
    np.testing.assert_array_equal(
        ours, evaluate(queries, query_labels, gallery[order], gallery_labels[order]).per_query["map_all"]
    )
    method, data, _ = terms_of("zsih", bits=6, hidden=8, fusion=3)
    assert set(np.unique(array(method.embed(data.inputs, data.photos)))) == {0.0, 1.0}


# -------------------------------------------------------------------------------------------- Siamese, SaN, DeViSE, CMT


def test_contrastive_losses_by_hand():
    d, same = torch.tensor([1.0, 2.0, 5.0], dtype=D), torch.tensor([True, False, False])
    exponential = (2 / 4 * 1 + 8 * np.exp(-2.77 * 2 / 4) + 8 * np.exp(-2.77 * 5 / 4)) / 3
    assert siamese.contrastive(d, same, "exponential", 4.0).item() == pytest.approx(exponential)
    assert siamese.contrastive(d, same, "hinge", 4.0).item() == pytest.approx((1 + 4 + 0) / 3)


def test_siamese_pairs_are_a_positive_and_a_negative_of_each_sketch():
    method, data, terms = terms_of("siamese", dim=8, form="hinge", scale=2.0)
    e = array(method.encode(data.inputs))
    near, far = (np.linalg.norm(e[:12] - e[part], axis=1) for part in (slice(12, 24), slice(24, 36)))
    assert terms["pairs"] == pytest.approx((np.sum(near**2) + np.sum(np.maximum(2 - far, 0) ** 2)) / 24, rel=1e-5)


def test_sans_triplets_are_on_squared_distances_of_unit_features():
    method, data, terms = terms_of("san", dim=8, width=4, map_px=1)
    e = array(method.embed(data.inputs, data.photos))
    np.testing.assert_allclose(np.linalg.norm(e, axis=1), 1)
    near, far = (((e[:12] - e[part]) ** 2).sum(1) for part in (slice(12, 24), slice(24, 36)))
    assert terms["triplet"] == pytest.approx(np.maximum(0.05 + near - far, 0).mean())


def test_devises_loss_by_hand():
    cosine = torch.tensor([[0.5, 0.45, -0.2], [0.1, 0.3, 0.25]], dtype=D)
    assert devise.rank_loss(cosine, torch.tensor([0, 2]), 0.1).item() == pytest.approx((0.05 + 0.15) / 2)
    method, data, terms = terms_of("devise")
    v, s = array(method.embed(data.inputs, data.photos)), array(method.class_vectors)
    total = 0.0
    for vector, y in zip(v, data.labels.numpy()):
        c = s @ vector / np.linalg.norm(s, axis=1) / np.linalg.norm(vector)
        total += sum(max(0, 0.1 - c[y] + c[j]) for j in range(len(s)) if j != y)
    assert terms["rank"] == pytest.approx(total / len(v))


def test_cmts_loss_by_hand():
    """Each side's mean square, of networks that normalise their own half of the batch."""
    method, data, terms = terms_of("cmt", hidden=7)
    total = 0.0
    for x, y, (first, _, _, last) in zip(
        np.split(array(scaled_features(data.inputs)), 2),
        np.split(data.labels.numpy(), 2),
        (method.to_semantic.sketch, method.to_semantic.photo),
    ):
        h = x @ array(first.weight).T + array(first.bias)
        made = np.tanh((h - h.mean(0)) / np.sqrt(h.var(0) + 1e-5)) @ array(last.weight).T + array(last.bias)
        total += ((made - array(method.class_vectors)[y]) ** 2).sum(1).mean()
    assert terms["squares"] == pytest.approx(total, rel=1e-5)


# -------------------------------------------------------------------------------------------------------- closed forms


@pytest.fixture
def linear(random):
    """Features (40, 7), labels, class vectors (5, 4)."""
    return (
        torch.from_numpy(random.standard_normal((40, 7))),
        torch.from_numpy(random.integers(0, 5, 40)),
        torch.from_numpy(random.standard_normal((5, 4))),
    )


def test_eszsl_solves_its_normal_equations_and_minimises_its_objective(linear):
    x, labels, s = linear
    v = eszsl.solve(x, labels, s, 0.3, 0.2)
    X, S = x.numpy().T, s.numpy().T
    Y = np.where(labels.numpy()[:, None] == np.arange(5), 1.0, -1.0)
    gamma, penalty = 0.3 * np.trace(X @ X.T) / 7, 0.2 * np.trace(S @ S.T) / 4
    np.testing.assert_allclose(
        (X @ X.T + gamma * np.eye(7)) @ v.numpy() @ (S @ S.T + penalty * np.eye(4)), X @ Y @ S.T, atol=1e-9
    )
    V = v.clone().requires_grad_()  # the paper's regularised risk, equation 5 with beta = gamma lambda
    fit = (x @ V @ s.T - torch.from_numpy(Y)).square().sum()
    (
        fit + gamma * (V @ s.T).square().sum() + penalty * (x @ V).square().sum() + gamma * penalty * V.square().sum()
    ).backward()
    assert V.grad.abs().max() < 1e-9


def test_sae_solves_its_sylvester_equation_and_minimises_its_objective(linear):
    x, labels, s = linear
    targets = s[labels]
    w = sae.Sylvester(x, targets).solve(0.4)
    X, S = x.numpy().T, targets.numpy().T
    np.testing.assert_allclose(S @ S.T @ w.numpy() + 0.4 * w.numpy() @ X @ X.T, 1.4 * S @ X.T, atol=1e-9)
    np.testing.assert_allclose(w.numpy(), solve_sylvester(S @ S.T, 0.4 * X @ X.T, 1.4 * S @ X.T), atol=1e-9)
    W = w.clone().requires_grad_()
    ((x - targets @ W).square().sum() + 0.4 * (x @ W.T - targets).square().sum()).backward()
    assert W.grad.abs().max() < 1e-9
    few = sae.Sylvester(x[:3], targets[:3])  # fewer samples than dimensions: many solutions, and the smallest is taken
    assert torch.isfinite(few.solve(0.4)).all() and few.solve(0.4).norm() < 10 * w.norm()


@pytest.mark.parametrize("name", ["eszsl", "sae"])
def test_closed_forms_find_what_is_linear_and_choose_by_the_score(name):
    method = make(name)
    data = batch(method, size=60)
    x = scaled_features(data.inputs)
    method.fit_features(x, data.labels, data.photos)
    first = {key: value.clone() for key, value in method.state_dict().items()}
    embedded = method.embed(data.inputs, data.photos).numpy()
    photos = data.photos.numpy()
    scores = evaluate(
        embedded[~photos], data.labels[~data.photos], embedded[photos], data.labels[data.photos], method.distance
    )
    assert scores["map_all"] > 0.95
    scored = []
    method.choose(lambda: scored.append(1) or float(len(scored) == 3))
    grid = method.options.grid
    assert len(scored) == len(grid) ** (2 if name == "eszsl" else 1)
    chosen = {key: value.clone() for key, value in method.state_dict().items()}
    method.solve(*((grid[0], grid[2]) if name == "eszsl" else (grid[2],)))  # the third that was scored
    key = {"eszsl": "v", "sae": "w"}[name]
    torch.testing.assert_close(chosen[key], method.state_dict()[key])
    assert not torch.allclose(chosen[key], first[key])


def test_eszsls_shared_map_is_one_for_both_sides():
    method = make("eszsl", shared=True)
    data = batch(method, size=60)
    method.fit_features(scaled_features(data.inputs), data.labels, data.photos)
    assert torch.equal(method.v[0], method.v[1]) and method.v.abs().sum() > 0


@pytest.mark.parametrize("name", ["eszsl", "sae"])
def test_a_closed_form_is_trained_evaluated_and_read_back(name, small, tmp_path):
    from ucdr_core.evidence.store import Store

    spec = TrainSpec.from_mapping({**small, "method": name})
    record = Store(tmp_path).make(spec, progress=False)
    task = record.task("zs_sbir:sketch:unseen")
    embedded = [record.embeddings(rows) for rows in (task.query, task.gallery)]
    labels = spec.manifest().samples.class_name.to_numpy()
    again = evaluate(embedded[0], labels[task.query], embedded[1], labels[task.gallery], "cosine")["map_all"]
    assert record.log == [] and again == pytest.approx(record.scores("zs_sbir:sketch:unseen")["map_all"], abs=1e-6)


# ---------------------------------------------------------------------------------------------- in the spirit of others


def test_the_distance_of_a_fake_to_the_photo_is_that_of_the_embeddings():
    """|d(content of the query, style of the photo) - feature of the photo| for each pair, against one Euclidean
    distance.
    """
    method, data, _ = terms_of("content_style", dim=4, hidden=8, style_dim=2)
    method.eval()
    with torch.inference_mode():
        x = scaled_features(data.inputs)
        queries, photos = x[:3], x[12:16]
        a, b = method.embed(data.inputs[[0, 1, 2, 12, 13, 14, 15]], torch.tensor([False] * 3 + [True] * 4)).split(
            [3, 4]
        )
        for i in range(3):
            for j in range(4):
                fake = method.from_content.photo(method.content.sketch(queries[i : i + 1])) + method.from_style.photo(
                    method.style.photo(photos[j : j + 1])
                )
                torch.testing.assert_close((fake - photos[j]).norm(), (a[i] - b[j]).norm())


def test_content_and_styles_losses_by_hand():
    method, data, terms = terms_of("content_style", dim=4, hidden=8, style_dim=2)
    x = scaled_features(data.inputs)
    c = torch.cat([method.content.sketch(x[:12]), method.content.photo(x[12:])])
    s = torch.cat([method.style.sketch(x[:12]), method.style.photo(x[12:])])
    of_style = [method.from_style.sketch(s[:12]), method.from_style.photo(s[12:])]
    from_itself = torch.cat(
        [method.from_content.sketch(c[:12]) + of_style[0], method.from_content.photo(c[12:]) + of_style[1]]
    )
    other = torch.cat(
        [method.from_content.sketch(c[12:]) + of_style[0], method.from_content.photo(c[:12]) + of_style[1]]
    )
    assert terms["self"] == pytest.approx((array(from_itself - x) ** 2).mean()) and terms["cross"] == pytest.approx(
        (array(other - x) ** 2).mean()
    )
    assert terms["class"] == pytest.approx(cross_entropy(array(method.classifier(c)), data.labels.numpy()))
    p = 1 / (1 + np.exp(-array(method.domain(c))[:, 0]))
    assert terms["domain"] == pytest.approx(-np.log(np.where(data.photos.numpy(), p, 1 - p)).mean())


def test_xus_loss_by_hand():
    method, data, terms = terms_of("xu2019", hidden=8, noise_dim=3)
    f = method.encode(data.inputs, data.photos)
    y = data.labels.numpy()
    semantic = method.to_semantic(f[:12])
    noise = torch.from_numpy(np.random.default_rng(0).standard_normal((12, 3)))
    made = array(method.generate(torch.cat([semantic, noise], 1)))
    near, far = (1 - cosines(made, array(f[part])) for part in (slice(12, 24), slice(24, 36)))
    assert terms["triplet"] == pytest.approx(np.maximum(0.2 + near - far, 0).mean())
    assert terms["semantic"] == pytest.approx(
        (1 - cosines(array(semantic), array(method.class_vectors)[y[:12]])).mean()
    )
    classified = np.vstack([made, array(f[12:])]) @ array(method.classifier.weight).T + array(method.classifier.bias)
    assert terms["class"] == pytest.approx(cross_entropy(classified, np.concatenate([y[:12], y[12:]])))


def test_a_photo_of_xu_is_itself_and_a_sketch_what_is_made_without_noise():
    method, data, _ = terms_of("xu2019", hidden=8, noise_dim=3)
    got = method.embed(data.inputs[[0, 12]], torch.tensor([False, True]))
    semantic = method.to_semantic(method.encode.sketch(data.inputs[:1]))
    torch.testing.assert_close(got[:1], method.generate(torch.cat([semantic, torch.zeros(1, 3, dtype=D)], 1)))
    torch.testing.assert_close(got[1:], method.encode.photo(data.inputs[12:13]))


def test_sketchgcns_loss_by_hand_and_retrieval_needs_no_graph():
    method, data, terms = terms_of("sketchgcn", dim=5, latent=2)
    h = array(method.encode(data.inputs, data.photos))
    y, s = data.labels.numpy(), array(method.class_vectors)[data.labels.numpy()]
    s = s / np.linalg.norm(s, axis=1, keepdims=True)

    def dense(x, layer):
        return x @ array(layer.weight).T + array(layer.bias)

    edges = h @ array(method.edge.weight).T
    edges /= np.linalg.norm(edges, axis=1, keepdims=True)
    graph = softmax(10 * edges @ edges.T)
    mixed = graph @ dense(np.maximum(graph @ dense(np.hstack([h, s]), method.convolve[0]), 0), method.convolve[1])
    assert terms["feature"] == pytest.approx((1 - cosines(h, mixed)).mean())
    assert terms["class"] == pytest.approx(sum(cross_entropy(dense(v, method.classifier), y) for v in (h, mixed)))
    out = dense(np.hstack([mixed, s]), method.variational)
    mean, log_variance = out[:, :2], out[:, 2:]
    assert terms["kl"] == pytest.approx(0.01 * ((mean**2 + np.exp(log_variance) - log_variance - 1) / 2).sum(1).mean())
    z = mean + np.random.default_rng(0).standard_normal(mean.shape) * np.exp(log_variance / 2)
    made = dense(np.maximum(dense(np.hstack([z, h]), method.regenerate[0]), 0), method.regenerate[2])
    assert terms["semantic"] == pytest.approx((1 - cosines(made, s)).mean())
    torch.testing.assert_close(
        method.embed(data.inputs[:1], data.photos[:1]), method.encode(data.inputs, data.photos)[:1]
    )


def test_oceans_loss_by_hand():
    method, data, terms = terms_of("ocean", dim=5, hidden=8)
    y = data.labels.numpy()
    g = method.encoder(data.inputs)
    v = array(torch.cat([g, data.photos[:, None].to(g)], 1)) @ array(method.conditioned.weight).T + array(
        method.conditioned.bias
    )
    s = array(method.class_vectors)[y]
    s = torch.from_numpy(s / np.linalg.norm(s, axis=1, keepdims=True))
    semantic, visual = method.to_semantic(torch.from_numpy(v)), method.to_visual(s)
    head = array(method.classifier.weight).T, array(method.classifier.bias)
    assert terms["class"] == pytest.approx(sum(cross_entropy(x @ head[0] + head[1], y) for x in (v, array(visual))))
    assert terms["semantic"] == pytest.approx((1 - cosines(array(semantic), array(s))).mean())
    assert terms["cycle"] == pytest.approx(
        (1 - cosines(array(method.to_visual(semantic)), v)).mean()
        + (1 - cosines(array(method.to_semantic(visual)), array(s))).mean()
    )


# ------------------------------------------------------------------------------------------------------------- contract


def test_each_sample_goes_through_its_sides_function():
    x = torch.arange(4.0)[:, None]
    got = by_side(x, torch.tensor([True, False, True, False]), lambda rows: rows + 10, lambda rows: rows + 100)
    assert got[:, 0].tolist() == [100, 11, 102, 13]


def test_layers_of_a_network():
    assert [type(layer).__name__ for layer in mlp(3, 4, 5, norm=True, slope=0.2)] == [
        "Linear",
        "BatchNorm1d",
        "LeakyReLU",
        "Linear",
    ]
    assert len(mlp(3, 4)) == 1


@pytest.mark.parametrize(
    "values, message",
    [
        ({"method": "cvae", "regime": "finetune"}, "cvae is defined on frozen features; set regime to 'frozen'"),
        ({"method": "sake", "features": {"method": "simple"}}, "sake learns from the trunk's ImageNet classifier"),
    ],
)
def test_what_a_method_cannot_be_fed_is_said(values, message):
    with pytest.raises(OptionError, match=message):
        TrainSpec.from_mapping(values)
