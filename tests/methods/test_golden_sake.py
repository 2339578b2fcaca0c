"""SAKE against its authors' numbers: the conditioned block, the start, the losses, the interpolated metrics."""

import numpy as np
import pytest
import torch
from authors import close, golden, uncovered
from timm.models.senet import SEModule
from torch import nn

from ucdr_core.methods import SAKE, backbones
from ucdr_core.methods.sake import (
    EuclideanMargin,
    Indicator,
    condition,
    excitations,
    margin_loss,
    margin_of,
    preservation_loss,
    start_as_classifier,
)
from ucdr_core.retrieval import evaluate, metrics

NOT_USED: dict[str, str] = {}


def conditioned(block: nn.Module, photos: torch.Tensor) -> None:
    """Conditions the SE blocks of the module on these samples."""
    indicator = Indicator()
    indicator.photos = photos
    condition(excitations(block), indicator)


def load_excitation(block: SEModule, arrays, prefix: str) -> None:
    """The authors' linear layers are timm's 1x1 convolutions, and the last column of the second is the indicator's."""
    first, second = (arrays.tensor(f"{prefix}{name}_weight") for name in ("fc1", "fc2"))
    with torch.no_grad():
        block.fc1.weight.copy_(first[:, :, None, None])
        block.fc1.bias.copy_(arrays.tensor(f"{prefix}fc1_bias"))
        block.fc2.layer.weight.copy_(second[:, :-1, None, None])
        block.fc2.layer.bias.copy_(arrays.tensor(f"{prefix}fc2_bias"))
        block.fc2.weight.copy_(second[:, -1])


@golden("sake", "cse.")
def test_the_indicator_enters_the_second_layer_of_the_excitation(arrays):
    block = SEModule(8, reduction=4).double()
    conditioned(block, arrays.tensor("cse.in.bit"))
    load_excitation(block, arrays, "cse.w.")
    x = arrays.tensor("cse.in.x", gradient=True)
    out = block(x)
    close(out, arrays["cse.out.sake"])
    close(out, arrays["cse.out.ucdr"])
    (out * arrays.tensor("cse.in.cotangent")).sum().backward()
    close(x.grad, arrays["cse.grad.x"])


@golden("sake", "block.")
def test_a_bottleneck_of_the_trunk_is_the_authors(arrays):
    own = backbones.trunk("se_resnet50", "random").stages[3][0]  # the first of the second layer, which has a stride
    shortcut = nn.Sequential(nn.Conv2d(8, 16, 1, stride=own.downsample[0].stride, bias=False), nn.BatchNorm2d(16))
    block = type(own)(8, 4, groups=1, reduction=4, stride=own.stride, downsample=shortcut).double()
    assert [own.conv1.stride, own.conv2.stride, own.downsample[0].kernel_size] == [(2, 2), (1, 1), (1, 1)]
    conditioned(block, arrays.tensor("block.in.bit"))
    load_excitation(block.se_module, arrays, "block.w.se_module_")
    named = {
        name: arrays.tensor("block.w." + name.replace(".", "_"))
        for name in block.state_dict()
        if not name.startswith("se_module")
    }
    block.load_state_dict(named, strict=False)
    with torch.no_grad():
        evaluated = block.eval()(arrays.tensor("block.in.x"))
        close(evaluated, arrays["block.out.eval_sake"])
        close(evaluated, arrays["block.out.eval_ucdr"])
        close(block.train()(arrays.tensor("block.in.x")), arrays["block.out.train_sake"])


@golden("sake", "svd.")
def test_projection_and_student_start_as_the_imagenet_classifier(arrays):
    project, student = nn.Linear(8, 4).double(), nn.Linear(4, 10).double()
    with torch.no_grad():
        project.bias.copy_(arrays.tensor("svd.in.second_last_linear_bias_before"))
        student.bias.copy_(arrays.tensor("svd.in.last_linear_bias_before"))
    start_as_classifier(project, student, arrays.tensor("svd.in.pretrained_last_weight"))
    theirs = arrays["svd.out.second_last_linear_weight"], arrays["svd.out.last_linear_weight"]
    close(student.weight @ project.weight, theirs[1] @ theirs[0])
    for ours, of_authors in ((project.weight, theirs[0]), (student.weight, theirs[1])):  # signs are free
        close(ours.abs(), np.abs(of_authors))
    close(project.bias, arrays["svd.out.second_last_linear_bias"])
    close(student.bias, arrays["svd.out.last_linear_bias"])
    block = SEModule(8, reduction=4).double()
    with torch.no_grad():
        for layer, name in ((block.fc1, "fc1"), (block.fc2, "fc2")):
            layer.weight.copy_(arrays.tensor(f"svd.in.pretrained_se_{name}_weight"))
    conditioned(block, torch.ones(1, 1))
    close(block.fc1.weight.flatten(1), arrays["svd.out.blk_se_module_fc1_weight"])
    second = torch.cat([block.fc2.layer.weight.flatten(1), block.fc2.weight[:, None]], 1)
    close(second, arrays["svd.out.blk_se_module_fc2_weight"])


