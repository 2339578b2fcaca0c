"""EISNet-retrieval against the numbers of EmmaW8/EISNet and of its copy in mvp18/UCDR, and where these are silent
against loops over the definition.
"""

import math

import numpy as np
import pytest
import torch
from authors import close, golden, uncovered
from torch import nn

from ucdr_core import data
from ucdr_core.data import images
from ucdr_core.methods import backbones, eisnet
from ucdr_core.methods.base import Batch
from ucdr_core.methods.eisnet import (
    EISNet,
    draw_shuffled,
    draws_of_batch,
    enqueue,
    follow,
    momentum_triplets,
    queue_triplet_loss,
    squared_distances,
)
from ucdr_core.training import features
from ucdr_core.training.batches import Batches
from ucdr_core.training.loop import Recipe, Stepper
from ucdr_core.training.prepare import prepare
from ucdr_core.training.spec import TrainSpec

NOT_USED: dict[str, str] = {}
WITHOUT_SEMI_HARD = {"eisnet": "drop", "ucdr": "random"}
D = torch.float64


def of_pair(triplets, i, j):
    return [int(m) for a, b, m in triplets if (a, b) == (i, j)]


def draws_that_give(triplets, candidates, count, negatives):
    """Draws by which each pair takes the negatives of its triplets, in their order, from those of `candidates`."""
    draws = np.full((count * (count - 1) // 2, negatives), 0.999)
    for row, (i, j) in enumerate(zip(*np.triu_indices(count, 1))):
        of_candidates = of_pair(candidates, i, j)
        for place, m in enumerate(of_pair(triplets, i, j)):
            draws[row, place] = (of_candidates.index(m) + 0.5) / len(of_candidates)
    return torch.from_numpy(draws)


def listed(triplets):
    """Rows i, j, m of the drawn triplets, pair by pair."""
    return [(int(i), int(j), int(m)) for i, j, row, drawn in zip(*triplets) for m in row[drawn]]


def compare_triplets(arrays, case, q, k, queue, labels, queue_labels, margin, draws, code):
    q, k, queue = (value.clone().requires_grad_() for value in (q, k, queue))
    to_keys, to_queue = squared_distances(q, k), squared_distances(q, queue)
    triplets = momentum_triplets(to_keys, to_queue, labels, queue_labels, margin, draws, WITHOUT_SEMI_HARD[code])
    theirs = [tuple(int(value) for value in row) for row in arrays[f"{case}.{code}.out.triplets"]]
    assert listed(triplets) == sorted(theirs, key=lambda row: row[:2])
    loss = queue_triplet_loss(to_keys, to_queue, triplets, margin)
    close(loss, arrays[f"{case}.{code}.out.loss"])
    loss.backward()
    close(q.grad, arrays[f"{case}.{code}.grad.q"])
    close(k.grad, arrays[f"{case}.{code}.grad.k_if_not_detached"])
    close(queue.grad, arrays[f"{case}.{code}.grad.queue_if_not_detached"])


@golden("eisnet", "queue.")
def test_the_queue_gives_up_its_oldest(arrays):
    """Of 12 places two are not filled yet."""
    rows, labels = torch.zeros(int(arrays["queue.in.capacity"]), 4, dtype=D), torch.full((12,), -1)
    rows, labels = (
        enqueue(rows, arrays.tensor("queue.in.old_rows")),
        enqueue(labels, arrays.tensor("queue.in.old_labels")),
    )
    assert labels.tolist()[:2] == [-1, -1]
    close(enqueue(rows, arrays.tensor("queue.in.new_rows")), arrays["queue.out.rows"])
    close(enqueue(labels, arrays.tensor("queue.in.new_labels")), arrays["queue.out.labels"][:, 0])


@golden("eisnet", "trip.", "trip_all.", "trip_all_m2.", "trip_seed0_k5.")
def test_triplets_of_the_momentum_queue(arrays):
    """All semi-hard negatives once, at two margins, and their own draws of five."""
    q, k, queue = (arrays.tensor(name) for name in ("trip.in.q", "trip.in.k", "queue.out.rows"))
    close(squared_distances(q, k), arrays["trip.out.sqdist_q_k"])
    close(squared_distances(q, queue), arrays["trip.out.sqdist_q_queue"])
    labels, queue_labels = arrays.tensor("trip.in.labels"), arrays.tensor("queue.out.labels")[:, 0].long()
    for case, all_of_case, margin, negatives in (
        ("trip_all", "trip_all", float(arrays["trip.in.margin"]), 50),
        ("trip_all_m2", "trip_all_m2", 2.0, 50),
        ("trip_seed0_k5", "trip_all", float(arrays["trip.in.margin"]), 5),
    ):
        for code in WITHOUT_SEMI_HARD:
            triplets, candidates = (arrays[f"{name}.{code}.out.triplets"] for name in (case, all_of_case))
            draws = draws_that_give(triplets, candidates, len(q), negatives)
            compare_triplets(arrays, case, q, k, queue, labels, queue_labels, margin, draws, code)


@golden("eisnet", "trip1.", "tripnone.")
def test_one_semi_hard_negative_for_each_pair_and_none_at_all(arrays, random):
    """Whatever is drawn.  Without any semi-hard negative UCDR takes all others; EISNet's code fails, ours is 0."""
    q, k, queue, labels = (arrays.tensor(f"trip1.in.{name}") for name in ("q", "k", "queue", "labels"))
    queue_labels = arrays.tensor("trip1.in.queue_labels")[:, 0].long()
    for negatives in (1, 5, 256):
        draws = torch.from_numpy(draws_of_batch(4, negatives, random))
        for code in WITHOUT_SEMI_HARD:
            margin = float(arrays["trip1.in.margin"])
            compare_triplets(arrays, "trip1", q, k, queue, labels, queue_labels, margin, draws, code)
    margin = float(arrays["tripnone.in.margin"])
    compare_triplets(arrays, "tripnone", q, k, queue, labels, queue_labels, margin, draws, "ucdr")
    to_keys, to_queue = squared_distances(q, k), squared_distances(q.requires_grad_(), queue)
    triplets = momentum_triplets(to_keys, to_queue, labels, queue_labels, margin, draws, "drop")
    loss = queue_triplet_loss(to_keys, to_queue, triplets, margin)
    loss.backward()
    assert listed(triplets) == [] and loss.item() == 0 and not q.grad.any()


@golden("eisnet", "ema.")
def test_the_momentum_network_follows_by_its_parameters_alone(arrays):
    def network(name):
        made = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)).double()
        made.load_state_dict(
            {key: arrays.tensor(f"ema.in.{name}.{key.replace('.', '_')}") for key in made.state_dict()}
        )
        return made

    def compare(made, name):
        for key, value in made.state_dict().items():
            close(value, arrays[f"ema.out.{name}.{key.replace('.', '_')}"])

    query, key = network("query"), network("key")
    follow(key, query, 0.0)
    compare(key, "key_after_init_copy")
    key = network("key")
    for step in range(10):
        follow(key, query, EISNet.Options().momentum)
        if step == 0:
            compare(key, "key_after_1_step")
    compare(key, "key_after_10_steps")


