"""Siamese, SaN, CMT and STRAD's earlier code against the numbers of Jiangtong-Li/ZS-SBIR."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from authors import close, golden, uncovered
from test_systems import terms_of
from torch import nn
from torch.nn import functional

from ucdr_core.chapters.strad.rows import EARLIER_CODE
from ucdr_core.methods import METHODS, cmt, san, siamese, strad
from ucdr_core.methods.base import Batch
from ucdr_core.methods.losses import cosine_distance, kl_to_standard_normal, weight_norms
from ucdr_core.retrieval import evaluate, metrics

NOT_USED = {"d3shape.": "of shapes in three dimensions, which the book does not search"}


def load(module, arrays, prefix, names):
    """Sets values of a module: {their name below the prefix: ours}."""
    state = module.state_dict()
    assert set(names.values()) <= set(state)
    module.load_state_dict({**state, **{ours: arrays.tensor(prefix + theirs) for theirs, ours in names.items()}})
    return module


def of_layers(theirs_to_ours, *values):
    """{their name of a value: ours} of layers that have these values each."""
    return {f"{theirs}_{v}": f"{ours}.{v}" for theirs, ours in theirs_to_ours.items() for v in values}


# ------------------------------------------------------------------------------------------------------------- Siamese


@golden("jtli", "siamese.")
def test_siameses_losses(arrays):
    same = arrays.tensor("siamese.in.label_1_same")[:, 0] == 1
    table = arrays["siamese.out.table_losstype_disttype_margin_loss_sim_dissim"]
    for kind, of_cosine, margin, *theirs in table:
        form = ("hinge", "exponential")[int(kind)]
        sketch, image = (arrays.tensor(f"siamese.in.{name}", gradient=True) for name in ("sketch", "image"))
        d = (functional.cosine_similarity if of_cosine else functional.pairwise_distance)(sketch, image)
        loss = siamese.contrastive(d, same, form, margin)
        alike, unlike = (
            siamese.contrastive(d[pairs], same[pairs], form, margin) * pairs.double().mean() for pairs in (same, ~same)
        )
        close(torch.stack([loss, alike, unlike]), theirs)
        if not of_cosine and margin > 1:
            loss.backward()
            close(sketch.grad, arrays[f"siamese.grad.sketch_loss{kind:.0f}_l2_margin{margin:.0f}"])
            close(image.grad, arrays[f"siamese.grad.image_loss{kind:.0f}_l2_margin{margin:.0f}"])
    script = METHODS["siamese"].Options()
    d = functional.pairwise_distance(sketch, image)
    close(siamese.contrastive(d, same, script.form, script.scale), arrays["siamese.out.loss_as_run_by_script"])


@golden("jtli", "reg.", unused={"reg.out.l1": "the code computes this penalty and does not use it"})
def test_the_regulariser_sums_the_norms_of_weights(arrays):
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)).double()
    load(module, arrays, "reg.w.", of_layers({"0": "0", "1": "1", "2": "2"}, "weight", "bias"))
    penalty = METHODS["siamese"].Options().weight_norms * weight_norms(module)
    close(penalty, arrays["reg.out.l2_weight1e-4"])
    penalty.backward()
    close(module[0].weight.grad, arrays["reg.grad.l2.0_weight"])


@pytest.mark.parametrize("name", ["siamese", "san", "cmt"])
def test_the_regulariser_is_a_term_of_the_loss(name):
    options = {"san": {"width": 4, "map_px": 1}}.get(name, {})
    method, _, terms = terms_of(name, weight_norms=0.5, **options)
    norms = [p.detach().norm().item() for key, p in method.named_parameters() if key.endswith("weight")]
    assert terms["norms"] == pytest.approx(0.5 * sum(norms)) and len(norms) > 1


# ----------------------------------------------------------------------------------------------------------------- SaN


def sketch_a_net(**options):
    cls = san.SaN
    return cls(nn.Sequential(), 3, torch.zeros(2, 4), cls.Options(ground="white", **options)).double().eval()


@golden("jtli", "san.out.layer", "san.out.num", "san.out.before", "san.out.embedding")
def test_sans_network(arrays):
    method = sketch_a_net(initial_weights="torch")
    with torch.no_grad():
        for number, value in enumerate(method.network.parameters()):
            place = torch.arange(value.numel(), dtype=torch.float64).view(value.shape)
            fan_in = value[0].numel()
            weight = (0.37 * place + number).sin() * (2 / fan_in) ** 0.5
            value.copy_(weight if value.ndim > 1 else 0.01 * (0.11 * place + number).cos())
        place = torch.arange(2 * 3 * 225 * 225, dtype=torch.float64).view(2, 3, 225, 225)
        pictures = 0.5 + 0.5 * (0.013 * place).sin() * (0.0007 * place).cos()
        flat = method.network(pictures)
        close(flat, arrays["san.out.before_l2norm_formula_weights"])
        close(method.embed(pictures, torch.zeros(2, dtype=torch.bool)), arrays["san.out.embedding_formula_weights"])
        close(method.embed(pictures, torch.ones(2, dtype=torch.bool)), arrays["san.out.embedding_formula_weights"])
    close(sum(value.numel() for value in method.network.parameters()), arrays["san.out.num_parameters"])

    def shapes(x):
        result = [x.shape]
        for layer in method.network:
            x = layer(x)
            result.append(x.shape)
        return np.array([(*shape, 0, 0)[:4] for shape in (*result, san.unit(x).shape)])

    kinds = {"Conv2d": "conv", "ReLU": "relu", "MaxPool2d": "maxpool", "Flatten": "flatten"}
    names = ["input", *(kinds[type(layer).__name__] for layer in method.network), "l2norm"]
    assert [name.rstrip("1234567") for name in arrays["san.out.layer_names"][:-1]] == names[:-1] and names[
        -1
    ] == "l2norm"
    with torch.no_grad():
        close(shapes(torch.zeros(2, 3, 225, 225, dtype=torch.float64)), arrays["san.out.layer_shapes_batch2_225"])
        close(shapes(torch.zeros(1, 3, 256, 256, dtype=torch.float64))[1:], arrays["san.out.layer_shapes_batch1_256"])


@golden("jtli", "san.in.", "san.out.l2norm", "san.out.table", "san.grad.")
def test_sans_loss(arrays):
    close(san.unit(arrays.tensor("san.in.l2norm_x")), arrays["san.out.l2norm"])
    names = ("sketch", "image_pos", "image_neg")
    for margin, theirs in arrays["san.out.table_margin_loss"]:
        features = [arrays.tensor(f"san.in.{name}", gradient=True) for name in names]
        loss = san.squared_triplet_loss(*features, margin)
        close(loss, theirs)
        if margin == 0.3:
            loss.backward()
            for name, feature in zip(names, features):
                close(feature.grad, arrays[f"san.grad.{name}_margin0.3"])


def test_strokes_stand_on_zero_by_default():
    """White paper becomes 0, a black stroke 1; nothing changes with the ground that a picture has."""
    seen = []
    method = san.SaN(nn.Sequential(), 3, torch.zeros(2, 4), san.SaN.Options(width=4, map_px=1)).double()
    method.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    picture = torch.ones(1, 3, 64, 64, dtype=torch.float64)
    picture[..., 20] = 0
    method.embed(picture, torch.zeros(1, dtype=torch.bool))
    close(seen[0], 1 - picture.numpy())


# ----------------------------------------------------------------------------------------------------------------- CMT


@golden("jtli", "cmt.in.feature", "cmt.in.word", "cmt.out.loss", "cmt.grad.")
def test_cmts_loss(arrays):
    feature = arrays.tensor("cmt.in.feature", gradient=True)
    loss = cmt.regression_loss(feature, arrays.tensor("cmt.in.word_vector"))
    close(loss, arrays["cmt.out.loss"], single=True)
    loss.backward()
    close(feature.grad, arrays["cmt.grad.feature"], single=True)


@golden("jtli", "cmt.w.", "cmt.in.image", "cmt.out.forward")
def test_cmts_network(arrays):
    method = cmt.CMT(nn.Sequential(), 27, torch.zeros(2, 5), cmt.CMT.Options(hidden=4)).double()
    network, x = method.to_semantic.sketch, arrays.tensor("cmt.in.image").flatten(1)
    layers = of_layers({"t1": "0", "bn1": "1", "t2": "3"}, "weight", "bias")
    statistics = of_layers({"bn1": "1"}, "running_mean", "running_var")
    load(network, arrays, "cmt.w.sketch_net.", {**layers, **statistics})
    close(network.eval()(x), arrays["cmt.out.forward_eval"])
    close(network.train()(x), arrays["cmt.out.forward_train"])


def test_the_paper_has_no_batch_normalisation():
    layers = cmt.CMT(nn.Sequential(), 8, torch.zeros(2, 5), cmt.CMT.Options(batch_norm=False)).to_semantic.sketch
    assert [type(layer) for layer in layers] == [nn.Linear, nn.Tanh, nn.Linear]


@golden("jtli", "dsh.")
def test_the_penalty_of_deep_sketch_hashing_is_cmts_loss_of_both_sides(arrays):
    pairs = [(arrays.tensor(f"dsh.in.{feature}"), arrays.tensor(f"dsh.in.{code}")) for feature, code in DSH]
    close(sum(cmt.regression_loss(*pair) for pair in pairs), arrays["dsh.out.loss_gamma1"])


DSH = (("sk_feat", "bs"), ("im_feat", "bi"))

# ----------------------------------------------------------------------------------------------------- STRAD's earlier


@golden("jtli", "triplet.")
def test_the_first_alignment_is_the_hinge_of_pairs(arrays):
    sketch, near, far = (arrays.tensor(f"san.in.{name}") for name in ("sketch", "image_pos", "image_neg"))
    for margin in (10, 1):
        close(pair_hinge(sketch, near, far, margin), arrays[f"triplet.out.loss_margin{margin}"])


def pair_hinge(sketch, near, far, margin):
    """Siamese's hinge on as many pairs of one class as of two."""
    d = torch.cat([functional.pairwise_distance(photo, sketch) for photo in (near, far)])
    return siamese.contrastive(d, torch.arange(len(d)) < len(sketch), "hinge", margin)


