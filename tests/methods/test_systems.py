"""The systems that the papers compare with: their losses and solutions against computations that share nothing with
them.
"""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.linalg import solve_sylvester
from test_methods import batch, inputs_of, make
from torch import nn

from ucdr_core.data.manifest import DataError
from ucdr_core.methods import (
    METHODS,
    OptionError,
    backbones,
    cmt,
    devise,
    eszsl,
    sae,
    san,
    sem_pcyc,
    semantics,
    siamese,
    zsih,
)
from ucdr_core.methods.base import by_side, mlp, scaled_features
from ucdr_core.methods.losses import least_squares_game
from ucdr_core.methods.sake import ConditionedSqueeze
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
    method, data, terms = terms_of("sake", dim=16)
    g = array(data.inputs.mean((2, 3)))
    target = softmax(g @ array(method.teacher_weight).T + array(method.teacher_bias))
    h = array(method.hidden(data.inputs, data.photos))
    student = np.log(softmax(h @ array(method.student.weight).T + array(method.student.bias)))
    photos = data.photos.numpy()
    assert terms["teacher"] == pytest.approx(-(target * student)[photos].sum(1).mean())
    assert terms["ce"] == pytest.approx(
        cross_entropy(h @ array(method.classifier.weight).T + array(method.classifier.bias), data.labels.numpy())
    )


def test_sake_starts_as_the_imagenet_classifier():
    """With D as large as the classifier's rank, the student says at the start what the teacher says of the adapter's
    features.
    """
    method, data, _ = terms_of("sake", dim=24)
    g = method.excitation(method.encoder(data.inputs))
    with torch.no_grad():
        method.project.bias.zero_()
    torch.testing.assert_close(
        method.student(method.hidden(data.inputs, data.photos)),
        nn.functional.linear(g, method.teacher_weight, method.teacher_bias),
    )


def test_the_indicator_tells_sketches_from_photos_once_it_has_learned():
    method, data, _ = terms_of("sake", dim=16)
    sketch, photo = (torch.full_like(data.photos, value) for value in (False, True))
    # Its weights start at 0.
    torch.testing.assert_close(method.embed(data.inputs, sketch), method.embed(data.inputs, photo))
    with torch.no_grad():
        method.excitation.squeeze.weight[:, -1] = 3
        method.excitation.excite.weight.normal_()
    assert not torch.allclose(method.embed(data.inputs, sketch), method.embed(data.inputs, photo))
    assert isinstance(make("sake", indicator=False).excitation, nn.Identity)


def test_in_a_squeeze_and_excitation_network_the_indicator_enters_every_block():
    from timm.models.senet import SEModule

    upper = nn.Sequential(nn.Conv2d(3, 24, 3), SEModule(24, 4), nn.Conv2d(24, 24, 1), SEModule(24, 4))
    plain = [block.fc1.weight.clone() for block in (upper[1], upper[3])]
    method = make("sake", upper=upper, dim=16)
    data = batch(method, images=True)
    assert [type(upper[i].fc1) for i in (1, 3)] == [ConditionedSqueeze] * 2 and isinstance(
        method.excitation, nn.Identity
    )
    x = torch.rand(2, 24, 1, 1, dtype=D)
    method.indicator.photos = torch.tensor([[0.0], [1.0]], dtype=D)
    with torch.no_grad():
        upper[1].fc1.weight.fill_(0.5)
    out = upper[1].fc1(x)
    by_hand = nn.functional.conv2d(x, plain[0].double(), upper[1].fc1.squeeze.bias)
    torch.testing.assert_close(out[0], by_hand[0])
    torch.testing.assert_close(out[1], by_hand[1] + 0.5)
    assert not any("before" in name for name in method.state_dict())  # the teacher is not saved with the weights
    before = method.teacher_logits(data.inputs, data.labels)
    with torch.no_grad():
        upper[0].weight.add_(1)
    torch.testing.assert_close(method.teacher_logits(data.inputs, data.labels), before)


class TinyWordNet:
    """dog and cat are close, stone is far from both; everything of ImageNet is a dog, but the first class is a
    stone.
    """

    def synsets(self, word, pos):
        return (
            [SimpleNamespace(name=word, path_similarity=lambda other, word=word: self.likeness(word, other.name))]
            if word in ("dog", "cat", "stone")
            else []
        )

    def synset_from_pos_and_offset(self, pos, offset):
        return SimpleNamespace(name="stone" if offset == 1440764 else "dog")  # n01440764, the tench, comes first

    def likeness(self, a, b):
        return 1.0 if a == b else 0.5 if {a, b} == {"dog", "cat"} else None