@golden("sake", "svd.in.pretrained_last_")
def test_the_method_starts_so_and_throws_the_classifiers_bias_away(arrays):
    teacher = nn.Linear(8, 10).double()
    with torch.no_grad():
        teacher.weight.copy_(arrays.tensor("svd.in.pretrained_last_weight"))
        teacher.bias.copy_(arrays.tensor("svd.in.pretrained_last_bias"))

    def start(option: str) -> SAKE:
        upper = nn.Sequential(SEModule(8, reduction=4))
        torch.manual_seed(0)
        return SAKE(upper, 8, torch.zeros(5, 3), SAKE.Options(dim=4, start=option), teacher).double()

    made, drawn = start("svd"), start("random")
    u, s, v = np.linalg.svd(arrays["svd.in.pretrained_last_weight"])
    close(made.student.weight @ made.project.weight, (u[:, :4] * s[:4]) @ v[:4], single=True)
    for name in ("project", "student"):
        close(getattr(made, name).bias, getattr(drawn, name).bias.detach().numpy())
        assert not torch.allclose(getattr(made, name).weight, getattr(drawn, name).weight)


@golden("sake", "ems.")
def test_logits_of_the_euclidean_margin(arrays):
    layer = EuclideanMargin(6, 5).double()
    with torch.no_grad():
        layer.centres.copy_(arrays.tensor("ems.w.cpars"))
    close(layer(arrays.tensor("ems.in.x")), arrays["ems.out.logits"])


@golden("sake", "loss.", "ce.", "emsloss.")
def test_losses_of_the_classes(arrays):
    labels = arrays.tensor("loss.in.target")
    for m, loss, gradient in (
        (1.0, "ce.out.loss", "ce.grad.class_logits"),
        (margin_of(19), "emsloss.out.loss_m1", ""),
        (margin_of(20), "emsloss.out.loss_m2", ""),
        (margin_of(25), "emsloss.out.loss_m4", "emsloss.grad.class_logits_m4"),
    ):
        logits = arrays.tensor("loss.in.class_logits", gradient=True)
        ours = margin_loss(logits, labels, m)
        close(ours, arrays[loss])
        if gradient:
            ours.backward()
            close(logits.grad, arrays[gradient])


@golden("sake", "kd.", "total.")
def test_what_the_teacher_preserves(arrays):
    scale, weight_similarity, weight = arrays["kd.in.lambda_kd_shift_sake"]
    photos = arrays.tensor("kd.in.photo_mask")[:, 0] > 0
    labels = arrays.tensor("loss.in.target")
    shift = weight_similarity * arrays.tensor("kd.in.class_to_imagenet")[labels]
    close(shift, weight_similarity * arrays["kd.in.shift"])
    every = torch.ones_like(photos)
    for name, rows, shifted, scaled in (
        ("nomask", every, 0.0, scale),
        ("photos_noshift", photos, 0.0, scale),
        ("photos_shift", photos, shift[photos], scale),
        ("photos_shift_kd2", photos, shift[photos], 2.0),
    ):
        student = arrays.tensor("kd.in.student_logits", gradient=True)
        ours = preservation_loss(student[rows], arrays.tensor("kd.in.teacher_logits")[rows], shifted, scaled)
        ours.backward()
        close(ours, arrays[f"kd.out.loss_{name}"])
        close(student.grad, arrays[f"kd.grad.student_logits_{name}"])
        if name == "photos_shift":
            total = margin_loss(arrays.tensor("loss.in.class_logits"), labels) + weight * ours
            close(total, arrays["total.out.ce_plus_sake"])


@golden("sake", "metrics.")
def test_interpolated_metrics(arrays, monkeypatch):
    places = ("query_unit", "query_class", "gallery_unit", "gallery_class")
    ranked = [arrays[f"metrics.in.{place}"] for place in places]
    scores = evaluate(*ranked)
    here = ~np.isnan(arrays["metrics.out.interp_ap_all"])  # theirs leaves out a query whose class is absent
    assert scores.without_relevant == (~here).sum() == 1
    values, query_class = scores.per_query, arrays["metrics.in.query_class"]
    close(values["map_all_voc"][here], arrays["metrics.out.interp_ap_all"][here])
    close(values["map_200_voc"][here], arrays["metrics.out.interp_ap_top200"][here])
    close(values["prec_100"], arrays["metrics.out.prec_100"])
    of_classes = [values["map_all_voc"][here & (query_class == each)].mean() for each in range(4)]
    close(np.array(of_classes), arrays["metrics.out.interp_ap_all_per_class_mean"])
    by_cosine = evaluate(*ranked, distance="cosine").per_query  # as the method ranks: the same order
    close(np.array(list(by_cosine.values())), np.array(list(values.values())))
    monkeypatch.setattr(metrics, "CUT", 20)
    close(evaluate(*ranked).per_query["map_200_voc"][here], arrays["metrics.out.interp_ap_top20"][here])


@golden("sake", "vocap.")
def test_area_under_the_interpolated_curve(arrays):
    """A ranking whose recall rises where theirs does has their precision, and their area."""
    relevant = np.diff(arrays["vocap.in.recall"], prepend=0) > 0
    close(relevant.cumsum() / np.arange(1, len(relevant) + 1), arrays["vocap.in.precision"])
    scores = evaluate(np.zeros((1, 1)), [1], np.arange(len(relevant), dtype=float)[:, None], relevant.astype(int))
    close(scores["map_all_voc"], arrays["vocap.out.ap"])


@pytest.mark.parametrize("epoch, m", [(0, 1), (19, 1), (20, 2), (24, 2), (25, 4), (99, 4)])
def test_the_margin_doubles_twice(epoch, m):
    assert margin_of(epoch) == m


def test_every_array_is_compared():
    assert not uncovered("sake", globals(), NOT_USED)