@golden("eisnet", "jigsaw.")
def test_tiles_of_an_order(arrays):
    assert images.JIGSAW_ORDERS[0].tolist() == list(range(9))
    close(images.JIGSAW_ORDERS[1:], arrays["jigsaw.in.permutations"])
    orders, both = images.JIGSAW_ORDERS[arrays["jigsaw.out.orders"]], arrays["jigsaw.out.six_channel_uint8_chw"]
    close(orders, arrays["jigsaw.out.tile_from"])
    picture = arrays.tensor("jigsaw.in.image_uint8_hwc").permute(2, 0, 1).expand(len(orders), 3, 12, 12)
    close(picture, both[:, :3])
    close(images.shuffle_tiles(picture, torch.from_numpy(orders)), both[:, 3:])


@golden("eisnet", "step.")
def test_the_total_of_a_step(arrays):
    method = EISNet(nn.Sequential(), 8, torch.eye(4, 5, dtype=D), EISNet.Options())
    inputs = (arrays.tensor(f"step.in.{name}") for name in ("class_logits", "labels", "jigsaw_logits", "orders"))
    terms = method.weighted(*inputs, arrays.tensor("trip_all.eisnet.out.loss"))
    weight_triplet, weight_jigsaw = arrays["step.in.weights_moco_jig"]
    close(terms["ce"], arrays["step.out.class_loss"])
    close(terms["jigsaw"] / weight_jigsaw, arrays["step.out.jigsaw_loss_unweighted"])
    close(terms["triplet"] / weight_triplet, arrays["trip_all.eisnet.out.loss"])
    close(sum(terms.values()), arrays["step.out.total_with_trip_all_eisnet"])