def test_the_teacher_is_shifted_by_wordnet_similarity():
    got = semantics.imagenet_similarity(["cat", "big_stone", "hound"], {"hound": "dog"}, TinyWordNet())
    assert got.shape == (3, 1000)
    np.testing.assert_array_equal(got[:, :2], [[0.0, 0.5], [1.0, 0.0], [0.0, 1.0]])
    with pytest.raises(DataError, match="'zzz' has no noun sense"):
        semantics.imagenet_similarity(["zzz"], None, TinyWordNet())
    method = make("sake", dim=16, weight_similarity=0.3)
    data = batch(method)
    plain = method.teacher_logits(data.inputs, data.labels)
    method.similarity = torch.rand(6, 30, dtype=D)
    torch.testing.assert_close(
        method.teacher_logits(data.inputs, data.labels), plain + 0.3 * method.similarity[data.labels]
    )


def test_without_wordnet_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "nltk.corpus", None)
    with pytest.raises(DataError, match="pip install nltk"):
        semantics.imagenet_similarity(["dog"])


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
    method, data, terms = terms_of("cvae", hidden=16, latent=3, samples=4, weight_kl=0.5)
    x_sk, x_im = np.split(array(scaled_features(data.inputs)), 2)

    def dense(x, layer):
        return x @ array(layer.weight).T + array(layer.bias)

    e = method.encoder
    out = dense(np.tanh(dense(np.tanh(dense(np.hstack([x_im, x_sk]), e[0])), e[2])), e[4])
    mean, log_variance = out[:, :3], out[:, 3:]
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


def test_each_player_of_the_game_is_moved_by_its_own_loss_alone():
    critic = nn.Linear(2, 1, bias=False).double()
    with torch.no_grad():
        critic.weight.copy_(torch.tensor([[1.0, 2.0]]))
    real, made = torch.tensor([[1.0, 1.0]], dtype=D), torch.tensor([[0.5, 0.0]], dtype=D, requires_grad=True)
    maker, judged = least_squares_game(critic, real, made)
    assert maker.item() == pytest.approx(0.25) and judged.item() == pytest.approx(((3 - 1) ** 2 + 0.5**2) / 2)
    (maker + judged).backward()
    torch.testing.assert_close(made.grad, 2 * (0.5 - 1) * critic.weight.detach())  # not judged's
    torch.testing.assert_close(critic.weight.grad, (2 * (3 - 1) * real + 2 * 0.5 * made.detach()) / 2)  # not maker's
    noisy = least_squares_game(critic, real, made, np.random.default_rng(0), 0.3)[1].item()
    assert noisy != judged.item() and noisy == pytest.approx(judged.item(), rel=0.4)


def test_sem_pcycs_loss_by_hand():
    method, data, terms = terms_of("sem_pcyc", dim=5, hidden=8)
    x, y, photos = scaled_features(data.inputs), data.labels, data.photos
    s = method.class_vectors[y] @ method.compress.weight.T + method.compress.bias
    g = torch.cat([method.to_semantic.sketch(x[:12]), method.to_semantic.photo(x[12:])])
    f = torch.cat([method.from_semantic.sketch(s[:12]), method.from_semantic.photo(s[12:])])
    back_x, back_s = method.from_semantic(g, photos), method.to_semantic(f, photos)
    assert terms["cycle"] == pytest.approx(
        10 * np.abs(array(back_x - x)).mean() + 10 * np.abs(array(back_s - s)).mean()
    )
    assert terms["regression"] == pytest.approx((array(g - s) ** 2).mean())
    head = method.classifier
    assert terms["class"] == pytest.approx(
        10 * sum(cross_entropy(array(v) @ array(head.weight).T + array(head.bias), y.numpy()) for v in (g, back_s))
    )
    codes = array(method.class_vectors) @ array(method.compress.weight).T + array(method.compress.bias)
    restored = codes @ array(method.restore.weight).T + array(method.restore.bias)
    sparsity = np.sqrt((array(method.compress.weight) ** 2).sum(0)).sum()
    assert terms["autoencoder"] == pytest.approx(
        ((restored - array(method.class_vectors)) ** 2).mean() + 1e-3 * sparsity
    )


def test_the_random_classifier_of_the_code_does_not_learn():
    assert (
        not make("sem_pcyc", classifier="random").classifier.weight.requires_grad
        and make("sem_pcyc").classifier.weight.requires_grad
    )


