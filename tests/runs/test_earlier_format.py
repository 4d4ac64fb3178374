"""Run folders of the format before plans had a version: read as far as they can be, and measured anew."""

import json

import pytest

from gauntlet.evaluation import read_card, read_flags, read_run, write_flags
from tests.cli.test_main import assert_same_records, records

SMALL = ("evaluation.examples=40", "evaluation.chunk=20", "evaluation.probed=2")
CANNOT = "records of an earlier version (outcomes/) cannot be taken over: all is measured anew"


@pytest.fixture
def earlier(run):
    """The run as that format had it: card and plan without a version, records in `outcomes/` with other columns."""
    card = json.loads((run / "card.json").read_text())
    del card["version"]
    (run / "card.json").write_text(json.dumps(card))
    plan = json.loads((run / "suites" / "quick.json").read_text())
    attacks = {
        name: {
            "folder": entry["folder"].replace("records/", "outcomes/"),
            "threat_model": entry["threat_model"],
            "bound": entry["bound"],
            "survivors_of": [],
        }
        for name, entry in plan["entries"].items()
    }
    old = {"checkpoint": card["checkpoint"], "attacks": attacks, "union": ["clean", "linf", "l2"], "examples": 40}
    (run / "suites" / "quick.json").write_text(json.dumps(old))
    (run / "records").rename(run / "outcomes")
    for file in (run / "outcomes").glob("logits-*"):
        file.unlink()
    return run


def test_a_report_says_in_one_line_what_to_do(door, earlier):
    result = door("report", f"runs={earlier}", "folder=null")
    assert (result.code, len(result.err.strip().splitlines())) == (2, 1), result.err
    assert "was evaluated by another version of Gauntlet, whose records cannot be read" in result.err
    words = result.err.strip().partition(": run evaluate.py ")[2].split()
    assert door("evaluate", *words, *SMALL).code == 0  # what it says to type works
    assert door("report", f"runs={earlier}", "folder=null").code == 0


def test_an_evaluation_says_once_that_they_are_measured_anew_and_measures_them(door, earlier, trained):
    result = door("evaluate", f"checkpoint={earlier}", "attack_suite=quick", *SMALL)
    assert result.code == 0, result.err
    assert result.out.count(CANNOT) == 1
    assert read_card(earlier) == read_card(trained)
    assert_same_records(records(earlier), records(trained))
    assert read_run(earlier, "quick").cells == read_run(trained, "quick").cells
    assert (earlier / "outcomes").is_dir()  # nothing is thrown away
    again = door("evaluate", f"checkpoint={earlier}", "attack_suite=quick", *SMALL)
    assert CANNOT not in again.out
    assert "images/s" not in again.out


def test_its_sanity_checks_are_made_anew_too(door, earlier):
    card = read_card(earlier)
    write_flags(earlier, "quick", card.checkpoint, [])
    assert door("evaluate", f"checkpoint={earlier}", "attack_suite=quick", *SMALL).code == 0
    assert read_flags(earlier, "quick", card.checkpoint)
