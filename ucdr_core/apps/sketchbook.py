"""The doodle page's drawing pad in a notebook."""

from __future__ import annotations

import io

import anywidget
import ipywidgets
import numpy as np
import traitlets
from PIL import Image

from ucdr_core import paths


class Canvas(anywidget.AnyWidget):
    """The doodle page's drawing pad in a notebook; `picture()` is what stands on it."""

    _esm = (
        (paths.WEB / "pad.mjs").read_text()
        + """
    export default { render({ model, el }) {
      const drawing = pad(el, () => {
        drawing.canvas.toBlob(async (blob) => {
          model.set("png", new DataView(await blob.arrayBuffer()));
          model.save_changes();
        });
      });
    } };
    """
    )
    _css = (paths.WEB / "doodle.css").read_text()
    png = traitlets.Bytes(b"").tag(sync=True)

    def __repr__(self) -> str:
        return "Canvas()"

    def picture(self) -> Image.Image:
        """The drawing, black on white; all white before anything is drawn."""
        if not self.png:
            return Image.new("RGB", (384, 384), "white")
        return Image.open(io.BytesIO(self.png)).convert("RGB")


def sketchbook(index, k: int = 12) -> ipywidgets.Widget:
    """Draw, and the nearest pictures of an indexed folder (`search.Index`) appear below."""
    canvas, results, label = Canvas(), ipywidgets.Image(format="png"), ipywidgets.Label()

    def show(_=None) -> None:
        drawing = canvas.picture()
        if np.asarray(drawing).min() == 255:
            results.value, label.value = b"", "Draw something."
            return
        hits = index.search(drawing, k)
        buffer = io.BytesIO()
        index.show(hits).save(buffer, "png")
        results.value, label.value = buffer.getvalue(), f"nearest: {hits[0].path.name}, {hits[0].similarity:.2f}"

    canvas.observe(show, "png")
    show()
    return ipywidgets.VBox([canvas, label, results])