@golden("jtli", "ranking.")
def test_the_ranking_loss(arrays):
    names = {"sketch": "san", "image_pos": "san", "image_unpaired": "ranking", "image_neg": "san"}
    for m1, m2 in ((0.0, 10.0), (1.0, 10.0), (0.0, 0.5), (5.0, 10.0)):
        features = [arrays.tensor(f"{group}.in.{name}", gradient=True) for name, group in names.items()]
        loss = strad.ranking_loss(*features, m1, m2)
        close(loss, arrays[f"ranking.out.loss_m1_{m1}_m2_{m2}"])
        if (m1, m2) == (0.0, 10.0):
            loss.backward()
            for name, feature in zip(names, features):
                close(feature.grad, arrays[f"ranking.grad.m1_0_m2_10.{name}"])


ENCODERS = {
    "sketch_encoder": "structure_sketch",
    "image_encoder_S": "structure_photo",
    "image_encoder_A": "appearance",
}
DECODERS = {"sketch_decoder": "to_sketch", "image_decoder": "to_image"}


def earlier_strad(arrays, **options):
    """Ours with the authors' weights; the switches are those that the audit measures."""
    cls = strad.STRAD
    method = cls(nn.Sequential(), 8, torch.zeros(2, 3), cls.Options(hidden=6, structure=4, samples=4, **options))
    encoders = {f"{theirs}_encoder_{a}": f"{ours}.{b}" for theirs, ours in ENCODERS.items() for a, b in LAYERS}
    norms = {theirs: ours for theirs, ours in encoders.items() if theirs.endswith(("_1", "_5"))}
    decoders = {f"{theirs}_decoder_{a}": f"{ours}.{a}" for theirs, ours in DECODERS.items() for a in (0, 2)}
    names = of_layers({**encoders, **decoders}, "weight", "bias")
    load(method.double(), arrays, "strad.w.", {**names, **of_layers(norms, "running_mean", "running_var")})
    heads = ("mean", "logvar")
    for value in ("weight", "bias"):
        parts = [arrays.tensor(f"strad.w.variational_sample_{head}_encoder_0_{value}") for head in heads]
        getattr(method.variational, value).data = torch.cat(parts)
    return method


