"""Protocols: which samples are trained on, validated, queried and searched.

Training and evaluation are apart, because one training serves several evaluations:

    Training    domains and classes trained on, and the share of gallery photos kept out of it
    Evaluation  protocol, query domain and gallery
    Task        both, resolved to rows of a manifest

Seeded draws (the held-out gallery photos, the sampled queries) take the files in sorted order and one random stream per
class, so that they depend neither on the file system nor on the other classes.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np

from ucdr_core.data.manifest import DataError, Manifest
from ucdr_core.data.splits import Split

PROTOCOLS = ("zs_sbir", "gzs_sbir", "uccdr", "udcdr", "ucdr")
GALLERIES = ("unseen", "seen+unseen", "seen")
GENERALISED_SHARE = 0.2  # of seen classes or samples in the test set of gzs_sbir


@dataclass(frozen=True)
class Evaluation:
    """How a trained model is evaluated.

    protocol      zs_sbir, uccdr: unseen classes, trained query domain; ucdr: unseen classes, unseen domain;
                  udcdr: seen classes, unseen domain; gzs_sbir: seen and unseen classes, trained query domain
    query_domain  domain of the queries
    gallery       unseen: gallery-domain photos of the test classes; seen+unseen: these and the photos of seen classes
                  that were kept out of training (DomainNet: 8% per class); seen: only the latter (udcdr)
    query_share   udcdr: share of each seen class's samples in the query domain that are queries (SnMpNet: 10% for
                  QuickDraw)
    reading       gzs_sbir: "samples", the test set adds samples of the classes trained on, 20% as many as it has of
                  unseen ones: those that training left out or, where it left out none, samples that were trained on
                  (the code of SEM-PCYC); "classes", it adds seen classes, which training left out (20% of them)
    """

    protocol: str
    query_domain: str
    gallery: str = "unseen"
    query_share: float = 1.0
    reading: str = ""

    def __post_init__(self):
        if self.protocol not in PROTOCOLS:
            raise DataError(f"unknown protocol {self.protocol!r}; known: {', '.join(PROTOCOLS)}")
        allowed = {"zs_sbir": ("unseen",), "gzs_sbir": ("seen+unseen",), "udcdr": ("seen",)}.get(
            self.protocol, GALLERIES[:2]
        )
        if self.gallery not in allowed:
            raise DataError(f"protocol {self.protocol} has the galleries {', '.join(allowed)}, not {self.gallery!r}")
        if not 0 < self.query_share <= 1:
            raise DataError(f"query_share must lie in (0, 1], not {self.query_share}")
        if self.protocol == "gzs_sbir" and self.reading not in ("classes", "samples"):
            raise DataError(f"gzs_sbir has the readings 'classes' and 'samples', not {self.reading!r}")

    @property
    def name(self) -> str:
        """protocol:query domain:gallery, then the reading and a share below 1 where there are."""
        parts = [self.protocol, self.query_domain, self.gallery]
        parts += [self.reading] if self.reading else []
        parts += [f"{self.query_share:g}"] if self.query_share < 1 else []
        return ":".join(parts)


@dataclass(frozen=True, eq=False)
class Training:
    """Rows of a manifest that training may see, and what it was kept from; all rows are sorted."""

    manifest: Manifest
    split: Split
    domains: tuple[str, ...]
    gallery_domain: str
    seed: int
    seen: tuple[str, ...]  # classes trained on
    left_out: tuple[str, ...]  # seen classes that gzs_sbir's reading "classes" keeps for the test
    left_out_samples: np.ndarray  # rows of trained classes that its reading "samples" keeps for the test
    train: np.ndarray
    held_out: np.ndarray  # gallery-domain rows of trained classes that training does not see
    val_query: np.ndarray
    val_gallery: np.ndarray
    # Gallery-domain rows of validation and test classes: what semi-transductive training sees without labels.
    unlabelled: np.ndarray


@dataclass(frozen=True, eq=False)
class Task:
    """A manifest under a split and a protocol, as row numbers: train, val_query, val_gallery, query, gallery."""

    training: Training
    evaluation: Evaluation
    query: np.ndarray
    gallery: np.ndarray

    @property
    def train(self) -> np.ndarray:
        return self.training.train

    @property
    def val_query(self) -> np.ndarray:
        return self.training.val_query

    @property
    def val_gallery(self) -> np.ndarray:
        return self.training.val_gallery

    @property
    def seen(self) -> tuple[str, ...]:
        return self.training.seen


def drawn_share(manifest: Manifest, rows: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Of each class's rows, a random `share`, at least one: sorted rows."""
    classes = manifest.samples.class_name.to_numpy()[rows]
    drawn = []
    for class_name in np.unique(classes):
        rows_of_class = rows[classes == class_name]
        random = np.random.default_rng([seed, zlib.crc32(class_name.encode())])
        drawn.append(random.permutation(rows_of_class)[: max(1, round(share * len(rows_of_class)))])
    return np.sort(np.concatenate(drawn)) if drawn else np.array([], int)


