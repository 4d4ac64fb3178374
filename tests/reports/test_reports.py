"""Tables say what the records say; pictures can be looked at."""

import json
import shutil

import pytest
from PIL import Image

from gauntlet.errors import UserError
from gauntlet.evaluation import Flag, read_card, read_plan, read_records, read_run, wilson, write_flags
from gauntlet.reports import compare_runs, comparison_table, details, run_markdown, run_table
from gauntlet.reports.table import cell, notes


def test_a_row_is_the_mean_of_its_records(trained):
    measured = read_run(trained, "quick")
    union = [True] * 40
    for name, entry in read_plan(trained, "quick").entries.items():
        frame = read_records(trained / entry.folder, entry.kind)
        assert measured.cells[name].value == pytest.approx(frame["correct"].mean())
        if name in ("clean", "linf", "l2"):
            union = [one and other for one, other in zip(union, frame["correct"], strict=True)]
    assert measured.cells["union"].value == pytest.approx(sum(union) / 40)
    assert measured.union == ["clean", "linf", "l2"]
    expected = sum(measured.cells[name].value for name in ("linf", "l2", "perceptual")) / 3
    assert measured.cells["unseen mean"].value == pytest.approx(expected)
    assert (measured.complete, measured.violations) == (True, 0)


def caption(measured):
    return "\n".join(notes([measured]))


def test_an_unfinished_evaluation_has_no_union(run):
    next((run / "records").glob("l2-*/00001.parquet")).unlink()
    measured = read_run(run, "quick")
    assert not measured.complete
    assert measured.cells["union"] is None
    assert "unfinished" in caption(measured)


def test_every_cell_has_an_interval(trained):
    head, _line, row = run_markdown(read_run(trained, "quick")).splitlines()[:3]
    assert head == "| run | union | unseen mean | clean | linf 0.1 | l2 2 | perceptual 0.5 |"
    assert row.count("(") == 6
    assert cell(wilson(0.5, 100)) == "50.0 (40.4–59.6)"
    assert cell(None) == "–"


def test_a_missing_evaluation_is_reported_with_the_command_that_makes_it(run):
    with pytest.raises(UserError, match="attack_suite=strong"):
        read_run(run, "strong")
    shutil.rmtree(next((run / "records").glob("l2-*")))
    with pytest.raises(UserError, match="no records of l2"):
        read_run(run, "quick")


def test_the_report_page_shows_table_picture_and_provenance(trained):
    page = (trained / "report.md").read_text()
    card = json.loads((trained / "card.json").read_text())
    assert run_markdown(read_run(trained, "quick")) in page
    assert "pictures/quick.png" in page
    assert card["checkpoint"] in page
    assert card["fingerprint"] in page


def test_pictures_show_clean_adversarial_and_difference_of_every_attack(trained):
    with Image.open(trained / "pictures" / "quick.png") as picture:
        assert picture.size[1] == 7 * 112  # clean; three attacks with their differences
        assert len(picture.getcolors(1 << 20)) > 100


def flagged(run, *flags):
    write_flags(run, "quick", read_card(run).checkpoint, flags)
    return read_run(run, "quick")


def table_lines(measured):
    return [line for line in run_markdown(measured).splitlines() if line.startswith("|")]


def shown(table):
    from rich.console import Console

    console = Console(width=160)
    with console.capture() as captured:
        console.print(table)
    return captured.get()


def test_a_raised_flag_marks_its_cell_and_those_it_goes_into_and_hides_nothing(run):
    plain = flagged(run)
    measured = flagged(
        run, Flag("gradients", "l2", 0.5, 0.05, "no way to go"), Flag("bound", "linf", 0.0, 0.05, "rises")
    )
    head, _, line = table_lines(measured)
    cells = dict(zip(head.split(" | "), line.split(" | "), strict=True))
    assert {name.strip("| ") for name, text in cells.items() if "†" in text} == {"l2 2", "union", "unseen mean"}
    assert [one.replace("†", "") for one in table_lines(measured)] == table_lines(plain)
    assert "† normal" in caption(measured).splitlines()[1]
    assert "gradients: l2 50 %; expected at most 5 %: no way to go." in caption(measured)
    assert "rises" not in caption(measured)
    assert shown(run_table(measured, "title")).count("†") == 4


def test_a_flag_of_the_classifier_marks_every_cell(run):
    measured = flagged(run, Flag("deterministic", None, 1.0, 0.0, "asked twice"))
    assert "".join(table_lines(measured)).count("†") == 6
    assert "deterministic: all 100 %" in caption(measured)


def test_the_notes_state_whether_checks_were_run(run):
    assert "no sanity checks on record" not in caption(flagged(run))
    write_flags(run, "quick", "other weights", [])
    assert "no sanity checks on record" in caption(read_run(run, "quick"))


def test_details_show_distances_overlaps_and_every_check(run):
    flags = [Flag("bound", "linf", 0.5, 0.05, "rises"), Flag("unbounded", None, 0.0, 0.0, "still correct")]
    measured = flagged(run, *flags)
    page = details(measured)
    right = measured.records["clean"]["correct"].sum()
    lines = page.split("right when clean |")[1].split("Sanity checks")[0].splitlines()
    areas = [line.split(" | ") for line in lines if line.endswith("|")]
    assert sum(int(area[1]) for area in areas[1:]) == right
    assert "| linf | size |" in page
    assert "| clean | linf |" not in page  # clean images break no example
    assert "| bound | linf | 50† | 5 |" in page
    assert "| unbounded | all | 0 | 0 |" in page
    assert "- bound: rises" in page


def test_two_runs_are_compared_on_the_same_examples(run, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(run, other)
    pairs = compare_runs(read_run(run, "quick"), read_run(other, "quick"))
    assert {name: (pair.difference, pair.p_value) for name, pair in pairs.items()} == dict.fromkeys(
        ("clean", "linf", "l2", "perceptual", "union"), (0.0, 1.0)
    )
    assert "| union | +0.0 (" in comparison_table(pairs, "one", "other")

    identity = next((other / "records").glob("l2-*")) / "identity.json"
    identity.write_text(json.dumps(json.loads(identity.read_text()) | {"seed": 5, "checkpoint": "other"}))
    with pytest.raises(UserError, match="l2 was not measured alike, the two runs differ in seed"):
        compare_runs(read_run(run, "quick"), read_run(other, "quick"))
