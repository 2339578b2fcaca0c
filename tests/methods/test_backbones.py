"""Trunks, their weights and their cuts; attention against its formula; augmentation and jigsaw."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from ucdr_core.data import images
from ucdr_core.methods import backbones

REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "sketchy25" / "photo"


@pytest.mark.parametrize(
    "name, channels, lower",
    [
        ("efficientnet_lite0", 1280, (112, 4, 4)),
        ("se_resnet50", 2048, (1024, 4, 4)),
        ("vgg16", 512, (512, 4, 4)),
        ("vgg16_bn", 512, (512, 4, 4)),
    ],
)
def test_a_cut_trunk_computes_what_the_whole_does(name, channels, lower):
    trunk = backbones.trunk(name, "random")
    x = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        whole = trunk(x)
        assert whole.shape[:2] == (2, channels)
        for regime in backbones.REGIMES:
            below, above = trunk.split(regime)
            torch.testing.assert_close(above(below(x)), whole)
        assert trunk.split("last-blocks")[0](x).shape[1:] == lower
    assert not list(trunk.split("frozen")[1].parameters())


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="unknown backbone 'resnet'"):
        backbones.trunk("resnet")
    with pytest.raises(ValueError, match="unknown regime"):
        backbones.trunk("efficientnet_lite0", "random").split("half")


def test_weights_are_read_from_a_file(tmp_path):
    torch.manual_seed(1)
    model = backbones.BACKBONES["efficientnet_lite0"].create(False)
    torch.save(model.state_dict(), tmp_path / "w.pth")
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    one, other = (backbones.trunk("efficientnet_lite0", tmp_path / f"w.{kind}") for kind in ("pth", "safetensors"))
    assert one.digest == other.digest != backbones.trunk("efficientnet_lite0", "imagenet").digest


@pytest.mark.parametrize("content", [None, b"junk", "other"])
def test_weights_that_do_not_fit_are_named(tmp_path, content):
    path = tmp_path / "bad.pth"
    if content == "other":
        torch.save({"layer": torch.zeros(1)}, path)
    elif content:
        path.write_bytes(content)
    with pytest.raises(backbones.WeightsError, match="bad.pth"):
        backbones.trunk("efficientnet_lite0", path)


@pytest.fixture(scope="module")
def lite0():
    torch.manual_seed(1)
    return backbones.BACKBONES["efficientnet_lite0"].create(False).state_dict()


@pytest.mark.parametrize(
    "name, value, message",
    [
        ("conv_stem.weight", float("nan"), "conv_stem.weight holds numbers that no weights have"),
        ("conv_stem.weight", float("inf"), "conv_stem.weight holds"),
        ("classifier.bias", -1e30, "classifier.bias holds"),
        ("bn1.running_var", -1.0, "negative variance"),
        ("bn2.bias", float("-inf"), "bn2.bias holds"),
        ("conv_head.weight", 0.0, "one map for every picture"),
    ],
)
@pytest.mark.parametrize("kind", ["pth", "safetensors"])
def test_weights_that_no_training_gives_are_refused(lite0, tmp_path, name, value, message, kind):
    damaged, path = {**lite0, name: torch.full_like(lite0[name], value)}, tmp_path / f"w.{kind}"
    (torch.save if kind == "pth" else save_file)(damaged, path)
    with pytest.raises(backbones.WeightsError, match=message) as refused:
        backbones.trunk("efficientnet_lite0", path)
    assert str(path) in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "other",
    [
        lambda state: [1, 2],
        lambda state: None,
        lambda state: torch.zeros(3),
        lambda state: {"state_dict": state},
        lambda state: {**state, "epoch": 3},
        lambda state: {**state, "conv_stem.weight": state["conv_stem.weight"][:1]},
        lambda state: {**state, "conv_stem.weight": state["conv_stem.weight"].to(torch.complex64)},
    ],
    ids=["list", "none", "tensor", "nested", "number", "shape", "complex"],
)
def test_weights_of_another_kind_are_refused_in_one_line(lite0, tmp_path, other):
    torch.save(other(lite0), tmp_path / "w.pth")
    with pytest.raises(backbones.WeightsError, match="w.pth holds no state dict") as refused:
        backbones.trunk("efficientnet_lite0", tmp_path / "w.pth")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("kind", ["pth", "safetensors"])
def test_a_cut_weights_file_is_refused(lite0, tmp_path, kind):
    path = tmp_path / f"w.{kind}"
    (torch.save if kind == "pth" else save_file)(lite0, path)
    content = path.read_bytes()
    for share in (0, 0.001, 0.5, 0.999):
        path.write_bytes(content[: int(share * len(content))])
        with pytest.raises(backbones.WeightsError, match=f"w.{kind}"):
            backbones.trunk("efficientnet_lite0", path)
    with pytest.raises(backbones.WeightsError, match="there is no weights file"):
        backbones.trunk("efficientnet_lite0", tmp_path)


def test_weights_whose_maps_half_precision_cannot_hold_are_refused(tmp_path):
    state = backbones.BACKBONES["se_resnet50"].create(False).state_dict()
    save_file({**state, "layer4.2.bn3.weight": torch.full((2048,), 1e7)}, tmp_path / "w.safetensors")
    with pytest.raises(backbones.WeightsError, match="not finite in half precision"):
        backbones.trunk("se_resnet50", tmp_path / "w.safetensors")


def test_weights_with_code_in_them_are_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "executed",))

    torch.save({"x": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(backbones.WeightsError):
        backbones.trunk("efficientnet_lite0", tmp_path / "evil.pth")
    assert not (tmp_path / "executed").exists()


@pytest.mark.skipif(not REAL.exists(), reason="the development photos are not on this machine")
@pytest.mark.parametrize("name", ["efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"])
def test_the_packaged_weights_classify_real_photos(name):
    """Sketchy's photos are ImageNet's: the class's name stands among the top five for most of these classes."""
    from timm.data import ImageNetInfo

    model, info = backbones.BACKBONES[name].create(True).eval(), ImageNetInfo("imagenet-1k")
    expected = {
        "zebra": "zebra",
        "banana": "banana",
        "hammer": "hammer",
        "pizza": "pizza",
        "harp": "harp",
        "hamburger": "cheeseburger",
    }
    right, total, size = 0, 0, backbones.BACKBONES[name].size_px
    for class_name, label in expected.items():
        for path in sorted((REAL / class_name).glob("*.jpg"))[:10]:
            pixels = (
                np.asarray(Image.open(path).convert("RGB").resize((size, size), Image.Resampling.BICUBIC), np.float32)
                / 255
            )
            with torch.inference_mode():
                top = model(torch.from_numpy((pixels - 0.5) / 0.5).permute(2, 0, 1)[None])[0].topk(5).indices.tolist()
            right += any(label in info.index_to_description(index).lower() for index in top)
            total += 1
    assert right / total > 0.8, (right, total)


