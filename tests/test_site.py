"""The built site: every page of the contents is there, and shows the tables that the library renders.  Marked `site`: needs `make site`."""
import re
from html.parser import HTMLParser

import pytest
import yaml

from ucdr_core import paths, tables
from ucdr_core.papers import snmpnet

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


@pytest.mark.parametrize("name", snmpnet.TABLES)
def test_the_site_shows_the_rendered_table(name):
    parser = Cells()
    parser.feed((HTML / "notebooks" / "snmpnet" / "2_tables.html").read_text())
    shown = {tuple(re.findall(r"\d\.\d{3}", " ".join(row))) for row in parser.rows}
    lines = [line for line in tables.table("snmpnet", name).text.splitlines() if line.startswith("|") and re.search(r"\d\.\d{3}", line)]
    assert len(lines) >= 9
    for line in lines:
        assert tuple(re.findall(r"\d\.\d{3}", line)) in shown, line


@pytest.mark.parametrize("page", pages())
def test_no_page_loads_anything_from_elsewhere(page):
    """Formulas, styles and scripts are shipped: the site reads the same without a network."""
    text = (HTML / page).with_suffix(".html").read_text()
    assert re.findall(r'<(?:script|img|iframe)[^>]*src="https?://[^"]*"|<link[^>]*rel="stylesheet"[^>]*href="https?://[^"]*"', text) == []


def test_figures_have_alternative_texts():
    text = (HTML / "notebooks" / "snmpnet" / "3_figures.html").read_text()
    figures = re.findall(r'<img[^>]*_images/[^>]*>', text)
    assert len(figures) >= 6 and all(re.search(r'alt="[^"]{30,}"', figure) for figure in figures)
