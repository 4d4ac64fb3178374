"""The pages beside their commands: working links, flags and thresholds as in the code."""

import re
from pathlib import Path

import pytest

import gauntlet
from gauntlet.evaluation import read_card, read_flags
from gauntlet.evaluation.soundness import Soundness
from tests.docs.pages import PAGES, ROOT

pytestmark = pytest.mark.skipif(not (ROOT / "docs").is_dir(), reason="no docs in this installation")
SOURCES = Path(gauntlet.__file__).parent / "evaluation"


def anchors(page):
    """Of its headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S)
    headings = re.findall(r"^#+ (.*)$", text, re.M)
    return {re.sub(r"[^\w-]", "", heading.lower().replace(" ", "-")) for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_its_links_exist(page):
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        folder = (page.parent / file).resolve() if file else page
        assert folder.exists(), target
        assert not anchor or anchor in anchors(folder), target


def test_every_page_is_in_the_index():
    index = (ROOT / "docs" / "README.md").read_text()
    assert not [page.name for page in PAGES[1:] if page.name != "README.md" and f"({page.name}" not in index]


def rows_of_flags():
    page = ROOT / "docs" / "flags.md"
    return dict(re.findall(r"^\| \[`([\w ]+)`\].*?\|.*?\|.*?\| (.*?) \|", page.read_text(), re.M))


def test_the_flags_are_those_of_the_code():
    files = ("flags.py", "sanity/probe.py", "sanity/record_checks.py", "soundness.py")
    code = "".join((SOURCES / name).read_text() for name in files)
    assert rows_of_flags().keys() == set(re.findall(r'Flag\("([\w ]+)"', code))


def test_their_thresholds_are_those_of_the_code(trained):
    checked = Soundness("margin", ["linf"], examples=10, multiple=4.0, tried=10)
    flags = [*(read_flags(trained, "quick", read_card(trained).checkpoint) or ()), *checked.flags()]
    rows = rows_of_flags()
    assert {flag.name for flag in flags} == rows.keys()
    for flag in flags:
        assert re.search(rf"(^|\s){100 * flag.threshold:g}( %|;|$)", rows[flag.name]), flag
