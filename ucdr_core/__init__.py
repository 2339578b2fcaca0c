"""Universal cross-domain retrieval: protocols, methods, metrics and run records behind the UCDR reproducibility book.

ucdr_core.data          data sets, splits, protocols
ucdr_core.methods       methods by name
ucdr_core.fit           a training spec -> its run record, made if there is none yet
ucdr_core.evaluate      embeddings and labels -> every published metric
ucdr_core.search        a drawing -> the nearest pictures of a folder of one's own
ucdr_core.table         a paper's table beside ours, on a tier
ucdr_core.claims        the order that a table claims, as paired differences
ucdr_core.figure        a paper's figure on our runs
ucdr_core.explorer      a paper's explorer, for a notebook with a kernel
"""

from __future__ import annotations

from importlib import import_module

__version__ = "0.2.0"

_LAZY = {  # torch and matplotlib are only imported by those who need them
    "data": ("ucdr_core.data", None),
    "methods": ("ucdr_core.methods", None),
    "evaluate": ("ucdr_core.retrieval.metrics", "evaluate"),
    "table": ("ucdr_core.chapters.show", "table"),
    "claims": ("ucdr_core.chapters.show", "claims"),
    "figure": ("ucdr_core.chapters.show", "figure"),
    "search": ("ucdr_core.apps.search", None),
    "explorer": ("ucdr_core.chapters.explorers", "explorer"),
}
__all__ = ["__version__", "fit", *_LAZY]


def fit(spec, **options):
    """The run record of a spec (a TrainSpec or a mapping of its values), trained if there is none yet.  See
    `Store.make`."""
    from ucdr_core.evidence.store import Store
    from ucdr_core.training.spec import TrainSpec

    return Store().make(spec if isinstance(spec, TrainSpec) else TrainSpec.from_mapping(dict(spec)), **options)


def __getattr__(name: str):
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _LAZY[name]
    return getattr(import_module(module), attribute) if attribute else import_module(module)
