"""Tiers of evidence: on what data a table's rows are trained, by which recipe, and by which metrics they are shown.

    embedded  the data that ships with the book, frozen trunk
    real      small sets of real pictures (sketchy25, PACS), frozen trunk
    paper     the papers' own data, recipes and metrics

Chapters name a row by its method, the paper's data set ("view") and what makes it that row; the tier turns that into
trainings. A view that a tier has no data for gives no trainings, so that its cells stay empty.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from dataclasses import replace
from itertools import combinations
from typing import Any

from ucdr_core import data, documents
from ucdr_core.chapters import paper_recipes
from ucdr_core.chapters.systems import SEEDS, SYSTEMS, frozen_defaults
from ucdr_core.data.splits import PACS
from ucdr_core.evidence.rows import Runs, Terms
from ucdr_core.methods import METHODS
from ucdr_core.retrieval.metrics import METRICS
from ucdr_core.training.spec import FOLDS, TrainSpec

SKETCH_PHOTO = ("sketchy", "tuberlin", "quickdraw")  # views of two domains
TITLES = {"sketchy": "Sketchy", "tuberlin": "TU-Berlin", "quickdraw": "QuickDraw", "domainnet": "DomainNet"}


class Tier(ABC):
    """What a chapter asks of a tier."""

    name: str
    title: str  # after a caption: "on ..."
    same_terms = False  # True: our numbers stand on the paper's data, by its metric
    small_metrics: dict[str, str] = {}  # printed metric -> the one that stands for it on small galleries
    folded = False  # True: claims are judged over class folds

    @abstractmethod
    def domains(self, view: str) -> tuple[str, ...]:
        """Of the data set that stands for the view; none where the tier has none."""

    @abstractmethod
    def values(
        self, method: str, view: str, domains: tuple[str, ...], gallery: str, paper_split: str = "", made_by: str = ""
    ) -> dict[str, Any]:
        """Values of a TrainSpec for the method on the view, as the tier trains it; the last two as of `spec`."""

    def has(self, view: str) -> bool:
        return bool(self.domains(view))

    def gallery(self, view: str, held_out: str = "") -> str:
        """The domain that is searched, where `held_out` asks."""
        return "real" if view == "domainnet" else "photo"

    def query_domains(self, view: str) -> tuple[str, ...]:
        """The domains that ask, in the order of the view's tables."""
        return tuple(domain for domain in self.domains(view) if domain != self.gallery(view))

    def without(self, view: str, domain: str) -> tuple[str, ...]:
        """The training domains where this one is held out."""
        return tuple(d for d in self.domains(view) if d != domain)

    def metric(self, printed: str, terms: Terms | None = None, small: str = "") -> str:
        """What we show beside a printed metric: on small galleries another stands for it (`small` names it, else the
        tier does)."""
        return small or self.small_metrics[printed]

    def evaluation(self, name: str) -> str:
        """The name of an evaluation on this tier."""
        return name

    def spec(
        self,
        method: str,
        view: str,
        *,
        domains: tuple[str, ...] | None = None,
        held_out: str = "",
        options: dict | None = None,
        recipe: dict | None = None,
        fed_by: dict | None = None,
        other_backbone: bool = False,
        paper_split: str = "",
        made_by: str = "",
        **values: Any,
    ) -> TrainSpec | None:
        """One training of a row, or None where the tier has no data for the view.

        domains         trained on; default: all of the view but `held_out`
        options, recipe what makes it that row, on top of the tier's
        fed_by          options of Simple, whose features the method is trained on, on top of the tier's
        other_backbone  on the trunk that SnMpNet's Table 1 compares with
        paper_split     that the paper's table stands on, where it is not the view's own; tier paper has it
        made_by         the paper whose authors made the row with a version of their own
        values          any other value of the spec
        """
        if not self.has(view):
            return None
        gallery = self.gallery(view, held_out)
        domains = tuple(domains) if domains else self.without(view, held_out)
        mapping = self.values(method, view, domains, gallery, paper_split, made_by)
        for name, changes in (("options", options), ("recipe", recipe)):
            if name in mapping or changes:
                mapping[name] = {**mapping.get(name, {}), **(changes or {})}
        if fed_by:
            mapping["features"] = {**mapping["features"], "options": {**mapping["features"]["options"], **fed_by}}
        if other_backbone:
            mapping["backbone"] = self.other_backbone
            mapping.get("options", {}).pop("fully_connected", None)
        return TrainSpec.from_mapping(
            {"method": method, **mapping, "train_domains": domains, "gallery_domain": gallery, **values}
        )

    other_backbone = "efficientnet_lite1"

    def runs(self, method: str, view: str, seeds: tuple[int, ...] = SEEDS, **row: Any) -> Runs:
        """The trainings of a row, one per seed (one alone where no seed can change it); see `spec`."""
        spec = self.spec(method, view, **row)
        return () if spec is None else seeded(spec, self.seeds(seeds))

    def seeds(self, wished: tuple[int, ...]) -> tuple[int, ...]:
        return wished

    def fold_runs(self, method: str, view: str, seeds: tuple[int, ...] = SEEDS, **row: Any) -> tuple[Runs, ...]:
        """What a claim compares, as [fold][seed]: class folds, or where the tier has none the one split."""
        runs = self.runs(method, view, seeds, **row)
        if not self.folded or not runs:
            return (runs,)
        return tuple(seeded(replace(runs[0], split=f"{runs[0].split}_fold{fold}"), SEEDS[:1]) for fold in range(FOLDS))

    def system(self, label: str, view: str, seeds: tuple[int, ...], **row: Any) -> Runs:
        """The trainings of a line of the comparisons across papers."""
        system = SYSTEMS[label]
        line = {"options": system.options, "fed_by": system.fed_by, "made_by": system.made_by}
        return self.runs(system.method, view, seeds, **line, **row)


