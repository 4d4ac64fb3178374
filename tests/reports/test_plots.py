"""Plots show what the records say: read off the drawing and its description."""

import json
import re
from xml.etree import ElementTree

import polars as pl
import pytest

from gauntlet.evaluation import read_plan
from gauntlet.reports import make_paper_table, read_run
from gauntlet.reports.bound_curves import accuracy_curves
from gauntlet.reports.plots import (
    bound_plots,
    build_up_plot,
    column_plot,
    distance_plot,
    overlap_plot,
    row_plot,
    training_plot,
)
from gauntlet.reports.plots.build_up import build_up
from gauntlet.reports.plots.training import curve
from tests.reports.folders import add_bounds, change_entry, make_run


def first(count, right):
    """Right on the first so many examples."""
    return [i < right for i in range(count)]


@pytest.fixture
def run(folder):
    """Ten examples: L∞ breaks 4 of 9, L2 breaks 3 of these and one more."""
    l2 = [True] * 10
    for i in (6, 7, 8, 0, 9):
        l2[i] = False
    return read_run(make_run(folder, {"clean": first(10, 9), "linf": first(10, 5), "l2": l2}), "paper")


def described(plot):
    """The description inside a drawing, which must be well-formed."""
    root = ElementTree.fromstring(plot.svg)
    assert root.attrib["role"] == "img"
    return root.attrib["aria-label"]


def test_the_union_builds_up_attack_by_attack(run):
    assert [(stage.attack, stage.alone, stage.together) for stage in build_up(run)] == [
        ("clean", 0.9, 0.9), ("linf", 0.5, 0.5), ("l2", 0.5, 0.4)
    ]  # fmt: skip
    assert "clean 90.0 %; linf 50.0 %; l2 40.0 %" in described(build_up_plot(run, "a"))
    assert build_up(run)[-1].together == run.cells["union"].value


def test_overlaps_are_those_of_the_records(run):
    text = described(overlap_plot(run, "a"))
    assert "none 4; linf, l2 3; linf 1; l2 1" in text
    assert "Of 9 examples" in overlap_plot(run, "a").caption


def test_accuracies_of_all_runs_with_their_intervals(run, folder):
    other = make_run(folder / "other", {"clean": first(10, 10), "linf": first(10, 0)}, name="at_l2/small_resnet/seed0")
    table = make_paper_table([run, read_run(other, "paper")], None)
    plot = column_plot(table, "linf", "a")
    assert plot.title == "linf, bound 8/255"
    assert "normal 50.0 % (23.7–76.3); at_l2 0.0 % (0.0–27.8)" in described(plot)
    assert "normal" in described(column_plot(table, "l2", "a"))
    assert "at_l2" not in described(column_plot(table, "l2", "a")).split(":")[1]
    text = described(row_plot(table, 0, "a"))
    assert "union 40.0 %" in text
    assert "linf, bound 8/255 50.0 %" in text


def test_distances_are_of_images_that_fool_it(run):
    hit = run.records["linf"].filter(pl.col("example_id").is_between(5, 8))
    text = described(distance_plot(run, "a"))
    assert f"linf L∞ {hit['linf'].median():.3g}" in text
    assert "clean" not in text
    assert "calibrated" not in text


def test_attacks_that_differ_in_the_bound_alone_make_a_curve_across_suites(run, folder):
    add_bounds(folder, "linf", {0.5: first(10, 7), 2: first(10, 1)})
    ((family, points),) = accuracy_curves(read_run(folder, "paper")).items()
    assert (family.threat_model, family.algorithm) == ("linf", "pgd")
    assert [(round(255 * point.bound), point.accuracy.value) for point in points] == [
        (0, 0.9), (4, 0.7), (8, 0.5), (16, 0.1)
    ]  # fmt: skip
    ((plot, attacks),) = bound_plots(make_paper_table([read_run(folder, "paper")], None), "a")
    assert "90.0 % at 0, 70.0 % at 4/255, 50.0 % at 8/255, 10.0 % at 16/255" in described(plot)
    assert len(attacks) == 4


def test_other_searches_other_weights_and_other_examples_are_no_point_of_a_curve(run, folder):
    assert accuracy_curves(run) == {}
    add_bounds(folder, "linf", {0.5: first(10, 7)})
    file = next(
        file for file in (folder / "records").glob("linf-*/identity.json")
        if json.loads(file.read_text())["entry"]["threat_model"]["bound"] < 0.02
    )  # fmt: skip
    whole = file.read_text()
    assert len(accuracy_curves(read_run(folder, "paper"))) == 1
    identity = json.loads(whole)
    identity["entry"]["steps"] = 99
    file.write_text(json.dumps(identity))
    assert accuracy_curves(read_run(folder, "paper")) == {}
    file.write_text(whole)
    plan = folder / "suites" / "paper@0.5.json"
    for changed in ({"examples": 9}, {"checkpoint": "other"}):
        kept = plan.read_text()
        plan.write_text(json.dumps(json.loads(kept) | changed))
        assert accuracy_curves(read_run(folder, "paper")) == {}
        plan.write_text(kept)


def test_a_composition_is_drawn_over_the_bound_of_its_first_part(run, folder):
    for share in (1, 0.5):
        suite = "paper" if share == 1 else "paper@0.5"
        if share != 1:
            add_bounds(folder, "linf", {0.5: first(10, 7)})
        change_entry(folder, "linf", suite, bound=1.0, threat_model="a+b")
        file = folder / read_plan(folder, suite).entries["linf"].folder / "identity.json"
        identity = json.loads(file.read_text())
        identity["entry"]["threat_model"] = {"parts": [{"bound": 0.06 * share}, {"bound": 0.05 * share}]}
        file.write_text(json.dumps(identity))
    ((family, points),) = accuracy_curves(read_run(folder, "paper")).items()
    assert family.threat_model == "a+b"
    assert [point.bound for point in points] == [0, 0.03, 0.06]


def test_training_curves_are_thinned_to_means(folder, run):
    table = pl.DataFrame({"step": range(1000), "x": [float(i) for i in range(1000)], "y": [None] * 999 + [1.0]})
    steps, values = curve(table, "x")
    assert len(steps) == 200
    assert values[0] == steps[0] == 2.0  # the mean of 0 to 4
    assert sum(values) / 200 == pytest.approx(499.5)
    assert curve(table, "y") == ([999.0], [1.0])
    assert "training" in described(training_plot(folder, "a"))
    (folder / "metrics.csv").unlink()
    assert training_plot(folder, "a") is None


def test_a_drawing_is_the_same_bytes_again_and_shares_no_name_with_another(run):
    one, again, other = overlap_plot(run, "a"), overlap_plot(run, "a"), overlap_plot(run, "b")
    assert one == again
    names = [set(re.findall(r' id="([^"]+)"', plot.svg)) for plot in (one, other)]
    assert names[0]
    assert not names[0] & names[1]
    used = set(re.findall(r'(?:url\(|href=")#([^")]+)', one.svg))
    assert used <= names[0]


def test_there_is_no_plot_of_nothing(folder):
    perfect = read_run(make_run(folder, {"clean": first(4, 4), "linf": first(4, 4)}), "paper")
    assert distance_plot(perfect, "a") is None
    assert overlap_plot(perfect, "a") is None  # one attack has nothing to overlap with