def test_every_array_is_compared():
    assert not uncovered("eisnet", globals(), NOT_USED)


# ------------------------------------------------------------------------------------------------- by the definition


def by_loops(q, k, labels, queue, queue_labels, margin, draws, without):
    """(loss, triplets): pair by pair and draw by draw."""
    violations, triplets, row = [], [], -1
    for i in range(len(labels)):
        for j in range(i + 1, len(labels)):
            row += 1
            if labels[i] != labels[j]:
                continue
            positive = (q[i] - k[j]).square().sum()
            others = [m for m in range(len(queue)) if queue_labels[m] not in (-1, labels[i])]
            distance = {m: (q[i] - queue[m]).square().sum() for m in others}
            semi_hard = [m for m in others if positive < distance[m] < positive + margin]
            if not semi_hard and without == "random" and len(others) <= draws.shape[1]:
                drawn = others
            else:
                pool = semi_hard or (others if without == "random" else [])
                drawn = [pool[int(float(u) * len(pool))] for u in draws[row, : len(pool)]]
            triplets += [(i, j, m) for m in drawn]
            violations += [(positive - distance[m] + margin).clamp(min=0) for m in drawn]
    return (sum(violations) / len(violations) if violations else q.sum() * 0), triplets


@pytest.mark.parametrize("without", ["random", "drop"])
@pytest.mark.parametrize(
    "classes, queue, filled, negatives, margin",
    [
        (3, 20, 20, 4, 0.5),  # more semi-hard negatives than are drawn, and pairs without any
        (3, 20, 9, 30, 0.3),  # fewer, and places that are not filled
        (2, 30, 30, 5, 0.02),  # hardly any pair with one
        (9, 12, 12, 256, 2.0),
        (1, 12, 12, 4, 2.0),  # no other class
        (40, 12, 12, 4, 2.0),  # no pair, or few
    ],
)
def test_triplets_are_those_of_the_definition(random, classes, queue, filled, negatives, margin, without):
    def unit(count):
        return nn.functional.normalize(torch.from_numpy(random.standard_normal((count, 3))), dim=1)

    q, k, keys = unit(10).requires_grad_(), unit(10), unit(queue)
    labels = torch.from_numpy(random.integers(0, classes, 10))
    key_labels = torch.from_numpy(random.integers(0, classes, queue))
    keys[: queue - filled], key_labels[: queue - filled] = 0, -1
    draws = torch.from_numpy(draws_of_batch(10, negatives, random))
    to_keys, to_queue = squared_distances(q, k), squared_distances(q, keys)
    triplets = momentum_triplets(to_keys, to_queue, labels, key_labels, margin, draws, without)
    loss = queue_triplet_loss(to_keys, to_queue, triplets, margin)
    expected, of_loops = by_loops(q, k, labels.tolist(), keys, key_labels.tolist(), margin, draws, without)
    assert listed(triplets) == of_loops
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(torch.autograd.grad(loss, q)[0], torch.autograd.grad(expected, q)[0])


def test_pairs_of_two_classes_have_no_triplet_where_they_cannot_be_left_out(random, monkeypatch):
    """On a GPU, which is not asked how many pairs are of one class."""
    to_keys, to_queue = (torch.from_numpy(random.random(shape) * 4) for shape in ((10, 10), (10, 20)))
    labels, queue_labels = (torch.from_numpy(random.integers(0, 3, count)) for count in (10, 20))
    draws = torch.from_numpy(draws_of_batch(10, 6, random))
    for without in ("random", "drop"):
        few = momentum_triplets(to_keys, to_queue, labels, queue_labels, 0.2, draws, without)
        with monkeypatch.context() as patch:
            patch.setattr(eisnet, "_rows_to_look_at", lambda same: torch.arange(len(same)))
            every = momentum_triplets(to_keys, to_queue, labels, queue_labels, 0.2, draws, without)
        assert len(every.anchors) == 45 > len(few.anchors) and listed(every) == listed(few)
        torch.testing.assert_close(*(queue_triplet_loss(to_keys, to_queue, one, 0.2) for one in (every, few)))