def generalised_samples(
    manifest: Manifest, split: Split, rows: np.ndarray, domains: tuple[str, ...], share: float, seed: int
) -> np.ndarray:
    """Of these rows, in each domain at random `share` as many as it has test rows: sorted rows."""
    domain_of_row = manifest.samples.domain.to_numpy()[rows]
    random = np.random.default_rng([seed, 21])
    drawn = [
        random.permutation(rows[domain_of_row == domain])[: round(share * len(manifest.rows([domain], split.test)))]
        for domain in domains
    ]
    return np.sort(np.concatenate(drawn))


def training(
    manifest: Manifest,
    split: Split,
    domains,
    gallery_domain: str,
    *,
    gallery_held_out: float = 0.0,
    classes_left_out: float = 0.0,
    samples_left_out: float = 0.0,
    seed: int = 0,
) -> Training:
    """What training may see: `split.train` in `domains`, less the shares kept out.

    gallery_held_out   share of each trained class's gallery-domain photos kept for the seen part of the gallery
    classes_left_out   share of the seen classes kept out of training (gzs_sbir, reading "classes")
    samples_left_out   samples of trained classes kept out of training, as a share of the number of test samples
                       (gzs_sbir, reading "samples")

    Validation queries come from every trained domain but the gallery's, over the validation classes.
    Raises DataError for a domain that does not exist and for an empty part.
    """
    shares = {
        "gallery_held_out": gallery_held_out,
        "classes_left_out": classes_left_out,
        "samples_left_out": samples_left_out,
    }
    for name, share in shares.items():
        if not 0 <= share < 1:
            raise DataError(f"{name} must lie in [0, 1), not {share}")
    domains = tuple(domains)
    if len(set(domains)) < len(domains):
        raise DataError(f"the training domains {', '.join(domains)} name one twice")
    manifest.check_domain(gallery_domain)
    if gallery_domain not in domains:
        raise DataError(f"the gallery domain {gallery_domain!r} is not among the training domains {', '.join(domains)}")
    split = split.resolve(manifest)
    left_out: tuple[str, ...] = ()
    if classes_left_out:
        order = np.random.default_rng([seed, 20]).permutation(sorted(split.train))
        left_out = tuple(sorted(str(c) for c in order[: max(1, round(classes_left_out * len(order)))]))
    seen = tuple(c for c in sorted(split.train) if c not in left_out)
    rows = manifest.rows(domains, seen)
    held_out = np.array([], int)
    if gallery_held_out:
        held_out = drawn_share(manifest, manifest.rows([gallery_domain], seen), gallery_held_out, seed)
    rows = np.setdiff1d(rows, held_out)
    query_domains = [d for d in domains if d != gallery_domain]
    left_out_samples = np.array([], int)
    if samples_left_out:
        both = (*query_domains, gallery_domain)
        left_out_samples = generalised_samples(manifest, split, rows, both, samples_left_out, seed)
    rows = np.setdiff1d(rows, left_out_samples)
    present = set(manifest.samples.class_name.to_numpy()[rows])
    empty = [c for c in seen if c not in present]
    if empty:
        raise DataError(
            f"training classes without any image in the domains {', '.join(domains)}: {', '.join(empty[:10])}"
        )
    for domain in domains:
        if not (manifest.samples.domain.to_numpy()[rows] == domain).any():
            raise DataError(f"domain {domain!r} has no image of a training class")
    return Training(
        manifest,
        split,
        domains,
        gallery_domain,
        seed,
        seen,
        left_out,
        left_out_samples,
        rows,
        held_out,
        val_query=manifest.rows(query_domains, split.val) if query_domains else np.array([], int),
        val_gallery=manifest.rows([gallery_domain], split.val),
        unlabelled=manifest.rows([gallery_domain], (*split.val, *split.test)),
    )


