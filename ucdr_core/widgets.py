"""Explorers for notebooks.  They need a running kernel; the published page shows a static figure beside each."""
from __future__ import annotations

import ipywidgets
import numpy as np

from . import semantics
from .figures import rank, retrieval_grid
from .papers import snmpnet
from .runs import Store


def explorer(held_out: str = "sketch", k: int = 8) -> ipywidgets.Widget:
    """Pick a query domain, a class and one of its drawings: the first k of the gallery, and the class names nearest to its embedding."""
    record = Store().need(snmpnet.multi_domain("snmpnet", snmpnet.without(held_out)))
    asked = {e.split(":")[1]: e for e in record.evaluations if e.endswith(":unseen")}
    labels = record.spec.manifest().samples.class_name.to_numpy()
    split = record.spec.class_split()
    names = np.array([*split.train, *split.val, *split.test])
    vectors = semantics.prepare(semantics.class_vectors(names), dimension=record.spec.embedding_dim)

    domain = ipywidgets.Dropdown(options=list(asked), description="domain")
    class_name = ipywidgets.Dropdown(options=sorted(split.test), description="class")
    number = ipywidgets.IntSlider(min=0, max=5, description="drawing")
    picture, words = ipywidgets.Image(format="png"), ipywidgets.HTML()

    def show(_=None) -> None:
        query = record.task(asked[domain.value]).query
        own = query[labels[query] == class_name.value]
        number.max = len(own) - 1
        chosen = own[[min(number.value, len(own) - 1)]]
        picture.value = retrieval_grid(record, [asked[domain.value]], chosen, k).png()
        nearest = names[rank(record.embeddings(chosen), vectors, "cosine")[0, :6]]
        words.value = "nearest class names: " + ", ".join(f"<b>{n}</b>" if n == class_name.value else n for n in nearest)

    for control in (domain, class_name, number):
        control.observe(show, "value")
    show()
    return ipywidgets.VBox([ipywidgets.HBox([domain, class_name, number]), picture, words])
