"""What this edition holds: counts of tables, runs and verdicts for the landing page, and what the evidence was made
by."""

from __future__ import annotations

import json
from collections import Counter
from importlib.metadata import version
from typing import Any

from ucdr_core import chapters, paths
from ucdr_core.chapters import story
from ucdr_core.chapters.tiers import TIERS, Tier, tier_of
from ucdr_core.evidence import committed, verdicts
from ucdr_core.evidence.code import code_digest
from ucdr_core.evidence.record import MissingRun, RunRecord
from ucdr_core.evidence.rows import Listing
from ucdr_core.evidence.statistics import difference_of
from ucdr_core.evidence.store import Store
from ucdr_core.render.tables import Rendered, digest_of_runs, render_listing

LIBRARIES = (
    "torch",
    "torchvision",
    "timm",
    "numpy",
    "scipy",
    "scikit-learn",
    "umap-learn",
    "faiss-cpu",
    "jupyter-book",
    "nbval",
    "papermill",
)


def glance(papers: tuple[str, ...] = chapters.PAPERS, tier: str | Tier = "embedded") -> dict[str, dict[str, int]]:
    """{paper: its tables, figures, runs, and how many of the order claims of its tables came out which way}, and their
    sum as "all"."""
    tier, store = tier_of(tier), Store()
    counts: dict[str, dict[str, int]] = {}
    for paper in papers:
        chapter = chapters.load(paper)
        claims = [claim for build in chapter.CLAIMS.values() for claim in build(tier) if claim.reported is not None]
        found: Counter[str] = Counter()
        for claim in claims:
            try:
                setting = verdicts.setting(claim.runs, tier.name)
                found[verdicts.verdict(difference_of(claim, store), claim.reported, setting).kind] += 1
            except MissingRun:
                found["not run"] += 1
        counts[paper] = {
            "tables": len(chapter.TABLES),
            "figures": len(chapter.FIGURES),
            "runs": len(chapters.runs_of(tier, paper)),
            "claims": len(claims),
            **{name: found[name] for name in verdicts.OF_CLAIMS},
        }
    counts["all"] = {name: sum(one[name] for one in counts.values()) for name in counts[papers[0]]}
    # Papers share runs, and the chapters across them have their own.
    counts["all"]["runs"] = len(chapters.runs_of(tier, *papers, *chapters.ACROSS))
    return counts


def glance_table(counts: dict[str, dict[str, int]]) -> Rendered:
    rows = tuple(
        (
            story.TITLES.get(paper, "all chapters"),
            *(str(one[name]) for name in ("tables", "figures", "runs", "claims", *verdicts.OF_CLAIMS)),
        )
        for paper, one in counts.items()
    )
    return render_listing(
        Listing(
            "status",
            "glance",
            f"What was run, and what came of the order that a paper's tables claim. {verdicts.LEGEND}",
            ("Paper", "Tables", "Figures", "Runs", "Claims of order", *verdicts.OF_CLAIMS),
            rows,
            "Counted from the run records; the claims themselves stand below each chapter's tables. Papers share runs.",
        )
    )


def runs_table(tier: str | Tier = "embedded") -> Rendered:
    """Every chapter's runs: how many, and the digest of their keys, which are the same on every machine."""
    rows = []
    for chapter in (*chapters.PAPERS, *chapters.ACROSS):
        specs = chapters.runs_of(tier, chapter)
        keys = sorted(chapters.name_of(spec) for spec in specs)
        data = ", ".join(sorted({spec.dataset for spec in specs}))
        rows.append((chapter, str(len(keys)), digest_of_runs(keys), data))
    return render_listing(
        Listing(
            "status",
            "runs",
            "The runs behind each chapter.",
            ("Chapter", "Runs", "Digest of their keys", "Data"),
            tuple(rows),
            "`ucdr reproduce --paper CHAPTER --list` prints every key.",
        )
    )


