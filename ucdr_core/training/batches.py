"""What a training step sees: samples of all domains, triplets, or sketch-photo pairs, as rows of a manifest."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ucdr_core.data.manifest import DataError
from ucdr_core.data.protocols import Training
from ucdr_core.methods.base import Method


class Batches:
    """Row numbers of one epoch after another.

    domains    an equal share of `size` from each training domain, or `photo_share` of it photos and an equal share of
               the rest from each other domain; an epoch ends when the first domain is used once
    triplets   `size` sketches, for each a random photo of its class and a photo of another; an epoch uses each sketch
               once as anchor
    pairs      `size` sketches, for each a random photo of its class; an epoch uses each sketch once

    The class of a triplet's negative is drawn as `Method.negative_classes` says, then one of its photos; where it says
    nothing, every photo of another class is as likely, the unlabelled ones too where the method trains on them.  Such a
    method's batches end with a block of unlabelled photos; a label of -1 is an unlabelled photo's.

    Raises DataError where `photo_share` is set for triplets or pairs, a batch cannot hold every domain, or a sketch has
    no photo of its class.
    """

    def __init__(self, method: Method, training: Training, size: int, photo_share: float = 0.0):
        samples = training.manifest.samples
        number = {name: index for index, name in enumerate(training.seen)}
        self.kind, self.training = method.batches, training
        self.labels = samples.class_name.map(number).fillna(-1).to_numpy().astype(np.int64)  # -1: not a trained class
        domains = samples.domain.to_numpy()
        self.photos = domains == training.gallery_domain
        self.domains = np.array([training.domains.index(d) if d in training.domains else -1 for d in domains])
        self.unlabelled = training.unlabelled if method.wants_unlabelled else np.array([], int)
        if method.wants_unlabelled and not len(self.unlabelled):
            raise DataError(
                f"the method trains on unlabelled photos, and domain {training.gallery_domain!r} has none of the "
                "classes that are not trained on"
            )
        if self.kind == "domains":
            self.blocks = [training.train[domains[training.train] == domain] for domain in training.domains]
            shares = [1 / len(self.blocks)] * len(self.blocks)
            if photo_share and len(self.blocks) > 1:
                shares = [
                    photo_share if domain == training.gallery_domain else (1 - photo_share) / (len(self.blocks) - 1)
                    for domain in training.domains
                ]
            self.sizes = [min(int(size * share + 1e-9), len(rows)) for share, rows in zip(shares, self.blocks)]
            if not photo_share:
                self.sizes = [min(self.sizes)] * len(self.blocks)
            if min(self.sizes) < 1:
                raise DataError(f"a batch of {size} cannot hold {len(self.blocks)} domains; raise recipe.batch_size")
            self.size = min(self.sizes)
            self.steps = min(len(rows) // size for rows, size in zip(self.blocks, self.sizes))
            return
        if photo_share:
            raise DataError(f"recipe.photo_share is of batches of domains; this method is trained on {self.kind}")
        photo_rows = training.train[self.photos[training.train]]
        self.blocks = [training.train[~self.photos[training.train]]]
        if not len(self.blocks[0]):
            raise DataError(
                f"there is no training sketch: {training.gallery_domain!r}, the gallery's domain, is the only training "
                "domain"
            )
        self.size = min(size, len(self.blocks[0]))
        self.sizes = [self.size]
        self.steps = len(self.blocks[0]) // self.size
        self.photos_of_class = [photo_rows[self.labels[photo_rows] == label] for label in range(len(training.seen))]
        without_photo = [name for name, rows in zip(training.seen, self.photos_of_class) if not len(rows)]
        if without_photo:
            raise DataError(
                f"classes without a training photo in domain {training.gallery_domain!r}: "
                f"{', '.join(without_photo[:10])}; pairs and triplets need one"
            )
        self.negative_classes = method.negative_classes() if self.kind == "triplets" else None
        self.negatives = np.concatenate([photo_rows, self.unlabelled])

    def epoch(self, order: np.random.Generator, random: np.random.Generator) -> Iterator[np.ndarray]:
        """Rows (B,) of each step, in blocks; `order` shuffles the samples, `random` draws their partners."""
        shuffled = [order.permutation(rows) for rows in self.blocks]
        for step in range(self.steps):
            blocks = [rows[step * size : (step + 1) * size] for rows, size in zip(shuffled, self.sizes)]
            if self.kind != "domains":
                blocks += self._partners(self.labels[blocks[0]], random)
            if len(self.unlabelled):
                blocks.append(random.choice(self.unlabelled, self.size, replace=len(self.unlabelled) < self.size))
            yield np.concatenate(blocks)

    def _partners(self, labels: np.ndarray, random: np.random.Generator) -> list[np.ndarray]:
        """For sketches of these classes (B,) photos of the same ones and, in triplets, of others: rows (B,) each."""

        def photo_of(classes: np.ndarray) -> np.ndarray:
            photos = [self.photos_of_class[label] for label in classes]
            return np.array([rows[int(share * len(rows))] for rows, share in zip(photos, random.random(len(classes)))])

        positives = photo_of(labels)
        if self.kind == "pairs":
            return [positives]
        if self.negative_classes is not None:
            cumulated = self.negative_classes.cumsum(1)[labels]
            return [positives, photo_of((cumulated < random.random((len(labels), 1)) * cumulated[:, -1:]).sum(1))]
        negatives = random.choice(self.negatives, len(labels))
        while (same_class := self.labels[negatives] == labels).any():
            negatives[same_class] = random.choice(self.negatives, same_class.sum())
        return [positives, negatives]