WEIGHTS = ("lambda_mp", "kappa", "beta")  # which SnMpNet's authors change from one data set to another


def with_published_weights(values: dict[str, Any], method: str, view: str, domains: tuple[str, ...]) -> dict[str, Any]:
    """Values of a spec with SnMpNet's weights of the view; the defaults have those of Sketchy's 21 classes."""
    if method != "snmpnet" or view not in ("tuberlin", "domainnet"):
        return values
    published = paper_recipes.defaults(method, view, domains)["options"]
    return {**values, "options": {**values["options"], **{name: published[name] for name in WEIGHTS}}}


def seeded(spec: TrainSpec, seeds: tuple[int, ...]) -> Runs:
    """One spec per seed; a row that no seed can change has one."""
    cls = METHODS[spec.method]
    if not cls.trained and spec.method != "chance" or cls.closed_form and not spec.features:
        return (replace(spec, seed=0),)
    return tuple(replace(spec, seed=seed) for seed in seeds)


class Embedded(Tier):
    """EmojiDomains: an analogue of each paper's data set, in nine styles by independent designers."""

    name, title = "embedded", "the embedded data"
    small_metrics = {"map_all": "map_all", "map_200": "map_all", "prec_100": "prec_10", "prec_200": "prec_10"}
    folded = True
    DOMAINNET = ("real", "sketch", "quickdraw", "painting", "infograph", "clipart")

    def domains(self, view: str) -> tuple[str, ...]:
        return self.DOMAINNET if view == "domainnet" else ("sketch", "photo")

    def values(
        self, method: str, view: str, domains: tuple[str, ...], gallery: str, paper_split: str = "", made_by: str = ""
    ) -> dict[str, Any]:
        values = {"dataset": f"emoji-{view}", "split": "emoji", **frozen_defaults(method, made_by=made_by)}
        values = with_published_weights(values, method, view, domains)
        # A quarter of each seen class's Real images is held out (DomainNet: 8% of some 500; here a class has about
        # nine, and 8% would be less than one).
        return values | ({"gallery_held_out": 0.25} if view == "domainnet" else {})