def test_attention_is_the_formula(random):
    attention = backbones.SpatialAttention(16).double()
    x = torch.from_numpy(random.standard_normal((2, 16, 3, 3)))
    scores = attention.score(attention.reduce(x)).flatten(1)
    a = scores.softmax(1).view(2, 1, 3, 3)
    torch.testing.assert_close(attention(x), x + x * a)
    torch.testing.assert_close(attention.pooled(x), (x + x * a).mean((2, 3)))


def test_adapter_starts_at_the_scaled_feature():
    g = torch.randn(4, 8, dtype=torch.float64)
    out = backbones.ResidualAdapter(8, 2).double()(g)
    torch.testing.assert_close(out, g / g.square().mean(1, keepdim=True).sqrt())


@pytest.mark.parametrize("kind", [kind for kind in images.AUGMENTATIONS if kind != "none"])
def test_augmentation_keeps_shape_and_range_and_follows_its_generator(kind):
    x = torch.rand(6, 3, 32, 32)
    one = images.augment(x, torch.Generator().manual_seed(3), kind)
    assert one.shape == x.shape and 0 <= one.min() and one.max() <= 1
    torch.testing.assert_close(one, images.augment(x, torch.Generator().manual_seed(3), kind))
    assert not torch.equal(one, images.augment(x, torch.Generator().manual_seed(4), kind))


