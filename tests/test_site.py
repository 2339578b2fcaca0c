"""The built site: every page of the contents is there, and shows the tables that the library renders.

Marked `site`: needs `make site`.
"""

import functools
import http.server
import os
import re
import shutil
import sys
import threading
from html.parser import HTMLParser

import pytest
import yaml

from ucdr_core import chapters, paths
from ucdr_core.chapters import show

pytestmark = [pytest.mark.site, pytest.mark.gate]
HTML = paths.REPOSITORY / "build" / "_build" / "html"


def pages() -> list[str]:
    toc = yaml.safe_load((paths.REPOSITORY / "book" / "_toc.yml").read_text())
    return [toc["root"], *(chapter["file"] for part in toc["parts"] for chapter in part["chapters"])]


class Cells(HTMLParser):
    """The text of every table row."""

    def __init__(self):
        super().__init__()
        self.rows, self.inside = [], False

    def handle_starttag(self, tag, attributes):
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.inside = True
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self.inside = False

    def handle_data(self, text):
        if self.inside:
            self.rows[-1][-1] += text


@pytest.mark.parametrize("page", pages())
def test_every_page_is_there(page):
    text = (HTML / page).with_suffix(".html").read_text()
    assert len(text) > 5000 and "<title>" in text


TABLES = [(paper, name) for paper in chapters.CHAPTERS for name in chapters.load(paper).TABLES]
ON_REAL_PICTURES = {("audit", "precision"): "pacs"}  # tables that tier embedded has no runs for, and their page


@pytest.mark.parametrize("paper, name", TABLES)
def test_the_site_shows_the_rendered_table(paper, name):
    parser = Cells()
    page = f"{paper}/2_tables" if paper in chapters.PAPERS else {"cost": "reproduce"}.get(paper, paper)
    page, tier = ON_REAL_PICTURES.get((paper, name), page), "real" if (paper, name) in ON_REAL_PICTURES else "embedded"
    parser.feed((HTML / "notebooks" / page).with_suffix(".html").read_text())
    numbers = r"\d[\d.,]*\d"
    rows = {tuple(re.findall(numbers, " ".join(row))) for row in parser.rows}
    lines = [
        line
        for line in show.table(paper, name, tier).text.splitlines()
        if line.startswith("|") and re.search(numbers, line)
    ]
    assert len(lines) >= 3
    for line in lines:
        assert tuple(re.findall(numbers, line)) in rows, line


@pytest.mark.parametrize("page", pages())
def test_no_page_loads_anything_from_elsewhere(page):
    """Formulas, styles and scripts are shipped: the site reads the same without a network."""
    text = (HTML / page).with_suffix(".html").read_text()
    assert (
        re.findall(
            r'<(?:script|img|iframe)[^>]*src="https?://[^"]*"|<link[^>]*rel="stylesheet"[^>]*href="https?://[^"]*"',
            text,
        )
        == []
    )


@pytest.mark.parametrize("paper, number", [("snmpnet", 6), ("doodle", 6), ("stl", 5), ("strad", 4)])
def test_figures_have_alternative_texts(paper, number):
    text = (HTML / "notebooks" / paper / "3_figures.html").read_text()
    figures = re.findall(r"<img[^>]*_images/[^>]*>", text)
    assert len(figures) >= number and all(re.search(r'alt="[^"]{30,}"', figure) for figure in figures)


def test_every_picture_has_an_alternative_text():
    for page in pages():
        text = (HTML / page).with_suffix(".html").read_text()
        for picture in re.findall(r"<img[^>]*>", text):
            assert re.search(r'alt="[^"]{4,}"', picture), (page, picture)


def test_every_figure_and_table_of_runs_names_them():
    """Tables end with the line of their runs, figures with the line under their fingerprint; those that need no run say
    so."""
    for paper in chapters.PAPERS:
        tables_page, figures_page = (
            (HTML / "notebooks" / paper / f"{name}.html").read_text() for name in ("2_tables", "3_figures")
        )
        assert tables_page.count(" runs: ") + tables_page.count("runs: ") >= len(chapters.load(paper).TABLES) - 1, paper
        assert len(re.findall(r"from \d+ runs?: [0-9a-f]{16}", figures_page)) >= 3, paper


# --------------------------------------------------------------------------------------------------------- in a browser


