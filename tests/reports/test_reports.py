"""Tables say what the records say; pictures can be looked at."""

import json
import shutil

import pytest
from PIL import Image

from gauntlet.errors import UserError
from gauntlet.evaluation import read_outcomes, wilson
from gauntlet.reports import markdown_table, read_row
from gauntlet.reports.table import caption, cell


def test_a_row_is_the_mean_of_its_records(trained):
    row = read_row(trained, "quick")
    plan = json.loads((trained / "suites" / "quick.json").read_text())
    for name, entry in plan["attacks"].items():
        frame = read_outcomes(trained / entry["folder"])
        assert row.cells[name].value == pytest.approx(frame["robust"].mean())
    assert row.cells["union"].value <= min(row.cells[name].value for name in plan["union"])
    expected = sum(row.cells[name].value for name in ("linf", "l2", "perceptual")) / 3
    assert row.cells["unseen mean"].value == pytest.approx(expected)
    assert (row.complete, row.violations) == (True, 0)


def test_an_unfinished_evaluation_has_no_union(run):
    next((run / "outcomes").glob("l2-*/00001.parquet")).unlink()
    row = read_row(run, "quick")
    assert not row.complete
    assert row.cells["union"] is None
    assert "unfinished" in caption([row])


def test_every_cell_has_an_interval(trained):
    table = markdown_table([read_row(trained, "quick")])
    assert table.splitlines()[0] == "| run | clean | linf | l2 | perceptual | union | unseen mean |"
    assert table.count("(") == 6
    assert cell(wilson(0.5, 100)) == "50.0 (40.4–59.6)"
    assert cell(None) == "–"


def test_what_was_not_evaluated_is_asked_for(run):
    with pytest.raises(UserError, match="attack_suite=strong"):
        read_row(run, "strong")
    shutil.rmtree(next((run / "outcomes").glob("l2-*")))
    with pytest.raises(UserError, match="no outcomes of l2"):
        read_row(run, "quick")


def test_the_report_page_shows_table_picture_and_provenance(trained):
    page = (trained / "report.md").read_text()
    card = json.loads((trained / "card.json").read_text())
    assert markdown_table([read_row(trained, "quick")]) in page
    assert "pictures/quick.png" in page
    assert card["checkpoint"] in page
    assert card["fingerprint"] in page


def test_pictures_show_clean_adversarial_and_difference_of_every_attack(trained):
    with Image.open(trained / "pictures" / "quick.png") as picture:
        assert picture.size[1] == 7 * 112  # clean; three attacks with their differences
        assert len(picture.getcolors(1 << 20)) > 100