def test_a_triplet_by_hand():
    """Two samples of a class; the first is the anchor.  Its positive stands at a squared distance of 2; negatives at
    2.8 and 2.5 (semi-hard), 0.4 (too near), 4 (beyond the margin of 1), and at 2.9 one of the same class.  By the draws
    the second semi-hard one is taken twice: 2 - 2.5 + 1.
    """

    def unit(squared_distance):
        cosine = 1 - squared_distance / 2
        return [cosine, math.sqrt(1 - cosine * cosine)]

    q = torch.tensor([[1.0, 0.0], [0.0, -1.0]], dtype=D)
    k, queue = torch.tensor([[1.0, 0.0], unit(2.0)], dtype=D), torch.tensor([*map(unit, (2.8, 0.4, 4.0, 2.9, 2.5))])
    to_keys, to_queue = squared_distances(q, k), squared_distances(q, queue.double())
    labels, queue_labels, draws = torch.tensor([0, 0]), torch.tensor([1, 1, 1, 0, 1]), torch.tensor([[0.5, 0.99, 0.0]])
    triplets = momentum_triplets(to_keys, to_queue, labels, queue_labels, 1.0, draws, "random")
    assert listed(triplets) == [(0, 1, 4), (0, 1, 4)]  # of two semi-hard negatives two are drawn, not three
    assert queue_triplet_loss(to_keys, to_queue, triplets, 1.0).item() == pytest.approx(0.5, abs=1e-6)


def test_places_that_are_not_filled_are_no_negatives():
    """They stand at a squared distance of 1 from everything, or 2 by the cosine, and nothing else is in the queue."""
    q = k = torch.eye(2, dtype=D)
    to_keys, to_queue = squared_distances(q, k), squared_distances(q, torch.zeros(4, 2, dtype=D))
    for without in ("random", "drop"):
        empty, draws = torch.full((4,), -1), torch.full((1, 3), 0.5)
        triplets = momentum_triplets(to_keys, to_queue, torch.tensor([0, 0]), empty, 2.0, draws, without)
        assert listed(triplets) == []


def test_draws_are_as_many_whatever_the_labels(random):
    """So that one candidate more or less moves no later draw of the training."""
    assert draws_of_batch(60, 256, random).shape == (1770, 256)


def test_a_tenth_of_thirty_of_31_orders_are_shuffled(random):
    """Order 0 has the probability .9 + .1 / 31."""
    assert draw_shuffled(10**6, 0.1, random).mean() == pytest.approx(0.1 * 30 / 31, abs=0.001)
    assert draw_shuffled(10**6, 1.0, random).mean() == pytest.approx(30 / 31, abs=0.001)


@pytest.fixture
def method():
    """A trunk with batch normalisation, keys of another network, and a queue that is filled in part."""
    torch.manual_seed(0)
    upper = nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.ReLU()).double()
    vectors = torch.from_numpy(np.random.default_rng(0).standard_normal((4, 5)))
    made = EISNet(upper, 8, vectors, EISNet.Options(queue=30, negatives=6, margin=0.05, jigsaw_share=0.5)).double()
    with torch.no_grad():
        made.slow[1].weight.add_(0.3 * torch.randn(128, 8, dtype=D))
    return made.train()


def picture_batch(random, count=12):
    pictures, shuffled = (torch.from_numpy(random.random((count, 3, 6, 6))) for _ in range(2))
    labels = torch.from_numpy(random.integers(0, 4, count))
    photos = torch.arange(count) % 2
    return Batch(pictures, labels, photos == 1, photos, shuffled, torch.from_numpy(random.integers(1, 31, count)))


