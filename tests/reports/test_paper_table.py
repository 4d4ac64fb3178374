"""The paper's layout, and the paper's numbers beside ours where the same thing was measured."""

import json

import pytest

from gauntlet.config.compose import CONF
from gauntlet.errors import UserError
from gauntlet.evaluation import MeanAccuracy
from gauntlet.reports import make_paper_table, make_paper_tables, markdown, read_published, read_run, terminal_table
from gauntlet.reports.labels import labels_of
from gauntlet.reports.table import bound_text
from tests.reports.folders import ATTACKS, answers, make_run
from tests.reports.test_reports import shown

PAPER = {"clean": 0.82, "linf": 0.30, "l2": 0.35, "stadv": 0.46, "recoloradv": 0.71, "ppgd": 0.13, "lpa": 0.02}
TABLE = read_published(CONF / "published" / "cifar10.yaml")


def pat(folder, **changed):
    """PAT-self in small, one hundred examples."""
    options = {"name": "pat_self/resnet50/seed0", "trained_on": ["perceptual"], **changed}
    return read_run(make_run(folder, answers(PAPER, 100), **options), "paper")


def test_columns_are_those_of_table_2_whatever_the_order_of_the_suite(folder):
    correct = answers(PAPER, 100)
    mixed = {name: correct[name] for name in ("lpa", "linf", "ppgd", "clean", "l2", "recoloradv", "stadv")}
    table = make_paper_table([read_run(make_run(folder, mixed), "paper")], None)
    expected = ["union", "unseen mean", "clean", "linf", "l2", "recoloradv", "stadv", "lpa", "ppgd"]
    assert table.columns == expected
    assert table.bound("linf") == "8/255"
    assert table.bound("clean") == table.bound("union") == ""


def test_published_numbers_are_shown_beside_ours_with_the_difference(folder):
    (cells,) = make_paper_table([pat(folder)], TABLE).cells
    assert cells["linf"].published == pytest.approx(0.302)
    assert cells["linf"].difference == pytest.approx(-0.002)
    assert cells["linf"].beside == "30.2 (-0.2)"
    assert cells["union"].published == pytest.approx(0.219)
    assert cells["unseen mean"].published == pytest.approx(0.456)
    assert cells["unseen mean"].ours.value == pytest.approx((0.30 + 0.35 + 0.46 + 0.71) / 4)


def test_what_was_measured_otherwise_has_no_published_number_nor_has_what_it_goes_into(folder):
    (cells,) = make_paper_table([pat(folder, bounds={"l2": 0.5})], TABLE).cells
    assert {name for name, cell in cells.items() if cell.published is None} == {"l2", "union", "unseen mean"}
    assert make_paper_table([pat(folder / "as published")], None).cells[0]["linf"].published is None


def test_a_published_mean_is_beside_a_mean_over_the_same_attacks_at_the_same_bounds(folder, monkeypatch):
    published = read_published(CONF / "published" / "cifar10_ua2.yaml")
    for name, attack in published.attacks.items():
        monkeypatch.setitem(ATTACKS, name, (attack["threat_model"], attack.get("bound", 0.0)))
    correct = answers(published.rows["at_l2"].cells | {"UA2": 0}, 100)
    del correct["UA2"]
    named = {
        "name": "at_l2/resnet50/seed0",
        "suite": "ua2",
        "aggregates": {"UA2": MeanAccuracy(published.means["UA2"])},
    }
    (cells,) = make_paper_table([read_run(make_run(folder, correct, **named), "ua2")], published).cells
    assert cells["UA2"].published == pytest.approx(0.428)
    assert cells["UA2"].ours.value == pytest.approx(0.428, abs=0.01)
    assert cells["snow"].beside == "31.7 (+0.3)"
    other = make_run(folder / "b", correct, bounds={"snow": 3.0}, **named)
    (cells,) = make_paper_table([read_run(other, "ua2")], published).cells
    assert cells["UA2"].published is None
    assert cells["snow"].published is None
    assert cells["wood"].published == pytest.approx(0.493)


@pytest.mark.parametrize("changed", [{"dataset": "digits"}, {"name": "at_fog/resnet50/seed0"}])
def test_other_data_and_other_defenses_have_no_published_numbers(folder, changed):
    table = make_paper_table([pat(folder, **changed)], TABLE)
    assert not table.has_published(0)
    assert not any("Published" in note for note in table.notes())


def test_notes_say_by_what_search_the_published_numbers_are_and_why_some_are_doubtful(folder):
    run = pat(folder, name="at_all_random/resnet50/seed0")
    text = " ".join(make_paper_table([run], TABLE).notes())
    assert "linf by AutoAttack" in text
    assert "10000 test images" in text
    assert "at_all_random/resnet50/seed0, clean: (?)" in text


def test_several_datasets_are_several_tables(folder):
    one, other = pat(folder / "a"), pat(folder / "b", dataset="digits")
    card = json.loads((folder / "b" / "card.json").read_text()) | {"fingerprint": "e" * 64}
    (folder / "b" / "card.json").write_text(json.dumps(card))
    runs = [one, read_run(other.folder, "paper"), pat(folder / "c", name="normal/resnet50/seed0")]
    first, second = make_paper_tables(runs, {"cifar10": TABLE})
    assert [list(first.labels), second.dataset] == [["pat_self", "normal"], "digits"]
    assert first.common == "resnet50, seed0"
    with pytest.raises(UserError, match="one dataset"):
        make_paper_table(runs, None)


@pytest.mark.parametrize(
    ("names", "labels", "common"),
    [
        (["at/r/seed0", "pat/r/seed0"], ["at", "pat"], "r, seed0"),
        (["at/r/seed0", "at/r/seed1", "pat/r/seed0"], ["at/seed0", "at/seed1", "pat/seed0"], "r"),
        (["at/r/seed0"], ["at/r/seed0"], ""),
        (["at/r/seed0", "at/r/seed0"], ["at/r/seed0 #1", "at/r/seed0 #2"], ""),
        (["weights", "at/r/seed0"], ["weights", "at/r/seed0"], ""),
    ],
)
def test_names_are_as_short_as_they_can_be(names, labels, common):
    assert labels_of(names) == (labels, common)


@pytest.mark.parametrize(
    ("bound", "text"), [(8 / 255, "8/255"), (1200 / 255, "1200/255"), (0.5, "0.5"), (0.0512345, "0.05123"), (1, "1")]
)
def test_bounds_read_as_people_write_them(bound, text):
    assert bound_text(bound) == text


def test_terminal_and_markdown_show_best_worse_and_published(folder):
    good, bad = pat(folder / "good"), read_run(
        make_run(folder / "bad", answers({**PAPER, "linf": 0.0}, 100), name="normal/resnet50/seed0"), "paper"
    )  # fmt: skip
    table = make_paper_table([good, bad], TABLE)
    page, screen = markdown(table), shown(terminal_table(table))
    assert "| pat_self | " in page
    assert "**30.0** (21.9–39.6)" in page
    assert "| 0.0\\* (0.0–3.7) |" in page
    assert "30.2 (-0.2)" in page
    assert "30.2 (-0.2)" in screen
    assert "0.0*" in screen
    lines = [line for line in page.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in lines} == {len(table.columns) + 2}
