"""The built site: every page of the contents is there, and shows the tables that the library renders.  Marked `site`: needs `make site`."""
import re
from html.parser import HTMLParser

import pytest
import yaml

from ucdr_core import papers, paths, tables

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


@pytest.mark.parametrize("paper, name", [(paper, name) for paper in (*papers.PAPERS, *papers.ACROSS, *papers.REAL, *papers.COUNTED) for name in papers.load(paper).TABLES])
def test_the_site_shows_the_rendered_table(paper, name):
    parser = Cells()
    page = {"sketchy25": "real", "cost": "reproduce"}.get(paper, f"{paper}/2_tables" if paper in papers.PAPERS else paper)
    parser.feed((HTML / "notebooks" / page).with_suffix(".html").read_text())
    numbers = r"\d[\d.,]*\d"
    shown = {tuple(re.findall(numbers, " ".join(row))) for row in parser.rows}
    lines = [line for line in tables.table(paper, name).text.splitlines() if line.startswith("|") and re.search(numbers, line)]
    assert len(lines) >= 3
    for line in lines:
        assert tuple(re.findall(numbers, line)) in shown, line


@pytest.mark.parametrize("page", pages())
def test_no_page_loads_anything_from_elsewhere(page):
    """Formulas, styles and scripts are shipped: the site reads the same without a network."""
    text = (HTML / page).with_suffix(".html").read_text()
    assert re.findall(r'<(?:script|img|iframe)[^>]*src="https?://[^"]*"|<link[^>]*rel="stylesheet"[^>]*href="https?://[^"]*"', text) == []


@pytest.mark.parametrize("paper, number", [("snmpnet", 6), ("doodle", 6), ("stl", 5), ("strad", 4)])
def test_figures_have_alternative_texts(paper, number):
    text = (HTML / "notebooks" / paper / "3_figures.html").read_text()
    figures = re.findall(r'<img[^>]*_images/[^>]*>', text)
    assert len(figures) >= number and all(re.search(r'alt="[^"]{30,}"', figure) for figure in figures)