@pytest.fixture(scope="module")
def address():
    """The built site on a plain static server, in a subfolder, without compression."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    class Server(http.server.ThreadingHTTPServer):
        def handle_error(self, request, client_address):
            if not isinstance(sys.exception(), ConnectionError):  # a browser that has seen enough hangs up
                super().handle_error(request, client_address)

    root = HTML.parent
    with Server(("127.0.0.1", 0), functools.partial(Quiet, directory=str(root))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/{HTML.name}"
        server.shutdown()


@pytest.fixture(scope="module")
def browser():
    executable = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if executable is None:
        assert os.environ.get("UCDR_BROWSER") != "required", (
            "UCDR_BROWSER=required, and there is no Chromium on this machine"
        )
        pytest.skip("there is no Chromium on this machine")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        made = playwright.chromium.launch(
            executable_path=executable,
            args=[
                "--no-sandbox",
                "--disable-gpu",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--disable-quic",
            ],
        )
        yield made
        made.close()


@pytest.fixture
def tab(browser, address):
    """A page that keeps what the console said, which files it asked for, and how many bytes came."""

    def opened(path, **options):
        context = browser.new_context(**options)
        page = context.new_page()
        page.errors, page.requests, page.bytes = [], [], []
        page.on("console", lambda message: page.errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        page.on(
            "requestfinished",
            lambda request: (page.requests.append(request.url), page.bytes.append(request.sizes()["responseBodySize"])),
        )
        page.goto(f"{address}/{path}.html", wait_until="load")
        contexts.append(context)
        return page

    contexts = []
    yield opened
    for context in contexts:
        context.close()


def draw(page, strokes, touch=False):
    """Strokes in shares of the pad's side."""
    page.locator("canvas.ucdr-pad").scroll_into_view_if_needed()
    box = page.locator("canvas.ucdr-pad").bounding_box()
    for stroke in strokes:
        points = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in stroke]
        if touch:  # what a finger sends
            send = page.context.new_cdp_session(page).send
            for kind, places in (
                ("touchStart", points[:1]),
                *(("touchMove", [point]) for point in points[1:]),
                ("touchEnd", []),
            ):
                send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y} for x, y in places]})
        else:
            page.mouse.move(*points[0])
            page.mouse.down()
            for point in points[1:]:
                page.mouse.move(*point, steps=5)
            page.mouse.up()


HOUSE = [[(0.25, 0.8), (0.25, 0.45), (0.75, 0.45), (0.75, 0.8), (0.25, 0.8)], [(0.2, 0.45), (0.5, 0.15), (0.8, 0.45)]]


def results(page, name="trained"):
    page.wait_for_selector(".ucdr-status[data-found='12']", timeout=60_000)
    return page.locator(f"#ucdr-{name} li").all_inner_texts()


def test_a_doodle_finds_twelve_pictures_under_both_models(tab):
    page = tab("book/doodle", viewport={"width": 1280, "height": 900})
    page.wait_for_selector(".ucdr-status[data-ready]", timeout=60_000)
    assert page.locator("#ucdr-trained li").count() == 0
    assert all(url.startswith("http://127.0.0.1") or url.startswith(("blob:", "data:")) for url in page.requests)
    draw(page, HOUSE)
    trained, untrained = results(page), results(page, "untrained")
    assert len(trained) == len(untrained) == 12 and trained != untrained
    page.wait_for_load_state("networkidle")
    assert 8e6 < sum(page.bytes) < 12e6  # a first visit, with the pictures
    similarities = [float(text) for text in page.locator("#ucdr-trained .ucdr-similarity").all_inner_texts()]
    assert all(
        page.locator(f"#ucdr-{name} .ucdr-{part}").nth(place).inner_text().strip()
        for name in ("trained", "untrained")
        for part in ("class", "credit")
        for place in range(12)
    )
    assert similarities == sorted(similarities, reverse=True)
    assert sum(map(int, page.locator(".ucdr-votes > div > span:last-child").all_inner_texts())) == 12
    assert page.locator(".ucdr-words").inner_text().count(",") == 4
    assert "12 pictures found" in page.locator("[role=status]").inner_text()
    page.get_by_role("button", name="Clear").click()
    page.wait_for_function("document.querySelectorAll('#ucdr-trained li').length === 0")
    page.get_by_role("button", name=re.compile("Example")).first.click()
    page.wait_for_function("document.querySelectorAll('#ucdr-trained li').length === 12")
    assert page.errors == []


def test_the_pad_can_be_used_from_the_keyboard(tab):
    page = tab("book/doodle", viewport={"width": 1280, "height": 900})
    page.wait_for_selector(".ucdr-status[data-ready]", timeout=60_000)
    page.locator("canvas.ucdr-pad").focus()
    page.keyboard.press("Space")
    for key in ("ArrowRight",) * 8 + ("ArrowDown",) * 8:
        page.keyboard.press(key)
    page.keyboard.press("Space")
    first = results(page)
    page.keyboard.press("Control+z")
    page.wait_for_function("document.querySelectorAll('#ucdr-trained li').length === 0")
    assert len(first) == 12 and page.errors == []


def test_a_finger_on_a_narrow_screen_finds_twelve_pictures_too(tab):
    page = tab(
        "book/doodle", viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True, device_scale_factor=2
    )
    page.wait_for_selector(".ucdr-status[data-ready]", timeout=60_000)
    draw(page, HOUSE, touch=True)
    assert len(results(page)) == 12
    assert page.evaluate(
        "document.querySelector('#doodle').scrollWidth <= document.querySelector('#doodle').clientWidth + 1"
    )
    assert page.errors == []


def test_a_build_without_the_runtime_says_so(tab, browser, address):
    page = browser.new_context().new_page()
    page.route(
        "**/build.json",
        lambda route: route.fulfill(json={"missing": "Node.js with npm was not found when this book was built."}),
    )
    page.goto(f"{address}/book/doodle.html")
    page.wait_for_selector(".ucdr-missing")
    assert "Node.js with npm was not found" in page.locator("#doodle").inner_text()
    page.context.close()


@pytest.mark.parametrize("page", pages())
def test_pages_load_without_errors_and_fit_a_phone(page, tab):
    """No console error, nothing from elsewhere, and nothing but tables, code and formulas wider than the screen."""
    opened = tab(page, viewport={"width": 375, "height": 800})
    assert opened.errors == []
    assert all(url.startswith(("http://127.0.0.1", "data:", "blob:")) for url in opened.requests)
    assert opened.evaluate("document.documentElement.scrollWidth") <= 376