class Real(Tier):
    """Real photos and drawings that may not be redistributed: 25 of each class of Sketchy, and PACS for DomainNet."""

    name, title = "real", "real pictures"
    small_metrics = Embedded.small_metrics
    PACS_DOMAINS = ("photo", "sketch", "cartoon", "art_painting")
    EPOCHS = 10  # on PACS, where no class is left to choose an epoch by

    def domains(self, view: str) -> tuple[str, ...]:
        return {"sketchy": ("sketch", "photo"), "domainnet": self.PACS_DOMAINS}.get(view, ())

    def gallery(self, view: str, held_out: str = "") -> str:
        return "art_painting" if view == "domainnet" and held_out == "photo" else "photo"

    def query_domains(self, view: str) -> tuple[str, ...]:
        return ("sketch", "cartoon", "art_painting", "photo") if view == "domainnet" else super().query_domains(view)

    def values(
        self, method: str, view: str, domains: tuple[str, ...], gallery: str, paper_split: str = "", made_by: str = ""
    ) -> dict[str, Any]:
        values = frozen_defaults(method, real=True, made_by=made_by)
        values = with_published_weights(values, method, view, domains)
        if view == "sketchy":
            return {"dataset": "sketchy25", "split": "sketchy_yelamarthi", **values}
        if "recipe" in values:
            values["recipe"] = {**values["recipe"], "selection": "last", "epochs": self.EPOCHS}
        return {"dataset": "pacs", "split": pacs_split(CHOICES[0]), **values}

    def seeds(self, wished: tuple[int, ...]) -> tuple[int, ...]:
        return SEEDS

    def runs(self, method: str, view: str, seeds: tuple[int, ...] = SEEDS, **row: Any) -> Runs:
        if view != "domainnet" or "split" in row:
            return super().runs(method, view, seeds, **row)
        spec = self.spec(method, view, seed=0, **row)
        return tuple(replace(spec, split=pacs_split(choice)) for choice in CHOICES)

    def fold_runs(self, method: str, view: str, seeds: tuple[int, ...] = SEEDS, **row: Any) -> tuple[Runs, ...]:
        runs = self.runs(method, view, seeds, **row)
        return tuple((run,) for run in runs) if view == "domainnet" else (runs,)


CHOICES = tuple(combinations(PACS, 2))  # of two unseen classes of PACS


def pacs_split(choice: tuple[str, str]) -> str:
    return "pacs_without_" + "_".join(choice)


class Paper(Tier):
    """The papers' data under $UCDR_DATA, their recipes, their metrics.

    For a trial on a small machine $UCDR_TRIAL holds JSON values that are laid over every spec, such as {"weights":
    "random", "size_px": 64, "recipe": {"epochs": 1}}; tables then say so.
    """

    name, title = "paper", "the papers' data"
    same_terms = True
    other_backbone = paper_recipes.OTHER_BACKBONE

    def domains(self, view: str) -> tuple[str, ...]:
        return Embedded.DOMAINNET if view == "domainnet" else ("sketch", "photo")

    def metric(self, printed: str, terms: Terms | None = None, small: str = "") -> str:
        return terms.variant if terms is not None and terms.variant in METRICS else printed

    def evaluation(self, name: str) -> str:
        protocol, domain, *_ = name.split(":")
        return f"{name}:{paper_recipes.query_share(domain):g}" if protocol == "udcdr" else name

    def values(
        self, method: str, view: str, domains: tuple[str, ...], gallery: str, paper_split: str = "", made_by: str = ""
    ) -> dict[str, Any]:
        return paper_recipes.defaults(method, view, domains, paper_split, made_by)

    def spec(self, method: str, view: str, **row: Any) -> TrainSpec | None:
        spec = super().spec(method, view, **row)
        trial = self.trial()
        if not trial or spec is None:
            return spec
        mapping = spec.mapping()
        for name, value in trial.items():
            mapping[name] = {**mapping[name], **value} if name in ("options", "recipe") else value
        if not METHODS[method].trained:
            mapping |= {"options": {}, "recipe": spec.recipe}
        if mapping["features"]:
            mapping["features"] = {
                **mapping["features"],
                "recipe": {**mapping["features"]["recipe"], **trial.get("recipe", {})},
            }
        return TrainSpec.from_mapping(mapping)

    @staticmethod
    def trial() -> dict[str, Any]:
        """The values of $UCDR_TRIAL.  Raises DataError where it holds something else than one JSON object."""
        try:
            values = documents.parsed(os.environ.get("UCDR_TRIAL", "") or "{}")
            documents.check(values, dict)
            for name in ("options", "recipe"):
                documents.check(values.get(name, {}), dict, name)
        except documents.DocumentError as error:
            raise data.DataError(f"UCDR_TRIAL: {error}; unset it, or give one JSON object of spec values") from error
        return values


TIERS: dict[str, Tier] = {tier.name: tier for tier in (Embedded(), Real(), Paper())}


def tier_of(name: str | Tier) -> Tier:
    """The tier of this name.  Raises DataError naming those there are."""
    if isinstance(name, Tier):
        return name
    if name not in TIERS:
        raise data.DataError(f"unknown tier {name!r}; known: {', '.join(TIERS)}")
    return TIERS[name]
