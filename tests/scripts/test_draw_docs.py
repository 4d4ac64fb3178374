"""The pictures of the README are those of the runs they are drawn from."""

import re

import pytest

from tests.reports.folders import add_pictures, answers, make_run

draw_docs = pytest.importorskip("scripts.draw_docs", reason="no scripts in this installation")

LINF = {"normal": 0.0, "at_linf": 0.75, "at_l2": 0.5, "pat_self": 0.55, "pat_alexnet": 0.6}


@pytest.fixture
def runs(tmp_path):
    """Five runs as `train.py` leaves them, of which 40 examples are known."""
    for number, (defense, linf) in enumerate(LINF.items()):
        correct = answers({"clean": 0.95, "linf": linf}, 40, number)
        place = tmp_path / "digits" / f"{defense}-small_resnet" / f"seed0-{number}"
        folder = make_run(place, correct, name=f"{defense}/small_resnet/seed0", suite="quick", dataset="digits")
        add_pictures(folder, "quick", rows=number + 1)
    return tmp_path / "digits"


def test_the_pictures_are_the_runs_and_the_table_has_a_row_for_each(runs, tmp_path, capsys):
    place = tmp_path / "docs"
    place.mkdir()
    draw_docs.draw(runs, place)
    picture = {defense: next(runs.glob(f"{defense}-*/*/pictures/quick.png")).read_bytes() for defense in LINF}
    assert (place / "first_run.png").read_bytes() == picture["pat_alexnet"]
    assert (place / "digits_bounds.png").read_bytes() == picture["normal"]
    drawing = (place / "first_run.svg").read_text()
    assert "60.0" in drawing
    assert "pat_alexnet/small_resnet/seed0" in drawing
    assert "font-face" not in drawing
    rows = re.findall(r"^\| (\w+) \|(.*)", capsys.readouterr().out, re.MULTILINE)
    table = dict(rows)
    assert [name for name, _ in rows if name != "run"] == list(LINF)
    assert all(f"{100 * linf:.1f}" in table[defense] for defense, linf in LINF.items())


def test_two_runs_of_a_defense_are_not_chosen_between(runs, tmp_path):
    make_run(runs / "normal-small_resnet" / "seed1", answers({"clean": 0.9}, 40), suite="quick", dataset="digits")
    with pytest.raises(SystemExit, match=r"2 runs of normal .* expected one"):
        draw_docs.draw(runs, tmp_path)