LAYERS = ((0, 0), (1, 1), (4, 3), (5, 4))  # of an encoder, in their numbers and in ours: they have dropout between


@golden("jtli", "strad.")
def test_strads_earlier_code(arrays):
    method = earlier_strad(arrays, **EARLIER_CODE)
    given = {}

    def keep(*names):
        """Notes what a module gives, call by call."""
        left = list(names)

        def hook(module, inputs, output):
            output.retain_grad()
            given[left.pop(0)] = output

        return hook

    hooks = [
        method.get_submodule(module).register_forward_hook(keep(*names))
        for module, names in {
            "structure_sketch": ["z_sketch"],
            "structure_photo": ["z_image_pair_S", "z_image_unpair_S", "z_image_n_S"],
            "appearance": ["z_image_A"],
            "variational": ["variational"],
            "to_image": ["image_translate"],
            "to_sketch": ["sketch_translate"],
        }.items()
    ]
    blocks = [arrays.tensor(f"strad.in.{name}") for name in ("sketch", "image_pair", "image_unpair", "image_n")]
    photos = torch.arange(4).repeat_interleave(len(blocks[0])) > 0
    random = SimpleNamespace(standard_normal=lambda shape: arrays["strad.in.eps"])
    terms = method.train().losses(Batch(torch.cat(blocks), photos.long(), photos, photos.long()), random)
    for hook in hooks:
        hook.remove()

    mean, log_variance = given["variational"].chunk(2, dim=1)
    close(mean, arrays["strad.out.mean"])
    close(log_variance, arrays["strad.out.logvar"])
    for name in set(given) - {"variational"}:
        close(given[name], arrays[f"strad.out.{name}"])
    close(terms["kl"], arrays["strad.out.loss_kl"])
    close(terms["ranking"], arrays["strad.out.loss_triplet"])
    close(terms["im"], arrays["strad.out.loss_image"])
    close(terms["sk"] / 10, arrays["strad.out.loss_sketch"])
    total = sum(terms.values())
    close(total, arrays["strad.out.total_image_10sketch_triplet_kl"])

    total.backward()
    of_mean, of_log_variance = given["variational"].grad.chunk(2, dim=1)
    close(of_mean, arrays["strad.grad.total.mean"])
    close(of_log_variance, arrays["strad.grad.total.logvar"])
    for name in set(given) - {"variational", "z_image_A"}:
        close(given[name].grad, arrays[f"strad.grad.total.{name}"])

    # What the code computes and leaves out.
    method = earlier_strad(arrays, **{**EARLIER_CODE, "weight_or": 1.0})
    terms = method.train().losses(Batch(torch.cat(blocks), photos.long(), photos, photos.long()), random)
    close(terms["or"], arrays["strad.out.loss_orthogonality"])

    query, method = arrays.tensor("strad.in.query_sketch"), earlier_strad(arrays, **EARLIER_CODE).eval()
    made = []
    for number, sketch in enumerate(query.split(1)):
        method.z = arrays.tensor("strad.in.query_eps")[:, number]
        made.append(method.feature("generated image", sketch))
    close(torch.cat(made), arrays["strad.out.inference_generation_eval"])
    for side in ("sketch", "image"):
        close(method.feature(f"{side} structure", query), arrays[f"strad.out.inference_structure_{side}_eval"])


