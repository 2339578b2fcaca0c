"""ZSIH against the numbers of ymcidence/Zero-Shot-Sketch-Image-Hashing: theirs in single precision, ours in double."""

import numpy as np
import torch
from authors import close, golden, uncovered
from torch import nn

from ucdr_core.methods import METHODS, zsih
from ucdr_core.retrieval import evaluate
from ucdr_core.retrieval.ranking import rank

NOT_USED: dict[str, str] = {}


def released(arrays):
    """(method with the authors' weights, {their name of a layer: ours})."""
    channels, hidden = arrays["w.fc_im.kernel"].shape
    bits, fusion = arrays["w.enc_im.kernel"].shape[1], arrays["w.kron.fc_a.kernel"].shape[1]
    options = zsih.ZSIH.Options(bits=bits, hidden=hidden, fusion=fusion)
    method = zsih.ZSIH(nn.Sequential(), channels, arrays.tensor("in.semantic"), options).double()
    layers = {
        "fc_im": method.encode.photo[0],
        "enc_im": method.encode.photo[2],
        "fc_sk": method.encode.sketch[0],
        "enc_sk": method.encode.sketch[2],
        "kron.fc_a": method.project[0],
        "kron.fc_b": method.project[1],
        "gcn_1": method.convolve[0],
        "gcn_2": method.convolve[1],
        "dec_mean": method.decode,
        "dec_var": method.decode_variance,
    }
    with torch.no_grad():
        for name, layer in layers.items():
            layer.weight.copy_(arrays.tensor(f"w.{name}.kernel").T)
            layer.bias.copy_(arrays.tensor(f"w.{name}.bias"))
    return method, layers


@golden("zsih", "w.", "in.", "out.", "grad.")
def test_the_networks_and_the_four_terms(arrays):
    method, layers = released(arrays)
    sketch, photo, s = (arrays.tensor(f"in.{name}").double() for name in ("sketch_feat", "image_feat", "semantic"))
    outputs = method.outputs(sketch, photo, s)
    tensors = {
        "enc_im": outputs.photo,
        "enc_sk": outputs.sketch,
        "code_logits": outputs.logits,
        "codes": outputs.codes,
        "dec_mean": outputs.decoded,
    }
    for name, tensor in tensors.items():
        close(tensor, arrays[f"out.{name}"], single=True)
        tensor.retain_grad()
    close(outputs.logits.sigmoid(), arrays["out.code_prob"], single=True)
    close(method.decode_variance(outputs.codes), arrays["out.dec_var"], single=True)
    target = method.targets(outputs)
    close(target, arrays["out.enc_target"], single=True)
    wrong = [((alone > 0.5) != target.bool()).sum() for alone in (outputs.photo, outputs.sketch)]
    close(torch.stack(wrong), arrays["out.bits_differing_image_sketch"])

    scale = method.options.graph_scale
    close(zsih.adjacency(s, scale), arrays["out.adjacency"], single=True)
    close(zsih.semantic_graph(s, scale), arrays["out.laplacian"], single=True)
    fused = zsih.kronecker(method.project[0](photo).relu(), method.project[1](sketch).relu())
    close(fused, arrays["out.kronecker"], single=True)

    terms = method.terms(outputs, s)
    close(terms["semantic"], arrays["out.semantic_term"], single=True)
    close(terms["entropy"], arrays["out.entropy_term"], single=True)
    close(terms["codes"], arrays["out.code_term_weighted"], single=True)
    for name, alone in (("image", outputs.photo), ("sketch", outputs.sketch)):
        close(zsih.half_squares(alone - target), arrays[f"out.code_term_{name}_unweighted"], single=True)
    close(terms["regulariser"], arrays["out.regulariser"], single=True)
    total = sum(terms.values())
    close(total, arrays["out.total"], single=True)

    total.backward(retain_graph=True)
    for name, tensor in tensors.items():
        close(tensor.grad, arrays[f"grad.total.{name}"], single=True)
    for name, layer in layers.items():
        close(layer.weight.grad.T, arrays[f"grad.total.w.{name}.kernel"], single=True)
        close(layer.bias.grad, arrays[f"grad.total.w.{name}.bias"], single=True)
    for name in ("entropy", "semantic"):
        (gradient,) = torch.autograd.grad(terms[name], outputs.logits, retain_graph=True)
        close(gradient, arrays[f"grad.{name}_term.code_logits"], single=True)


@golden("zsih", "kron.")
def test_the_kronecker_product(arrays):
    close(zsih.kronecker(arrays.tensor("kron.in.a"), arrays.tensor("kron.in.b")), arrays["kron.out.product"], True)


@golden("zsih", "metric.")
def test_hamming_ranking(arrays):
    queries, gallery = arrays["metric.in.query_bits"], arrays["metric.in.gallery_bits"]
    query_labels, gallery_labels = arrays["metric.in.query_class"], arrays["metric.in.gallery_class"]
    hamming = arrays["metric.out.hamming"]
    close(torch.cdist(*map(torch.from_numpy, (queries.astype(float), gallery.astype(float)))).square(), hamming)
    # Their order is one of those that ties allow; ours is another.
    order = arrays["metric.out.order"]
    ours = rank(queries.astype(float), gallery.astype(float), METHODS["zsih"].distance)
    for ranking in (order, ours):
        assert (np.diff(np.take_along_axis(hamming, ranking, 1)) >= 0).all()
    # In their order, where no two items tie, the average precision is theirs.
    places = np.argsort(order, 1).astype(float)
    scores = [
        evaluate([[0.0]], [label], row[:, None], gallery_labels)["map_all"]
        for label, row in zip(query_labels, places)
        if label in gallery_labels
    ]
    close(np.mean(scores), arrays["metric.out.map"])


def test_every_array_is_compared():
    assert not uncovered("zsih", globals(), NOT_USED)