def task_of(trained: Training, evaluation: Evaluation) -> Task:
    """The test rows of one evaluation of a training.

    Raises DataError where the protocol does not fit the training, or a part is empty.
    """
    manifest, split, seed = trained.manifest, trained.split, trained.seed
    domain, gallery_domain = evaluation.query_domain, trained.gallery_domain
    manifest.check_domain(domain)
    unseen_domain = evaluation.protocol in ("ucdr", "udcdr")
    if unseen_domain == (domain in trained.domains):
        raise DataError(
            f"protocol {evaluation.protocol} asks from {'an unseen' if unseen_domain else 'a trained'} domain, but "
            f"{domain!r} is {'not ' * (not unseen_domain)}among the training domains {', '.join(trained.domains)}"
        )
    if evaluation.gallery != "unseen" and not len(trained.held_out) and evaluation.protocol != "gzs_sbir":
        raise DataError(
            f"gallery {evaluation.gallery!r} needs gallery photos kept out of training: set gallery_held_out above 0"
        )
    unseen_query, unseen_gallery = manifest.rows([domain], split.test), manifest.rows([gallery_domain], split.test)
    if evaluation.protocol == "udcdr":
        query = drawn_share(manifest, manifest.rows([domain], trained.seen), evaluation.query_share, seed)
        gallery = trained.held_out
    elif evaluation.protocol == "gzs_sbir":
        if evaluation.reading == "classes":
            if not trained.left_out:
                raise DataError(
                    "gzs_sbir, reading 'classes', needs a training that left seen classes out: set classes_left_out"
                )
            extra_query, extra_gallery = (manifest.rows([d], trained.left_out) for d in (domain, gallery_domain))
        else:
            both, samples = (domain, gallery_domain), trained.left_out_samples
            if not len(samples):
                samples = generalised_samples(manifest, split, trained.train, both, GENERALISED_SHARE, seed)
            domain_of_sample = manifest.samples.domain.to_numpy()[samples]
            extra_query, extra_gallery = (samples[domain_of_sample == d] for d in both)
        query = np.sort(np.concatenate([unseen_query, extra_query]))
        gallery = np.sort(np.concatenate([unseen_gallery, extra_gallery]))
    else:
        query, gallery = unseen_query, unseen_gallery
        if evaluation.gallery != "unseen":
            gallery = np.sort(np.concatenate([unseen_gallery, trained.held_out]))
    for part, rows, of_domain in (("query", query, domain), ("gallery", gallery, gallery_domain)):
        if not len(rows):
            raise DataError(
                f"the {part} set of {evaluation.name} is empty: domain {of_domain!r} has no image of the classes "
                f"asked for ({', '.join(split.test[:5])}, ...)"
            )
    return Task(trained, evaluation, query, gallery)