NO_WORDS = "the first version predicts word vectors, which neither the paper nor the code after it does"


@golden("jtli", "strad0.", unused={"strad0.out.loss_seman": NO_WORDS, "strad0.out.total": NO_WORDS})
def test_the_losses_of_strads_first_version(arrays):
    """Its networks are no longer the method's: they are made here, so that the losses have their inputs."""

    def network(name, *layers):
        """Linear, leaky ReLU and batch normalisation for each (number of the linear layer, of the normalisation)."""
        prefix, parts, names = f"strad0.w.{name}_encoder_", [], {}
        for linear, norm in layers or ((0, 2), (4, 6), (7, 9)):
            outputs, inputs = arrays[f"{prefix}{linear}_weight"].shape
            names |= {str(linear): str(len(parts)), str(norm): str(len(parts) + 2)}
            parts += [nn.Linear(inputs, outputs), nn.LeakyReLU(0.01), nn.BatchNorm1d(outputs)]
        return load(nn.Sequential(*parts).double(), arrays, prefix, of_layers(names, "weight", "bias"))

    def head(name, x):
        weight, bias = (arrays.tensor(f"strad0.w.variational_sample_{name}_encoder_0_{v}") for v in ("weight", "bias"))
        return functional.linear(x, weight, bias).tanh()

    sketch, paired, negative = (arrays.tensor(f"strad.in.{name}") for name in ("sketch", "image_pair", "image_n"))
    structure, of_photo, appearance = (network(name) for name in ENCODERS)
    st_sk, st_im, ap_im = structure(sketch), of_photo(paired), appearance(paired)
    mean, log_variance = head("mean", ap_im), head("logvar", ap_im)
    z = mean + arrays.tensor("strad.in.eps") * (log_variance / 2).exp()
    made = network("image_decoder")(torch.cat([z, st_sk], dim=1))
    close(strad.reconstruction(made, paired, "paper"), arrays["strad0.out.loss_image"])
    close(strad.reconstruction(network("sketch_decoder")(st_im), sketch, "paper"), arrays["strad0.out.loss_sketch"])
    close(kl_to_standard_normal(mean, log_variance) * len(mean), arrays["strad0.out.loss_kl"])
    close(pair_hinge(st_sk, st_im, of_photo(negative), 10), arrays["strad0.out.loss_triplet"])
    close(1 - cosine_distance(ap_im, st_im).mean(), arrays["strad0.out.loss_orthogonality"])


