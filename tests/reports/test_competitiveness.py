"""Competitiveness ratios of several runs, from their records."""

import math

import pytest

from gauntlet.evaluation import Competitiveness, read_run
from gauntlet.reports import latex, make_paper_table, markdown
from gauntlet.reports.competitiveness import competitiveness
from tests.reports.folders import Distances, make_run

GRID = {"multirobust": Competitiveness({"near": [0.5, 1.0, 3.0], "other": [0.25]})}
FIRST = {"near": [0.0, 0.7, 1.2, 2.0], "other": [0.0, 0.1, 0.1, 0.5]}
SECOND = {"near": [0.6, 0.7, 0.8, 2.0], "other": [0.3, 0.3, 0.5, 0.5]}


def made(folder, seed, distances, aggregates=GRID):
    clean = [distance > 0 for distance in distances["near"]]
    found = {name: Distances(values) for name, values in distances.items()}
    name = f"normal/small_resnet/seed{seed}"
    options = {"distances": found, "aggregates": aggregates, "name": name}
    return read_run(make_run(folder / str(seed), {"clean": clean}, **options), "paper")


def test_ratios_are_of_the_best_run_in_each_cell(tmp_path):
    """Accuracies of the first run: near 3/4, 2/4, 0, other 1/4; of the second 4/4, 1/4, 0, 4/4."""
    runs = {"a": made(tmp_path, 0, FIRST), "b": made(tmp_path, 1, SECOND)}
    table = competitiveness(runs)
    assert table.head == ["run", "CR-avg", "CR-worst", "worst at"]
    first, second = table.rows
    assert first[1].startswith(f"{100 * (3 / 4 + 1 + 1 / 4) / 3:.1f} (")
    assert first[2].startswith("25.0 (")
    assert first[3] == "other, 0.25 L2"
    assert second[1].startswith(f"{100 * (1 + 1 / 2 + 1) / 3:.1f} (")
    assert (second[2].split()[0], second[3]) == ("50.0", "near, 1 L2")
    assert "best of these 2 runs, in 3 cells" in table.caption
    assert "(1 more, in which all runs have 0 %, are left out)" in table.caption
    assert runs["a"].cells["multirobust"].value == pytest.approx((3 + 2 + 0 + 1) / 16)


def test_a_run_alone_competes_with_none(tmp_path):
    assert competitiveness({"a": made(tmp_path, 0, FIRST)}) is None


def test_runs_without_such_an_aggregate_have_no_ratios(tmp_path):
    runs = {str(seed): made(tmp_path, seed, FIRST, aggregates={}) for seed in range(2)}
    assert competitiveness(runs) is None


def test_classifiers_that_are_always_wrong_have_no_ratios(tmp_path):
    wrong = {name: [0.0] * 4 for name in FIRST}
    assert competitiveness({str(seed): made(tmp_path, seed, wrong) for seed in range(2)}) is None


def test_the_table_is_in_every_form_of_a_report(tmp_path):
    table = make_paper_table([made(tmp_path, 0, FIRST), made(tmp_path, 1, SECOND)], None)
    assert "| run | CR-avg | CR-worst | worst at |" in markdown(table)
    assert "CR-worst" in latex(table)
    assert list(table.more) == ["competitiveness ratio"]


def test_infinite_distances_are_correct_in_every_cell(tmp_path):
    never = {name: [math.inf] * 4 for name in FIRST}
    table = competitiveness({"a": made(tmp_path, 0, never), "b": made(tmp_path, 1, FIRST)})
    assert table.rows[0][1].startswith("100.0 (100.0–100.0)")
    assert "in 4 cells" in table.caption
