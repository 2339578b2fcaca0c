"""CVAE against the numbers of ShivaKrishnaM/ZS-SBIR: theirs in single precision, ours in double."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from authors import close, golden, uncovered
from torch import nn
from torch.nn import functional

from ucdr_core.methods import METHODS
from ucdr_core.methods.base import mean_decoded
from ucdr_core.methods.losses import kl_to_standard_normal
from ucdr_core.retrieval import evaluate

NOT_USED: dict[str, str] = {}

DENSE = {  # their names of layers: ours
    "dense": "first.0",
    "dense_1": "second.0",
    "dense_2": "mean.0",
    "dense_3": "log_variance.0",
    "dense_4": "decoder.0",
    "decoder_out": "decoder.2",
    "dense_5": "to_sketch.0",
    "recons_output": "to_sketch.2",
}
NORMS = {"batch_normalization": "first.2", "batch_normalization_1": "second.2"}
GIVEN = {  # their names of tensors: what of ours gives them
    "h1": "first.1",
    "h1_bn": "first.2",
    "h2": "second.1",
    "h2_bn": "second.2",
    "mu": "mean",
    "log_sigma": "log_variance",
    "decoder_hidden": "decoder.1",
    "image_recon": "decoder",
    "sketch_recon": "to_sketch",
}


def released(arrays, **options):
    """Our method with the authors' weights."""
    (channels, hidden), latent = arrays["w.dense.kernel"].shape, len(arrays["w.dense_2.bias"])
    cls = METHODS["cvae"]
    options = cls.Options(hidden=hidden, latent=latent, noise="code", **options)
    method = cls(nn.Sequential(), channels // 2, torch.zeros(2, 3), options).double()
    with torch.no_grad():
        for name, layer in DENSE.items():
            method.get_submodule(layer).weight.copy_(arrays.tensor(f"w.{name}.kernel").T)
            method.get_submodule(layer).bias.copy_(arrays.tensor(f"w.{name}.bias"))
        for name, layer in NORMS.items():
            norm = method.get_submodule(layer)
            norm.weight.copy_(arrays.tensor(f"w.{name}.gamma"))
            norm.bias.copy_(arrays.tensor(f"w.{name}.beta"))
            norm.running_mean.copy_(arrays.tensor(f"w.{name}.moving_mean"))
            norm.running_var.copy_(arrays.tensor(f"w.{name}.moving_variance"))
    return method


def given_by(method):
    """What the method's parts give when it is next called, by the authors' names."""
    given = {}

    def keep(name):
        def hook(module, inputs, output):
            output.retain_grad()
            given[name] = output

        return hook

    for name, module in GIVEN.items():
        method.get_submodule(module).register_forward_hook(keep(name))
    method.decoder.register_forward_pre_hook(lambda _, inputs: given.update(z=inputs[0][:, : method.z.shape[1]]))
    return given


def compare_step(arrays, method, prefix):
    image, sketch = (arrays.tensor(f"in.{name}").double() for name in ("image_feat", "sketch_feat"))
    noise = arrays["in.eps_one_row_for_the_whole_batch"]
    random = SimpleNamespace(standard_normal=lambda shape: noise.astype(float).reshape(shape))
    given = given_by(method)
    terms = method.terms(sketch, image, random)

    for name in (*GIVEN, "z"):
        close(given[name], arrays[f"{prefix}.out.{name}"], single=True)
    recon, made_sketch = given["image_recon"], given["sketch_recon"]
    samples = {
        "recon": [functional.mse_loss(*pair) for pair in zip(recon, image)],
        "kl": [kl_to_standard_normal(*pair) for pair in zip(given["mu"].split(1), given["log_sigma"].split(1))],
        "sketch_mse": [functional.mse_loss(*pair) for pair in zip(made_sketch, sketch)],
    }
    for name, values in samples.items():
        close(torch.stack(values), arrays[f"{prefix}.out.{name}_per_sample"], single=True)
    close(torch.stack(samples["recon"]) + torch.stack(samples["kl"]), arrays[f"{prefix}.out.vae_loss_per_sample"], True)
    total = sum(terms.values())
    close(total, arrays[f"{prefix}.out.total"], single=True)
    weights = arrays["in.loss_weights_decoder_sketchrec"]
    reported = torch.stack([total, terms["image"] + terms["kl"], terms["sketch"] / method.options.weight_sketch])
    close(reported, arrays[f"{prefix}.out.keras_total_decoder_sketchrec"], single=True)
    assert list(weights) == [1, method.options.weight_sketch]

    total.backward()
    for name in ("mu", "log_sigma", "image_recon"):
        close(given[name].grad, arrays[f"{prefix}.grad.total.{name}"], single=True)


@golden("cvae", "in.", "w.", "infer.")
def test_a_step_on_running_statistics_without_dropout(arrays):
    compare_step(arrays, released(arrays).eval(), "infer")


@golden("cvae", "train_nodropout.")
def test_a_step_on_the_batchs_statistics(arrays):
    compare_step(arrays, released(arrays, dropout=0.0).train(), "train_nodropout")


@golden("cvae", "decoder.")
def test_a_sketch_asks_with_the_mean_of_what_is_made(arrays):
    decoder = released(arrays).decoder
    z, sketch = (arrays.tensor(f"decoder.in.{name}").double() for name in ("z", "sketch_feat"))
    made = decoder(torch.cat([z, sketch.expand(len(z), -1)], dim=1))
    close(made, arrays["decoder.out.image_feat"], single=True)
    close(mean_decoded(decoder, z, sketch, block=1)[0], arrays["decoder.out.average_used_as_query"], single=True)


@golden("cvae", "metric.")
def test_precision_and_map_divide_by_200(arrays):
    for hits, precision, average in zip(
        arrays["metric.in.hits_first_200"], arrays["metric.out.precision_200"], arrays["metric.out.map"]
    ):
        ranks = np.arange(len(hits), dtype=float)[:, None]
        scores = evaluate([[0.0]], [1], ranks, hits.astype(int))
        close(scores["prec_200"], precision)
        close(scores["map_200_k"], average)


def test_dropout_follows_the_first_layer_in_training_alone():
    method = METHODS["cvae"](
        nn.Sequential(), 4, torch.zeros(2, 3), METHODS["cvae"].Options(hidden=8, latent=2, samples=2)
    ).double()
    x, seen = torch.randn(500, 4, dtype=torch.float64), []
    method.second.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    method.encode(x, x, np.random.default_rng(0))
    method.eval().encode(x, x, np.random.default_rng(0))
    shares = [(h == 0).double().mean().item() for h in seen]
    assert shares[0] == pytest.approx(0.3, abs=0.03) and shares[1] == 0


def test_the_papers_noise_is_drawn_for_each_sample():
    """Where mu is 0 and sigma 1 the latent is the noise itself."""
    cls, latents = METHODS["cvae"], {}
    for noise in ("paper", "code"):
        options = cls.Options(hidden=8, latent=2, dropout=0.0, samples=2, noise=noise)
        method = cls(nn.Sequential(), 4, torch.zeros(2, 3), options).double()
        for value in (*method.mean.parameters(), *method.log_variance.parameters()):
            nn.init.zeros_(value)
        method.decoder.register_forward_pre_hook(lambda _, inputs, noise=noise: latents.update({noise: inputs[0]}))
        x = torch.ones(3, 4, dtype=torch.float64)
        method.terms(x, x, np.random.default_rng(0))
    drawn = torch.from_numpy(np.random.default_rng(0).standard_normal((3, 2)))
    close(latents["paper"][:, :2], drawn.numpy())
    close(latents["code"][:, :2], drawn[:1].expand(3, -1).numpy())


def test_every_array_is_compared():
    assert not uncovered("cvae", globals(), NOT_USED)
