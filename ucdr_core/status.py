"""What this edition holds: counts of tables, runs and verdicts for the landing page, and circumstances of the runs for the status page."""
from __future__ import annotations

from collections import Counter
from importlib.metadata import version
from typing import Any

from . import figures, papers, tables
from .papers import ACROSS, PAPERS, Listing
from .runs import Store

VERDICTS = ("as in the paper", "opposite to the paper", "undecided")
LIBRARIES = ("torch", "torchvision", "timm", "numpy", "scipy", "scikit-learn", "umap-learn", "faiss-cpu", "jupyter-book", "nbval", "papermill")


def glance(chapters: tuple[str, ...] = PAPERS) -> dict[str, dict[str, int]]:
    """{paper: its tables, figures, runs, and how many of the order claims of its tables came out which way}, and their sum as "all"."""
    store, found = Store(), {}
    for paper in chapters:
        own = papers.load(paper)
        claims = [claim for build in own.CLAIMS.values() for claim in build() if claim.reported is not None]
        verdicts = Counter(tables.verdict(claim, tables.difference_of(claim, store)) for claim in claims)
        found[paper] = {"tables": len(own.TABLES), "figures": len(figures.FIGURES[paper]), "runs": len(papers.specs_of(paper)), "claims": len(claims),
                        **{verdict: verdicts[verdict] for verdict in VERDICTS}}
    found["all"] = {name: sum(own[name] for own in found.values()) for name in found[chapters[0]]}
    found["all"]["runs"] = len(papers.specs_of(*chapters, *ACROSS))  # papers share runs, and the chapters across them have their own
    return found


def glance_table(found: dict[str, dict[str, int]]) -> tables.Rendered:
    rows = tuple((figures.TITLES.get(paper, "all chapters"), *(str(own[name]) for name in ("tables", "figures", "runs", "claims", *VERDICTS))) for paper, own in found.items())
    listing = Listing("status", "glance", "What was run, and whether the order that a paper's tables claim came out on the embedded data. Undecided: the 95% interval holds zero.",
                      ("Paper", "Tables", "Figures", "Runs", "Claims of order", *VERDICTS), rows,
                      "Counted from the run records; the claims themselves stand below each chapter's tables. Papers share runs.")
    return tables.shown(listing)


def runs_table() -> tables.Rendered:
    """Every chapter's runs: how many, and the digest of their keys, which are the same on every machine."""
    rows = []
    for chapter in (*PAPERS, *ACROSS):
        specs = papers.specs_of(chapter)
        keys = sorted(spec.key for spec in specs)
        data = ", ".join(sorted({spec.dataset.removeprefix("emoji-") for spec in specs}))
        rows.append((chapter, str(len(keys)), tables.together(keys), data))
    return tables.shown(Listing("status", "runs", "The runs behind each chapter.", ("Chapter", "Runs", "Digest of their keys", "Analogues"), tuple(rows),
                                "`ucdr reproduce --paper CHAPTER --list` prints every key."))


def circumstances() -> dict[str, Any]:
    """Of the machine's runs: when, on what, by which versions, and how long; differs from machine to machine."""
    store = Store()
    records = [store.need(spec).circumstances for spec in papers.specs_of(*PAPERS, *ACROSS)]
    finished = sorted(own["finished"] for own in records)
    return {
        "runs": len(records), "first finished": finished[0], "last finished": finished[-1], "hours of runs": round(sum(own["seconds"] for own in records) / 3600, 2),
        "devices": sorted({f"{own['device_kind']} {own['device']}" for own in records}), "instruction sets": sorted({own.get("cpu_capability", "") for own in records}),
        "python": sorted({own["python"] for own in records}), "largest memory of a run, MB": max(own["peak_memory_mb"] for own in records),
        "code": sorted({own["commit"] for own in records if own["commit"]}), **{f"{name} (installed)": version(name) for name in LIBRARIES},
    }
