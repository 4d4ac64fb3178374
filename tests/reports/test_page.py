"""The page holds everything, is small, and a real browser shows it without a network."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from gauntlet.config.compose import CONF
from gauntlet.reports import make_paper_tables, page, read_published, read_run
from tests.reports.browser import look, picture
from tests.reports.folders import answers, make_run

MADE_WITH = {"gauntlet": "0.1.0", "revision": "feedfacecafe", "python": "3.11", "packages": {"torch": "2.11.0"}}


def written(folders, file):
    """The page about some runs."""
    published = {"cifar10": read_published(CONF / "published" / "cifar10.yaml")}
    file.write_text(page(make_paper_tables([read_run(folder, "paper") for folder in folders], published), MADE_WITH))
    return file


TWELVE = pytest.param("twelve_runs", marks=pytest.mark.slow)


@pytest.fixture(scope="module")
def twelve_runs(twelve, tmp_path_factory):
    return written(sorted(twelve.iterdir()), tmp_path_factory.mktemp("page") / "report.html")


@pytest.fixture(scope="module")
def one_run(twelve, tmp_path_factory):
    return written([twelve / "09"], tmp_path_factory.mktemp("page") / "report.html")


class Outline(HTMLParser):
    """Tags, and what is wrong with their nesting."""

    void = frozenset({"meta", "img", "br", "link", "wbr"})

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.ids = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in self.void:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.ids += [value for name, value in attrs if name == "id"]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.mark.slow
def test_twelve_runs_are_less_than_five_megabytes(twelve_runs):
    assert twelve_runs.stat().st_size < 5_000_000


@pytest.mark.parametrize("runs", ["one_run", TWELVE])
def test_it_is_well_formed_and_needs_nothing_but_itself(request, runs):
    text = request.getfixturevalue(runs).read_text()
    outline = Outline(text)
    assert outline.open == []
    assert len(outline.ids) == len(set(outline.ids))
    tags = {tag for tag, _ in outline.tags}
    assert not tags & {"script", "link", "iframe", "object", "embed"}
    links = [a[k] for _, a in outline.tags for k in ("href", "src", "xlink:href") if k in a]
    assert links
    assert all(link.startswith(("#", "data:image/")) for link in links)
    assert {link[1:] for link in links if link.startswith("#")} <= set(outline.ids)
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)


@pytest.mark.slow
def test_every_plot_has_a_text_alternative(twelve_runs):
    tags = Outline(twelve_runs.read_text()).tags
    drawings = [attributes for tag, attributes in tags if tag == "svg"]
    assert len(drawings) == 9 + 1 + 12 * 4  # columns, one curve, four plots a run
    assert all(a["role"] == "img" and len(a["aria-label"]) > 20 for a in drawings)
    pictures = [attributes for tag, attributes in tags if tag == "img"]
    assert len(pictures) == 12
    assert all(len(a["alt"]) > 20 for a in pictures)


def test_captions_carry_what_the_numbers_depend_on(one_run, twelve):
    run = read_run(twelve / "09", "paper")
    text = one_run.read_text()
    captions = re.findall(r"<figcaption>.*?</figcaption>", text, re.DOTALL)
    assert len(captions) == 1 + 1 + 4 + 1
    for caption in captions:
        assert run.card.checkpoint[:12] in caption
        assert run.card.fingerprint[:12] in caption
        assert "abc123def456" in caption
        assert "torch 2.11.0" in caption
        assert any(digest in caption for digest in run.digests.values())
    assert run.card.checkpoint in text
    assert run.card.fingerprint in text


def test_names_are_no_html(tmp_path):
    correct = answers({"clean": 0.9, "linf": 0.5}, 20)
    runs = [make_run(tmp_path / name[:2], correct, name=f"{name}/m/seed0") for name in ("<b>&amp;", "at_l2")]
    text = written(runs, tmp_path / "report.html").read_text()
    assert "<b>" not in text
    assert "&lt;b&gt;" in text
    Outline(text)


@pytest.mark.parametrize("width", [1400, 400])
@pytest.mark.parametrize("runs", ["one_run", TWELVE])
def test_a_browser_shows_it_without_a_network(request, tmp_path, runs, width):
    file = request.getfixturevalue(runs)
    seen = look(file, tmp_path, width)
    assert seen.console == []
    assert seen.layout["requests"] == []
    assert (seen.layout["width"], seen.layout["heading"]) == (width, "Robustness report")
    assert seen.layout["needed"] <= width  # nothing but tables and pictures has to be scrolled sideways
    assert seen.layout["font"] == "16px"  # its style is in force
    assert seen.layout["drawings"] >= (6 if runs == "one_run" else 10)
    assert seen.layout["images"] == seen.layout["loaded"] == (1 if runs == "one_run" else 12)
    assert seen.layout["smallest"] > 8  # letters of drawings, in CSS pixels from top to bottom


def test_the_browser_would_notice_a_request_and_an_error(tmp_path):
    source = '<!doctype html><h1>x</h1><svg></svg><svg><text>x</text></svg><img src="http://gauntlet.invalid/x.png">'
    (tmp_path / "page.html").write_text(f"{source}<script>console.error('noticed')</script>")
    seen = look(tmp_path / "page.html", tmp_path, 400)
    assert seen.layout["requests"] == ["http://gauntlet.invalid/x.png"]
    assert (seen.layout["images"], seen.layout["loaded"]) == (1, 0)
    assert any("noticed" in line for line in seen.console)


def test_a_picture_of_it_is_not_empty(one_run, tmp_path):
    pixels = np.asarray(Image.open(picture(one_run, tmp_path, 1400, 900)).convert("L"))
    assert pixels.shape == (900, 1400)
    assert (pixels > 250).mean() > 0.5
    assert 0.01 < (pixels < 128).mean() < 0.4