def test_sakes_augmentation_has_the_ranges_and_the_chances_of_its_code():
    """Pictures whose colours say where a pixel was, so that the affine map of each can be read from the result."""
    side, count = 48, 600
    place = (torch.arange(side, dtype=torch.float64) + 0.5) / side
    ramp = torch.stack([place.expand(side, side), place[:, None].expand(side, side), torch.ones(side, side)])
    made = images.augment(ramp.repeat(count, 1, 1, 1), torch.Generator().manual_seed(0), "sake").numpy()
    to = np.stack([ramp[0].numpy(), ramp[1].numpy(), np.ones((side, side))], -1)  # x and y of a pixel of the result
    flips, scales, angles, shifts = [], [], [], []
    for red, green, blue in made:
        inside = blue > 1 - 1e-9
        assert np.all((blue > 0) | (red == 0))  # black is what lies outside
        back, *_ = np.linalg.lstsq(to[inside], np.stack([red[inside], green[inside]], 1), rcond=None)
        flipped = np.linalg.det(back[:2]) < 0
        if flipped:  # of the picture, before all else
            back[:, 0] = [0, 0, 1] - back[:, 0]
        forth = np.linalg.inv(back[:2].T)  # scale, then turn; both about the corner
        (scale_x, scale_y), (across, _) = np.linalg.norm(forth, axis=0), forth[:, 0] / np.linalg.norm(forth[:, 0])
        angle = np.degrees(np.arctan2(forth[1, 0], forth[0, 0]))
        np.testing.assert_allclose(forth[:, 1], scale_y * np.array([-np.sin(np.radians(angle)), across]), atol=1e-6)
        flips.append(flipped)
        scales.append((scale_x, scale_y))
        angles.append(angle)
        shifts.append(-forth @ back[2] * 256)  # pixels of 256
    flips, scales, angles, shifts = (np.array(values) for values in (flips, scales, angles, shifts))
    assert 0.7 <= scales.min() < 0.71 and 1.29 < scales.max() <= 1.3 and np.abs(np.diff(scales)).max() > 0.5
    assert 29 < np.abs(angles).max() <= 30 and angles.min() < -29 and angles.max() > 29
    assert 9.8 < np.abs(shifts).max() <= 10 and shifts.min() < -9.8 and shifts.max() > 9.8
    scaled, turned, moved = np.abs(scales - 1).max(1) > 1e-6, np.abs(angles) > 1e-6, np.abs(shifts).max(1) > 1e-6
    for changed in (flips, scaled, turned, moved):
        assert changed.mean() == pytest.approx(0.7 * 0.5, abs=0.05)
    untouched = ~(flips | scaled | turned | moved)
    assert untouched.mean() == pytest.approx(0.3 + 0.7 * 0.5**4, abs=0.05)


def test_no_augmentation_leaves_pixels_and_an_unknown_one_is_named():
    x = torch.rand(2, 3, 8, 8)
    assert images.augment(x, torch.Generator(), "none") is x
    with pytest.raises(ValueError, match="unknown augmentation 'flip'; known: none"):
        images.augment(x, torch.Generator(), "flip")


def test_hue_turns_colours_and_leaves_greys():
    turn = images.hue_rotation(torch.tensor([2 * np.pi / 3, 0.7], dtype=torch.float64))
    torch.testing.assert_close(
        turn[0] @ torch.tensor([1.0, 0, 0], dtype=torch.float64), torch.tensor([0, 1.0, 0], dtype=torch.float64)
    )
    torch.testing.assert_close(
        turn[1] @ torch.full((3,), 0.3, dtype=torch.float64), torch.full((3,), 0.3, dtype=torch.float64)
    )


def test_vgg_gives_its_fully_connected_layers_and_others_say_that_they_have_none():
    layers = backbones.trunk("vgg16", "random").fully_connected()
    assert [layer.in_features for layer in layers] == [25088, 4096]
    with pytest.raises(backbones.WeightsError, match="needs the backbone vgg16 or vgg16_bn"):
        backbones.trunk("efficientnet_lite0", "random").fully_connected()


def test_shuffling_moves_tiles_and_keeps_a_rest():
    assert len({tuple(order) for order in images.JIGSAW_ORDERS.tolist()}) == 31
    assert (np.sort(images.JIGSAW_ORDERS, axis=1) == np.arange(9)).all()
    orders = images.JIGSAW_ORDERS[[5, 9]]
    picture = np.repeat(np.repeat(np.arange(9).reshape(3, 3), 4, 0), 4, 1)[None].repeat(3, 0)
    shuffled = images.shuffle_tiles(torch.from_numpy(np.stack([picture, picture])), torch.from_numpy(orders))
    for channel in range(3):
        assert [one[channel, ::4, ::4].ravel().tolist() for one in shuffled.numpy()] == orders.tolist()
    odd = torch.arange(2 * 3 * 13 * 13).reshape(2, 3, 13, 13)
    moved = images.shuffle_tiles(odd, torch.from_numpy(orders))
    assert torch.equal(moved[:, :, 12], odd[:, :, 12]) and torch.equal(moved[..., 12], odd[..., 12])
    assert not torch.equal(moved, odd)