def test_anchors_are_of_the_tile_image_and_keys_of_the_whole_one(method, random):
    """All samples are anchors, shuffled ones too; the queue holds the keys of the batch before the loss."""
    options, keys, key_labels = method.options, [], []
    for _ in range(3):
        batch, drawn = picture_batch(random), np.random.default_rng(3)
        shuffled = torch.from_numpy(draw_shuffled(12, options.jigsaw_share, drawn))
        assert 0 < shuffled.sum() < 12
        draws = torch.from_numpy(draws_of_batch(12, options.negatives, drawn))
        tiles = torch.where(shuffled[:, None, None, None], batch.jigsaw_inputs, batch.inputs)
        q = nn.functional.normalize(method.metric(method.features(tiles)), dim=1)
        k = nn.functional.normalize(method.slow(batch.inputs), dim=1)
        keys, key_labels = [*keys, *k], [*key_labels, *batch.labels.tolist()]
        terms = method.losses(batch, np.random.default_rng(3))
        expected, triplets = by_loops(
            q, k, batch.labels.tolist(), keys[-30:], key_labels[-30:], options.margin, draws, "random"
        )
        assert len({i for i, _, _ in triplets}) > 5
        torch.testing.assert_close(terms["triplet"], 0.5 * expected)
        torch.testing.assert_close(method.keys[-len(keys[-30:]) :], torch.stack(keys[-30:]))
        jigsaw = nn.functional.cross_entropy(
            method.jigsaw(method.features(tiles)), torch.where(shuffled, batch.jigsaw_labels, 0)
        )
        torch.testing.assert_close(terms["jigsaw"], 0.7 * jigsaw)


def test_the_momentum_network_keeps_the_statistics_that_it_began_with(method, random):
    """And so the key of a picture does not depend on the others of its batch."""
    began = {name: value.clone() for name, value in method.slow.named_buffers()}
    fast = {name: value.clone() for name, value in method.features.named_buffers()}
    assert method.training and not any(part.training for part in method.slow.modules())
    batch = picture_batch(random)
    sum(method.losses(batch, random).values()).backward()
    torch.testing.assert_close(method.keys[-3:], nn.functional.normalize(method.slow(batch.inputs[-3:]), dim=1))
    method.after_step()
    assert all(torch.equal(value, began[name]) for name, value in method.slow.named_buffers())
    assert not all(torch.equal(value, fast[name]) for name, value in method.features.named_buffers())


# ----------------------------------------------------------------------------------------------- what is shown shuffled


def test_a_shuffled_picture_is_augmented_as_the_whole_one_is(small):
    """Its tiles in their places again are the whole picture, to the last digit."""
    values = {**small, "method": "eisnet", "regime": "finetune", "size_px": 33}
    spec = TrainSpec.from_mapping(values)
    method, feed = prepare(spec, progress=False)
    assert spec.recipe.get("augment", Recipe().augment) != "none"
    stepper = Stepper(method, Batches(method, spec.training(), 12), feed, Recipe(**spec.recipe), 0)
    rows = np.arange(12)
    batch = stepper.batch(rows, 0, 0)
    assert not torch.equal(batch.inputs, feed(rows))  # they are augmented
    back = np.argsort(images.JIGSAW_ORDERS[batch.jigsaw_labels], axis=1)
    assert torch.equal(images.shuffle_tiles(batch.jigsaw_inputs, torch.from_numpy(back)), batch.inputs)
    assert not any(torch.equal(a, b) for a, b in zip(batch.jigsaw_inputs, batch.inputs))


def test_the_shuffled_copy_of_a_cached_map_is_that_of_its_order(tree):
    whole, trunk = data.folders(tree), backbones.trunk("efficientnet_lite0", "imagenet")
    manifest = data.Manifest("nine", whole.root, whole.samples.iloc[::16].reset_index(drop=True))
    rows, orders = np.array([0, 7, 4]), torch.from_numpy(images.JIGSAW_ORDERS)
    maps = features.maps(manifest, trunk, "frozen", 48, precision="float32", jigsaw=True, progress=False)
    pixels = torch.from_numpy(features.pixels(manifest, 48, False)[rows]).permute(0, 3, 1, 2) / 255
    tiles = images.shuffle_tiles(pixels, orders[features.jigsaw_labels(len(manifest))[rows]])
    with torch.inference_mode():
        expected = trunk(trunk.normalise(tiles))
    torch.testing.assert_close(maps[rows], expected, rtol=1e-3, atol=1e-3)
