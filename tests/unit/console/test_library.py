"""The documentation in the console: every page, links that lead on, search without a network."""

import re

from tests.rows import for_each
from xairouter.console import library
from xairouter.console.library import FIRST


def test_a_newcomer_starts_with_quick_start_access_control_and_the_faq():
    assert set(list(library.library())[:3]) == set(FIRST)
    assert next(kind for kind, _ in library.by_kind()) == "first"
    assert {one.name for one in dict(library.by_kind())["first"]} == set(FIRST)


@for_each("name", library.library())
def test_every_link_leads_to_a_page_that_is_there(name: str):
    page = library.library()[name]
    for href in re.findall(r'href="([^"]+)"', page.html):
        if href.startswith("/console/help/"):
            target, _, anchor = href.removeprefix("/console/help/").partition("#")
            assert target in library.library(), href
            if anchor:
                assert f'id="{anchor}"' in library.library()[target].html, href
        else:
            assert href.startswith(("https://", "http://", "#", "/console/help")), href


def test_every_page_has_one_title_and_no_markup_of_its_own_runs():
    for page in library.library().values():
        assert page.title != page.name
        assert len(re.findall("<h1", page.html)) == 1, page.name
        assert "<script" not in page.html


def test_search_finds_pages_that_hold_every_word():
    found = library.search("Budget notify")
    assert "how-to/limits-and-budgets" in [hit.document.name for hit in found]
    assert all("budget" in hit.document.text.lower() for hit in found)
    assert library.search("") == library.search("!!!") == []
    assert library.search("zzzzqqqq") == []
