"""Universal cross-domain retrieval: protocols, methods, metrics and run records behind the UCDR reproducibility book.

    ucdr_core.data          data sets, splits, protocols
    ucdr_core.methods       methods by name
    ucdr_core.fit           a training spec -> its run record, made if there is none yet
    ucdr_core.evaluate      embeddings and labels -> every published metric
    ucdr_core.search        a drawing -> the nearest pictures of a folder of one's own
    ucdr_core.export        a run -> an ONNX model, a gallery, a doodle page
    ucdr_core.table         a paper's table beside ours
    ucdr_core.figure        a paper's figure on our runs
"""
from __future__ import annotations

from importlib import import_module

__version__ = "0.1.0"

_LAZY = {  # torch and matplotlib are only imported by those who need them
    "data": ("ucdr_core.data", None), "methods": ("ucdr_core.methods", None), "evaluate": ("ucdr_core.retrieval.metrics", "evaluate"),
    "table": ("ucdr_core.tables", "table"), "claims": ("ucdr_core.tables", "claims"), "figure": ("ucdr_core.figures", "figure"),
    "search": ("ucdr_core.search", None), "export": ("ucdr_core.export", None),
    "explorer": ("ucdr_core.widgets", "explorer"),
}
__all__ = ["__version__", "fit", *_LAZY]


def fit(spec, **options):
    """The run record of a spec (a TrainSpec or a mapping of its values), trained if there is none yet.  See `runs.Store.make`."""
    from .runs import Store, TrainSpec

    return Store().make(spec if isinstance(spec, TrainSpec) else TrainSpec.from_mapping(dict(spec)), **options)


def __getattr__(name: str):
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _LAZY[name]
    return getattr(import_module(module), attribute) if attribute else import_module(module)