# ---------------------------------------------------------------------------------------------------------- evaluation


@golden("jtli", "eval.", unused={"eval.out.min_rule": "the least of two distances is no distance of embeddings"})
def test_the_fused_distance_and_its_metrics(arrays, monkeypatch):
    monkeypatch.setattr(metrics, "CUT", 20)  # the authors' rank for this small gallery, 200 in the paper
    spaces = ("structure", "generation")
    queries, gallery = ([arrays.tensor(f"eval.in.{side}_{space}") for space in spaces] for side in ("query", "gallery"))
    for space, asked, searched in zip(spaces, queries, gallery):
        distances = torch.stack([cosine_distance(searched, one[None].expand_as(searched)) for one in asked], dim=1)
        close(distances, arrays[f"eval.out.dist_{space}"])
    labels = [arrays[f"eval.in.{side}_class"] for side in ("query", "gallery")]
    precision, average = [], []
    for weight in arrays["eval.out.lambda"]:
        weights = torch.tensor([weight, 1 - weight])
        embedded = [strad.fused(features, weights).numpy() for features in (queries, gallery)]
        scores = evaluate(embedded[0], labels[0], embedded[1], labels[1], "cosine", precision_at=(20,))
        precision.append(scores["prec_20"])
        average.append(scores["map_200_k"])
    close(np.array(precision), arrays["eval.out.precision_at_20"])
    close(np.array(average), arrays["eval.out.map_at_20_divided_by_20"])


def test_every_array_is_compared():
    assert not uncovered("jtli", globals(), NOT_USED)
