"""What a difference says of a claim: one of five verdicts, and in which setting."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ucdr_core.evidence.statistics import MARGIN, Difference
from ucdr_core.training.spec import TrainSpec

OF_CLAIMS = ("as claimed", "same sign, smaller", "no effect", "opposite", "cannot tell")
WITHOUT_PRINTED = ("higher", "lower", "no effect", "cannot tell")  # of a difference that no paper prints

_DETECTABLE = "beside it stands the smallest true difference that four in five repetitions would have told from 0."
LEGEND = (
    "Verdicts, from the 95% interval. 'As claimed': it lies on the printed side of 0 and reaches the printed "
    "difference. 'Same sign, smaller': it lies on that side and stays below the printed one. 'Opposite': it lies on "
    f"the other side. 'No effect': it holds 0, and lies within ±{MARGIN} or excludes the printed difference. 'Cannot "
    f"tell': it holds both 0 and the printed difference; {_DETECTABLE}"
)
LEGEND_WITHOUT_PRINTED = (
    f"'No effect': the 95% interval holds 0 and lies within ±{MARGIN}. 'Cannot tell': it holds 0 and is wider; "
    f"{_DETECTABLE}"
)


@dataclass(frozen=True)
class Verdict:
    """kind is one of `OF_CLAIMS` or `WITHOUT_PRINTED`; detail says by how much, where the kind needs it."""

    kind: str
    detail: str
    setting: str

    @property
    def short(self) -> str:
        return self.kind + (f" ({self.detail})" if self.detail else "")

    def __str__(self) -> str:
        return f"{self.short}, {self.setting}"


def verdict(difference: Difference, printed: float | None, setting: str) -> Verdict:
    """What the interval says of the printed difference; None: the paper prints none.

    The rules are those of `LEGEND`.  A printed difference of 0 claims no direction, and counts as none.
    """
    low, high = difference.low, difference.high
    if printed and printed < 0:  # seen from the printed side
        low, high = -high, -low
    detail = ""
    if low > 0:
        kind = "higher" if not printed else "as claimed" if high >= abs(printed) else "same sign, smaller"
    elif high < 0:
        kind = "opposite" if printed else "lower"
    elif max(-low, high) <= MARGIN:
        kind, detail = "no effect", f"within ±{MARGIN}"
    elif printed and high < abs(printed):
        kind, detail = "no effect", f"excludes the printed {printed:+.3f}"
    else:
        kind, detail = "cannot tell", f"from {difference.detectable:.3f} on it would show"
    return Verdict(kind, detail, setting)


DATA = {"embedded": "embedded data", "real": "real pictures", "paper": "the papers' data"}  # by tier
TRAINED = {"frozen": "on a frozen trunk", "last-blocks": "with the last blocks trained", "finetune": "fine-tuned"}


def setting(specs: Iterable[TrainSpec], tier: str) -> str:
    """How the runs were made, in the words that a verdict carries: "on a frozen trunk, embedded data"."""
    regimes = {spec.features.get("regime", spec.regime) for spec in specs}
    return f"{' or '.join(words for regime, words in TRAINED.items() if regime in regimes)}, {DATA[tier]}"
