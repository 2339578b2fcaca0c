"""SnMpNet's figures."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ucdr_core.chapters.common import ZERO_SHOT, Absent, first_run
from ucdr_core.chapters.snmpnet.rows import BOTH_GALLERIES, KAPPAS, LABELS, kappa_runs
from ucdr_core.chapters.tiers import Tier
from ucdr_core.evidence.record import RunRecord
from ucdr_core.evidence.store import Store
from ucdr_core.methods import semantics
from ucdr_core.render import drawing
from ucdr_core.render.drawing import Drawing
from ucdr_core.training.spec import TrainSpec


def model_without(tier: Tier, store: Store, held_out: str, method: str = "snmpnet") -> RunRecord:
    """The method trained without a domain of DomainNet, seed 0."""
    return first_run(tier.runs(method, "domainnet", held_out=held_out), store)


def _retrieved(domain: str, protocol: str, held_out: str, number: int = 7) -> Callable[[Tier, Store], Drawing]:
    def draw(tier: Tier, store: Store) -> Drawing:
        record = model_without(tier, store, held_out)
        galleries = [gallery for gallery in BOTH_GALLERIES if f"{protocol}:{domain}:{gallery}" in record.evaluations]
        if not galleries:
            raise Absent(f"{domain} is no domain of this tier")
        parts = [(f"gallery {gallery}", record, f"{protocol}:{domain}:{gallery}") for gallery in galleries]
        return drawing.retrieval_grid(parts, drawing.one_query_per_class(record, parts[0][2], number))

    return draw


def related_classes(record: RunRecord, unseen: int = 4) -> tuple[list[str], list[str]]:
    """Unseen classes and, for each, the seen class whose word vector is nearest: the pairs that Figure 3 looks for."""
    split = record.spec.class_split()
    names = (*split.train, *split.test)
    vectors = semantics.prepare(semantics.class_vectors(names, words=split.words), length=1.0)
    seen, test = vectors[: len(split.train)], vectors[len(split.train) :]
    similarity = test @ seen.T
    chosen: list[str] = []
    partners: list[str] = []
    for index in np.argsort(-similarity.max(1), kind="stable"):
        partner = split.train[int(similarity[index].argmax())]
        if partner not in partners:
            chosen.append(split.test[index])
            partners.append(partner)
        if len(chosen) == unseen:
            break
    return chosen, partners


POINTS = 40  # of a class and domain: more hide one another, and are kept in the evidence


def _map_rows(record: RunRecord, domain: str, unseen: list[str], seen: list[str]) -> np.ndarray:
    """Unseen classes from `domain`, their related seen classes from the gallery domain; up to POINTS pictures of each,
    evenly spaced in the order of their names."""
    manifest = record.spec.manifest()
    shown = [(domain, name) for name in unseen] + [(record.spec.gallery_domain, name) for name in (*seen, *unseen)]
    parts = [manifest.rows([where], [name]) for where, name in shown]
    return np.sort(
        np.concatenate([rows[np.linspace(0, len(rows) - 1, min(len(rows), POINTS)).astype(int)] for rows in parts])
    )


def _figure3(tier: Tier, store: Store) -> Drawing:
    record = model_without(tier, store, "sketch")
    unseen, seen = related_classes(record)
    points = drawing.points_of("SnMpNet, sketch (unseen domain)", record, _map_rows(record, "sketch", unseen, seen))
    drawn = drawing.embedding_maps([points], unseen)
    pairs = ", ".join(f"{u} ({s})" for u, s in zip(unseen, seen))
    return Drawing(drawn.figure, drawn.fingerprint + f"\nunseen classes (their nearest seen class by name): {pairs}")


def _figure5(tier: Tier, store: Store) -> Drawing:
    parts, unseen = [], []
    trained = next((domain for domain in ("quickdraw", "cartoon") if domain in tier.domains("domainnet")), "")
    for method in ("snmpnet", "cumix"):
        record = model_without(tier, store, "sketch", method)
        unseen, seen = related_classes(record)
        for domain, kind in ((trained, "seen domain"), ("sketch", "unseen domain")):
            parts.append(
                drawing.points_of(
                    f"{LABELS[method]}, {domain} ({kind})", record, _map_rows(record, domain, unseen, seen)
                )
            )
    return drawing.embedding_maps(parts, unseen)


def _figure4(tier: Tier, store: Store) -> Drawing:
    metric = tier.metric("map_200")
    selected: dict[str, list[list[float]]] = {"validation classes": [], "test classes": []}
    for specs in kappa_runs(tier).values():
        records = [store.need(spec) for spec in specs]
        selected["validation classes"].append(
            [max(entry[_validation(entry)] for entry in record.log) for record in records]
        )
        selected["test classes"].append([record.scores(ZERO_SHOT)[metric] for record in records])
    if not any(selected.values()):
        raise Absent("this tier has no data for it")
    series = {name: np.array(values) for name, values in selected.items()}
    drawn = drawing.curves(series, [f"{kappa:g}" for kappa in KAPPAS], "κ", metric)
    validation, test = (values.mean(1) for values in series.values())
    chosen, published = int(validation.argmax()), KAPPAS.index(tier.spec("snmpnet", "sketchy").options["kappa"])
    axis, lines = drawn.figure.axes[0], [drawn.fingerprint]
    for place, line, what in ((chosen, "--", "chosen on validation classes"), (published, ":", "published")):
        axis.axvline(place, color="black", lw=0.8, ls=line, label=f"{what}: κ={KAPPAS[place]:g}")
        lines.append(f"{what}: κ={KAPPAS[place]:g}, test classes {test[place]:.3f}")
    lines.append(f"best on test classes: κ={KAPPAS[int(test.argmax())]:g}, {test.max():.3f}")
    axis.legend(frameon=False)
    return Drawing(drawn.figure, "\n".join(lines))


def _validation(entry: dict) -> str:
    return next(name for name in entry if name.startswith("val_"))


FIGURES: dict[str, Callable[[Tier, Store], Drawing]] = {
    "figure2": _retrieved("quickdraw", "ucdr", "quickdraw"),
    "figure3": _figure3,
    "figure4": _figure4,
    "figure5": _figure5,
    "figure6": _retrieved("sketch", "ucdr", "sketch"),
    "figure6_uccdr": _retrieved("quickdraw", "uccdr", "sketch", 4),
}


def figure_runs(tier: Tier) -> list[TrainSpec]:
    return [spec for specs in kappa_runs(tier).values() for spec in specs]