def evidence_table() -> Rendered:
    """The committed evidence of each tier: how many of the runs that the tables need it holds, and how large it is."""
    rows = []
    for name, tier in TIERS.items():
        if tier.same_terms:
            continue  # runs of tier paper are a user's own
        needed = {chapters.name_of(spec) for spec in chapters.runs_of(tier)}
        committed_runs = committed.runs_of(name)
        size = committed.file_of(name).stat().st_size / 1e6 if committed_runs else 0.0
        rows.append(
            (
                name,
                f"{len(needed & set(committed_runs)):,} of {len(needed):,}",
                f"{len(committed_runs):,}",
                f"{size:.1f} MB",
            )
        )
    return render_listing(
        Listing(
            "status",
            "evidence",
            "The evidence that ships with this edition. Tier paper has none: its runs are a user's own.",
            ("Tier", "Runs that its tables need", "Committed runs", "Size"),
            tuple(rows),
            "`ucdr verify --all` trains the runs of a tier anew.",
        )
    )


SOAK = paths.PACKAGE / "evidence" / "soak.json"
SOAKED = {  # kinds of `tests/fuzz`
    "evaluate": "Files of embeddings, scored",
    "picture": "Picture files, read",
    "split": "Split files, read",
    "spec": "Values of a run, read",
    "vectors": "Files of word vectors, read",
    "archive": "Archives, unpacked",
    "folder": "Folders of pictures with odd files and links, packed",
    "options": "Command lines with odd words",
    "kill": "Commands killed at any moment, called again",
    "flip": "Bits flipped in runs, states, caches and indexes",
    "full disk": "A disk that is full, then larger",
    "file limit": "Files that may not grow, then may",
}


def soak_table() -> Rendered:
    """The last soak (`make soak`): how many cases of each kind, and how they ended."""
    soak = json.loads(SOAK.read_text())
    ends = ("cases", "right", "refused", "failed")
    counts = {**soak["kinds"], "all": {end: sum(one[end] for one in soak["kinds"].values()) for end in ends}}
    rows = tuple((SOAKED.get(kind, "All"), *(f"{one[end]:,}" for end in ends)) for kind, one in counts.items())
    return render_listing(
        Listing(
            "status",
            "soak",
            f"The last soak: {soak['minutes']:.0f} minutes on {soak['date']}, {soak['machine']}. 'Right': with the "
            "number of an independent computation or of a run without a fault. 'Refused': in one line that names the "
            "file or the field.",
            ("What was given", "Cases", "Right", "Refused", "Failed"),
            rows,
            "`make soak` draws others.",
        )
    )


def stale_share(tier: str = "embedded") -> str:
    """How much of the evidence was made by other code than this, in one line."""
    runs = committed.runs_of(tier).values()
    stale = [run for run in runs if run.result["code"] != current_code(run)]
    systems = Counter(run.spec.method for run in stale)
    return (
        f"{len(stale)} of {len(runs)} runs of tier {tier} were made by other code than this"
        + (f" ({', '.join(f'{name} {count}' for name, count in sorted(systems.items()))})" if stale else "")
        + "; `ucdr verify --stale` trains a sample of each such system anew"
    )


def current_code(run: RunRecord) -> str:
    """The digest of the code that would make the run today."""
    spec = run.spec
    return code_digest(spec.method, *([spec.features["method"]] if spec.features else []))


def circumstances(tier: str = "embedded") -> dict[str, Any]:
    """Of the evidence: when, on what, by which versions, and how long."""
    records = [run.circumstances for run in committed.runs_of(tier).values()]
    if not records:
        return {"runs": 0}
    finished = sorted(one["finished"] for one in records)
    return {
        "runs": len(records),
        "first finished": finished[0],
        "last finished": finished[-1],
        "hours of runs": round(sum(one["seconds"] for one in records) / 3600, 2),
        "devices": sorted({f"{one['device_kind']} {one['device']}" for one in records}),
        "instruction sets": sorted({one.get("cpu_capability", "") for one in records}),
        "python": sorted({one["python"] for one in records}),
        "largest memory of a run, MB": max(one["peak_memory_mb"] for one in records),
        "commits": sorted({one["commit"] for one in records if one["commit"]}),
        **{f"{name} (installed)": version(name) for name in LIBRARIES},
    }