def answerable(trained: Training, *, query_share: float = 1.0) -> list[Evaluation]:
    """Every evaluation that this training allows and that has samples, in a fixed order; query_share: of udcdr."""
    manifest = trained.manifest
    domains = manifest.samples.domain.to_numpy()
    with_unseen, with_seen = (
        set(domains[manifest.rows(classes=classes)]) for classes in (trained.split.test, trained.seen)
    )
    evaluations = []
    for domain in manifest.domains:
        if domain == trained.gallery_domain or domain not in with_unseen:
            continue
        protocol = "uccdr" if domain in trained.domains else "ucdr"
        if domain in trained.domains and len(trained.domains) == 2 and not len(trained.held_out):
            reading = "classes" if trained.left_out else "samples"
            evaluations.append(Evaluation("zs_sbir", domain))
            evaluations.append(Evaluation("gzs_sbir", domain, "seen+unseen", reading=reading))
        else:
            evaluations.append(Evaluation(protocol, domain))
        if len(trained.held_out):
            evaluations.append(Evaluation(protocol, domain, "seen+unseen"))
            if domain not in trained.domains and domain in with_seen:
                evaluations.append(Evaluation("udcdr", domain, "seen", query_share))
    return evaluations


def zs_sbir(manifest: Manifest, split: Split, query_domain: str, gallery_domain: str, *, seed: int = 0) -> Task:
    """Zero-shot SBIR: train on both domains of the seen classes, query and search the unseen ones."""
    trained = training(manifest, split, (query_domain, gallery_domain), gallery_domain, seed=seed)
    return task_of(trained, Evaluation("zs_sbir", query_domain))


def gzs_sbir(
    manifest: Manifest,
    split: Split,
    query_domain: str,
    gallery_domain: str,
    *,
    reading: str = "samples",
    trained_on: bool = False,
    seed: int = 0,
) -> Task:
    """Generalised zero-shot SBIR: seen classes are queried and searched too, in a reading (see Evaluation).

    trained_on   True: the seen test samples of the reading "samples" are trained on too
    """
    evaluation = Evaluation("gzs_sbir", query_domain, "seen+unseen", reading=reading)
    left_out = {} if trained_on else {f"{reading}_left_out": GENERALISED_SHARE}
    trained = training(manifest, split, (query_domain, gallery_domain), gallery_domain, seed=seed, **left_out)
    return task_of(trained, evaluation)


def uc_cdr(
    manifest: Manifest,
    split: Split,
    train_domains,
    query_domain: str,
    gallery_domain: str,
    *,
    gallery: str = "unseen",
    gallery_held_out: float = 0.08,
    seed: int = 0,
) -> Task:
    """UcCDR: unseen classes, queried from one of the trained domains."""
    trained = training(manifest, split, train_domains, gallery_domain, gallery_held_out=gallery_held_out, seed=seed)
    return task_of(trained, Evaluation("uccdr", query_domain, gallery))


def ud_cdr(
    manifest: Manifest,
    split: Split,
    train_domains,
    query_domain: str,
    gallery_domain: str,
    *,
    query_share: float = 0.1,
    gallery_held_out: float = 0.08,
    seed: int = 0,
) -> Task:
    """UdCDR: seen classes, queried from a domain that training has not seen; the gallery are held-out photos."""
    trained = training(manifest, split, train_domains, gallery_domain, gallery_held_out=gallery_held_out, seed=seed)
    return task_of(trained, Evaluation("udcdr", query_domain, "seen", query_share))


def ucdr(
    manifest: Manifest,
    split: Split,
    train_domains,
    query_domain: str,
    gallery_domain: str,
    *,
    gallery: str = "unseen",
    gallery_held_out: float = 0.08,
    seed: int = 0,
) -> Task:
    """UCDR: unseen classes, queried from a domain that training has not seen."""
    trained = training(manifest, split, train_domains, gallery_domain, gallery_held_out=gallery_held_out, seed=seed)
    return task_of(trained, Evaluation("ucdr", query_domain, gallery))