@pytest.mark.parametrize("name, size, channels", [("dinov2_vit_s14", 98, 384), ("clip_vit_b32", 96, 512)])
def test_a_vision_transformer_gives_timms_embedding_as_a_map_of_one_position(name, size, channels):
    """At another size than its own too; the weights are downloads, so random ones stand in for them."""
    trunk = backbones.trunk(name, "random")
    model = trunk.stages[0].model
    pixels = torch.rand(2, 3, size, size)
    with torch.inference_mode():
        maps = trunk(trunk.normalise(pixels))
        expected = model.forward_head(model.forward_features(trunk.normalise(pixels)))
    assert maps.shape == (2, channels, 1, 1)
    torch.testing.assert_close(maps[:, :, 0, 0], expected)
    assert (trunk.mean[0, 0, 0] < 0.483) == name.startswith("clip")
    with pytest.raises(ValueError, match="frozen or trained as a whole"):
        trunk.split("last-blocks")


def test_a_transformers_whole_state_is_needed(tmp_path):
    """CLIP's projection, called `head`, is part of the embedding; of other trunks `head` is the classifier that is left
    out.
    """

    state = backbones.BACKBONES["dinov2_vit_s14"].create(False).state_dict()
    save_file(state, tmp_path / "whole.safetensors")
    assert torch.equal(
        backbones.trunk("dinov2_vit_s14", tmp_path / "whole.safetensors").stages[0].model.norm.weight,
        state["norm.weight"],
    )
    save_file({k: v for k, v in state.items() if k != "norm.weight"}, tmp_path / "part.safetensors")
    with pytest.raises(backbones.WeightsError, match="missing .*norm.weight"):
        backbones.trunk("dinov2_vit_s14", tmp_path / "part.safetensors")
    assert backbones.BACKBONES["clip_vit_b32"].unused == () and "head" in backbones.BACKBONES["vgg16"].unused


@pytest.mark.parametrize(
    "values, message",
    [({"size_px": 100}, "multiple of 14"), ({"size_px": 98, "regime": "last-blocks"}, "as a whole or not at all")],
)
def test_a_spec_that_a_transformer_cannot_take_is_refused(values, message):
    from ucdr_core.methods import OptionError
    from ucdr_core.training.spec import TrainSpec

    with pytest.raises(OptionError, match=message):
        TrainSpec.from_mapping({"method": "frozen", "backbone": "dinov2_vit_s14", **values})


def test_a_trunk_in_bfloat16_trains_and_gives_single_precision():
    """With `autocast` the stages round to eight bits and what comes out is float32 again; gradients reach the
    weights.
    """
    torch.manual_seed(0)
    stages = backbones.Stages(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Conv2d(8, 4, 3))
    pixels = torch.rand(2, 3, 8, 8)
    whole = stages(pixels)
    stages.autocast = True
    rounded = stages(pixels)
    assert rounded.dtype == torch.float32 and not torch.equal(rounded, whole)
    torch.testing.assert_close(rounded, whole, atol=0.02, rtol=0)
    rounded.sum().backward()
    assert all(
        weight.grad is not None and weight.grad.dtype == torch.float32 and weight.grad.abs().sum() > 0
        for weight in stages.parameters()
    )


@pytest.mark.parametrize(
    "layer",
    [
        torch.nn.Conv2d(4, 6, 3, stride=2, padding=1),
        torch.nn.Conv2d(4, 6, (3, 5), stride=(1, 2), padding=(0, 2), bias=False),
        torch.nn.Conv2d(4, 6, 1),
        torch.nn.Conv2d(4, 4, 5, stride=2, groups=4),
        torch.nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False),
    ],
    ids=str,
)
def test_convolutions_as_products_are_convolutions(layer, monkeypatch):
    """Outputs and gradients, in double precision; and single precision is left to torch."""
    calls, products = [], backbones._convolved
    monkeypatch.setattr(backbones, "_convolved", lambda *arguments: calls.append(1) or products(*arguments))
    x = torch.randn(2, 4, 9, 11, generator=torch.Generator().manual_seed(0))
    with backbones.ConvolutionsAsProducts():
        layer(x)
    assert not calls
    layer, x = layer.double(), x.double().requires_grad_()

    def gradients(out):
        return torch.autograd.grad(out.square().sum(), [x, *layer.parameters()])

    plain = layer(x)
    with backbones.ConvolutionsAsProducts():
        through_products = layer(x)
    assert calls
    torch.testing.assert_close(through_products, plain, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gradients(through_products), gradients(plain), rtol=1e-12, atol=1e-12)
