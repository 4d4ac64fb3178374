"""The best run of a column, and the runs that are significantly worse."""

import json

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from gauntlet.evaluation import mcnemar
from gauntlet.reports import read_run
from gauntlet.reports.significance import holm, verdicts
from tests.reports.folders import make_run


def runs(folder, *linf, count=100, clean=100):
    """Runs that are right on the first so many examples under L∞, and on the first `clean` without it."""
    whole = [i < clean for i in range(count)]
    made = [
        make_run(folder / str(i), {"clean": whole, "linf": [j < n for j in range(count)]}, name=f"d{i}/m/seed0")
        for i, n in enumerate(linf)
    ]
    return [read_run(path, "paper") for path in made]


def test_p_values_are_of_mcnemars_test_against_the_best_and_after_holm(folder):
    """Nested answers: every discordant example is the best run's, so the p-value is 2 / 2^n."""
    first, best, third = verdicts(runs(folder, 54, 60, 56), "linf")
    assert best == (True, 1.0)
    assert third.p_value == max(mcnemar(4, 0), 2 * mcnemar(6, 0)) == 0.125
    assert first.p_value == 2 * mcnemar(6, 0) == 2 * 2 / 2**6
    assert [verdict.worse for verdict in (first, best, third)] == [False, False, False]
    far, best, _ = verdicts(runs(folder / "far", 40, 60, 56), "linf")
    assert (far.worse, best.worse) == (True, False)


def test_runs_as_good_as_the_best_are_best_too(folder):
    assert [verdict.best for verdict in verdicts(runs(folder, 60, 50, 60), "linf")] == [True, False, True]
    assert [verdict.best for verdict in verdicts(runs(folder / "equal", 3, 3), "union")] == [True, True]


def test_runs_that_were_not_measured_alike_are_not_compared(folder):
    measured = runs(folder, 60, 50, 40)
    path = next((measured[0].folder / "records").glob("linf-*")) / "identity.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"seed": 1}))
    again = [read_run(run.folder, "paper") for run in measured]
    alone, best, worse = verdicts(again, "linf")
    assert alone is None
    assert (best.best, worse.best) == (True, False)
    assert verdicts(again, "union")[0] is None
    assert verdicts(again, "clean")[0].best
    assert verdicts(measured[:1], "linf") == [None]


def test_the_union_is_compared_example_by_example(folder):
    best, worse = verdicts(runs(folder, 60, 40), "union")
    assert (best.best, worse.p_value) == (True, pytest.approx(2 / 2**20))
    assert verdicts(runs(folder / "again", 60, 40), "unseen mean") == [None, None]


def test_holm_is_that_of_statsmodels():
    noise = np.random.default_rng(0)
    for count in (1, 2, 3, 8, 20):
        for top in (0.05, 1.0):
            p_values = [*(noise.random(count) * top).tolist(), 0.0, top, top]
            assert holm(p_values) == pytest.approx(list(multipletests(p_values, method="holm")[1]))
    assert holm([]) == []
