"""What a training step sees: samples of all domains, or sketches with photos of the same and of other classes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

import numpy as np

from ucdr_core.data.manifest import DataError, Manifest
from ucdr_core.data.protocols import Training
from ucdr_core.methods.base import Method

SKETCHY = re.compile(r"(n\d{8}_\d+)-\d+")  # n02691156_1234-3 is the third sketch of the photo n02691156_1234
SKETCHYS_ANALOGUE = "emoji-sketchy"  # both of its domains have the same emoji, under one code point


def own_photos(manifest: Manifest, photos: np.ndarray) -> np.ndarray:
    """(n,) int: of each sketch the row, among `photos` (m,), of the photo that it was drawn from; -1 where none is.

    File stems tell it, by Sketchy's names, or in its analogue by the code point.  No other data set has such pairs: a
    stem that a sketch there shares with a photo, most often a number, means nothing.
    """
    stems = [PurePosixPath(path).stem for path in manifest.samples.path]
    names = list(zip(manifest.samples.class_name, stems))
    row_of = {names[row]: row for row in photos}

    def drawn_from(stem: str) -> str | None:
        match = SKETCHY.fullmatch(stem)
        return match[1] if match else stem if manifest.name == SKETCHYS_ANALOGUE else None

    return np.array([row_of.get((class_name, drawn_from(stem)), -1) for class_name, stem in names])


class Batches:
    """Row numbers of one epoch after another.

    domains    an equal share of `size` from each training domain, or `photo_share` of it photos and an equal share of
               the rest from each other domain; an epoch ends when the first domain is used once
    triplets   `size` sketches, for each a random photo of its class and a photo of another; an epoch uses each sketch
               once as anchor
    pairs      `size` sketches, for each a photo of its class; an epoch uses each sketch once
    quadruplets  pairs, and for each another photo of its class and a photo of another

    The photo of a pair or a quadruplet is a random one of the sketch's class.  Where the method's option `pairs` is
    "own" it is the one that the sketch was drawn from, if that is trained on (see `own_photos`); most of Sketchy's
    extended photos have no sketch, and other data sets have no such pairs.

    The class of a triplet's negative is drawn as `Method.negative_classes` says, then one of its photos; where it says
    nothing, every photo of another class is as likely, the unlabelled ones too where the method trains on them.  Such a
    method's batches end with a block of unlabelled photos; a label of -1 is an unlabelled photo's.

    Raises DataError where `photo_share` is set for other batches than of domains, a batch cannot hold every domain, or
    a sketch has no photo of its class.
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
        asks_for_own = getattr(method.options, "pairs", "class") == "own"
        self.own = own_photos(training.manifest, photo_rows) if asks_for_own else np.full(len(samples), -1)

    def epoch(self, order: np.random.Generator, random: np.random.Generator) -> Iterator[np.ndarray]:
        """Rows (B,) of each step, in blocks; `order` shuffles the samples, `random` draws their partners."""
        shuffled = [order.permutation(rows) for rows in self.blocks]
        for step in range(self.steps):
            blocks = [rows[step * size : (step + 1) * size] for rows, size in zip(shuffled, self.sizes)]
            if self.kind != "domains":
                blocks += self._partners(blocks[0], random)
            if len(self.unlabelled):
                blocks.append(random.choice(self.unlabelled, self.size, replace=len(self.unlabelled) < self.size))
            yield np.concatenate(blocks)

    def _partners(self, sketches: np.ndarray, random: np.random.Generator) -> list[np.ndarray]:
        """The blocks of a batch after the first, sketches (B,): photos of their classes and of others, (B,) each."""
        labels = self.labels[sketches]

        def photo_of(classes: np.ndarray, but: np.ndarray | None = None) -> np.ndarray:
            photos = [self.photos_of_class[label] for label in classes]
            if but is not None:  # a class's only photo is taken twice
                photos = [rows[rows != taken] if len(rows) > 1 else rows for rows, taken in zip(photos, but)]
            return np.array([rows[int(share * len(rows))] for rows, share in zip(photos, random.random(len(classes)))])

        # Drawn for all, so that every reading of a pair takes as many draws.
        positives = np.where(self.own[sketches] < 0, photo_of(labels), self.own[sketches])
        if self.kind == "pairs":
            return [positives]
        others = [photo_of(labels, positives)] if self.kind == "quadruplets" else []
        if self.negative_classes is not None:
            cumulated = self.negative_classes.cumsum(1)[labels]
            return [positives, photo_of((cumulated < random.random((len(labels), 1)) * cumulated[:, -1:]).sum(1))]
        negatives = random.choice(self.negatives, len(labels))
        while (same_class := self.labels[negatives] == labels).any():
            negatives[same_class] = random.choice(self.negatives, same_class.sum())
        return [positives, *others, negatives]