# --------------------------------------------------------------------------------------------------------------- ZSIH


def test_the_fusion_is_a_kronecker_product_and_the_graph_is_normalised():
    random = np.random.default_rng(0)
    u, v, s = random.random((3, 2)), random.random((3, 4)), random.random((3, 5))
    np.testing.assert_allclose(
        zsih.kronecker(torch.from_numpy(u), torch.from_numpy(v)), [np.kron(a, b) for a, b in zip(u, v)]
    )
    a = np.array([[np.exp(-((i - j) ** 2).sum() / 0.1) for j in s] for i in s])
    degree = np.diag(a.sum(1) ** -0.5)
    np.testing.assert_allclose(zsih.semantic_graph(torch.from_numpy(s), 0.1), degree @ a @ degree, atol=1e-6)


def test_bits_are_drawn_and_their_gradient_is_the_probabilitys():
    logits = torch.linspace(-2, 2, 2000, dtype=D)[:, None].requires_grad_()
    bits = zsih.stochastic_bits(logits, np.random.default_rng(0))
    assert torch.isin(bits.detach().round(decimals=9), torch.tensor([0.0, 1.0], dtype=D)).all()
    assert bits[:200].mean() < 0.25 and bits[-200:].mean() > 0.75
    bits.sum().backward()
    torch.testing.assert_close(logits.grad, logits.sigmoid() * (1 - logits.sigmoid()))


def test_zsihs_loss_by_hand():
    method, data, terms = terms_of("zsih", bits=6, hidden=8, fusion=3)

    def dense(x, layer):
        return x @ array(layer.weight).T + array(layer.bias)

    x = array(scaled_features(data.inputs))
    sketch, photo = np.split(x, 2)
    s = array(method.class_vectors[data.labels[:12]])
    graph = array(zsih.semantic_graph(torch.from_numpy(s / np.linalg.norm(s, axis=1, keepdims=True)), 0.1))
    projected = [dense(part, side[0]) for part, side in ((sketch, method.fuse[0]), (photo, method.fuse[1]))]
    projected = [(part - part.mean(0)) / np.sqrt(part.var(0) + 1e-5) for part in projected]
    fused = np.array([np.kron(np.maximum(u, 0), np.maximum(v, 0)) for u, v in zip(*projected)])
    logits = graph @ dense(np.maximum(graph @ dense(fused, method.convolve[0]), 0), method.convolve[1])
    p = 1 / (1 + np.exp(-logits))
    code = (p > np.random.default_rng(0).random(p.shape)).astype(float)
    assert terms["semantic"] == pytest.approx(0.5 * ((dense(code, method.decode) - s) ** 2).mean())
    assert terms["entropy"] == pytest.approx(-(code * np.log(p) + (1 - code) * np.log(1 - p)).mean())
    alone = [
        1 / (1 + np.exp(-dense(np.maximum(dense(part, side[0]), 0), side[2])))
        for part, side in ((sketch, method.encode.sketch), (photo, method.encode.photo))
    ]
    assert terms["codes"] == pytest.approx(0.1 * np.mean([((part - code) ** 2).sum(1).mean() for part in alone]))


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


def test_san_is_sketch_a_net_at_its_own_size():
    """At 225 px the last convolution's map is 7 x 7, which the first fully connected layer sees whole."""
    network = san.SaN(nn.Sequential(), 3, torch.zeros(2, 4), san.SaN.Options()).network
    before = nn.Sequential(*[layer for layer in network[:13] if not isinstance(layer, nn.AdaptiveMaxPool2d)])
    assert before(torch.zeros(1, 3, 225, 225)).shape[1] == 256
    assert network[13].weight.shape == (512, 256, 7, 7) and network(torch.zeros(1, 3, 225, 225)).shape == (1, 256)


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
    method, data, terms = terms_of("cmt", hidden=7)
    x = array(scaled_features(data.inputs))
    sides = [method.to_semantic.sketch, method.to_semantic.photo]
    regressed = np.vstack(
        [
            np.tanh(part @ array(side[0].weight).T + array(side[0].bias)) @ array(side[2].weight).T
            + array(side[2].bias)
            for part, side in zip(np.split(x, 2), sides)
        ]
    )
    assert terms["squares"] == pytest.approx(
        ((regressed - array(method.class_vectors[data.labels])) ** 2).sum(1).mean()
    )
    assert isinstance(method, cmt.CMT)


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
