"""Tables say what the records say; pictures can be looked at."""

import json
import shutil

import pytest
from PIL import Image

from gauntlet.errors import UserError
from gauntlet.evaluation import Flag, read_outcomes, wilson, write_flags
from gauntlet.reports import compare_runs, comparison_table, details, markdown_table, read_row, run_table
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
    assert table.splitlines()[0] == "| run | union | unseen mean | clean | linf | l2 | perceptual |"
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


def flagged(run, *flags):
    checkpoint = json.loads((run / "card.json").read_text())["checkpoint"]
    write_flags(run, "quick", checkpoint, flags)
    return read_row(run, "quick")


def shown(table):
    from rich.console import Console

    console = Console(width=160)
    with console.capture() as captured:
        console.print(table)
    return captured.get()


def test_a_raised_flag_marks_its_cell_and_those_it_goes_into_and_hides_nothing(run):
    plain = read_row(run, "quick")
    row = flagged(run, Flag("gradients", "l2", 0.5, 0.05, "no way to go"), Flag("bound", "linf", 0.0, 0.05, "rises"))
    head, _, line = markdown_table([row]).splitlines()
    cells = dict(zip(head.split(" | "), line.split(" | "), strict=True))
    assert {name.strip("| ") for name, text in cells.items() if "†" in text} == {"l2", "union", "unseen mean"}
    assert markdown_table([row]).replace("†", "") == markdown_table([plain])
    assert "† normal" in caption([row]).splitlines()[1]
    assert "gradients: l2 50 %; expected at most 5 %: no way to go." in caption([row])
    assert "rises" not in caption([row])
    assert shown(run_table(row, "title")).count("†") == 4


def test_a_flag_of_the_classifier_marks_every_cell(run):
    row = flagged(run, Flag("deterministic", None, 1.0, 0.0, "asked twice"))
    assert markdown_table([row]).count("†") == 6
    assert "deterministic: all 100 %" in caption([row])


def test_it_is_said_whether_there_were_checks(run):
    assert "no sanity checks on record" not in caption([flagged(run)])
    write_flags(run, "quick", "other weights", [])
    assert "no sanity checks on record" in caption([read_row(run, "quick")])


def test_details_show_distances_overlaps_and_every_check(run):
    flagged(run, Flag("bound", "linf", 0.5, 0.05, "rises"), Flag("unbounded", None, 0.0, 0.0, "stands"))
    page = details(run, "quick")
    right = read_outcomes(next((run / "outcomes").glob("clean-*")))["robust"].sum()
    lines = page.split("right when clean |")[1].split("Sanity checks")[0].splitlines()
    areas = [line.split(" | ") for line in lines if line.endswith("|")]
    assert sum(int(area[1]) for area in areas[1:]) == right
    assert "| linf | size |" in page
    assert "| clean | linf |" not in page  # clean images fool nobody that was right on them
    assert "| bound | linf | 50† | 5 |" in page
    assert "| unbounded | all | 0 | 0 |" in page
    assert "- bound: rises" in page


def test_two_runs_are_compared_on_the_same_examples(run, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(run, other)
    pairs = compare_runs(run, other, "quick")
    assert {name: (pair.difference, pair.p_value) for name, pair in pairs.items()} == dict.fromkeys(
        ("clean", "linf", "l2", "perceptual", "union"), (0.0, 1.0)
    )
    assert "| union | +0.0 (" in comparison_table(pairs, "one", "other")

    identity = next((other / "outcomes").glob("l2-*")) / "identity.json"
    identity.write_text(json.dumps(json.loads(identity.read_text()) | {"seed": 5, "checkpoint": "other"}))
    with pytest.raises(UserError, match="l2 was not measured alike, the two runs differ in seed"):
        compare_runs(run, other, "quick")
