"""`bounds=[…]`: one suite at shares of the dataset's bounds, as curves."""

import polars as pl
import pytest

from gauntlet.config.bounds import shares
from gauntlet.errors import UserError
from gauntlet.evaluation import Kind, read_plan, read_records, read_run
from gauntlet.reports.curves import read_curves

SMALL = ("evaluation.examples=40", "evaluation.chunk=20", "evaluation.probed=2")


def measured(run):
    return {file: file.stat().st_mtime_ns for file in run.rglob("*.parquet")}


def linf_bounds(run):
    return {file.stem: read_plan(run, file.stem).entries["linf"].bound for file in plans(run)}


def plans(run):
    return sorted((run / "suites").glob("*.json"))


def test_every_share_has_its_records_and_the_whole_is_the_suite_itself(door, run):
    before = measured(run)
    result = door("evaluate", f"checkpoint={run}", "bounds=[2,0.5,1]", *SMALL)
    assert result.code == 0, result.err
    assert linf_bounds(run) == {"quick": 0.1, "quick@0.5": 0.05, "quick@2": 0.2}
    after = measured(run)
    assert {file: after[file] for file in before} == before  # what was there is not done again
    assert len(after) == len(before) + 2 * 3 * 2  # two shares, three attacks with a bound, two chunks
    for share, folder in ((0.5, "quick@0.5"), (2, "quick@2")):
        path = run / read_plan(run, folder).entries["linf"].folder
        assert read_records(path, Kind.ATTACK)["linf"].max() == pytest.approx(share * 0.1, abs=1e-6)
    assert "measured anew" not in result.out  # other bounds are what was asked for


def test_curves_are_read_and_shown_on_the_terminal_and_in_the_report(door, run):
    result = door("evaluate", f"checkpoint={run}", "bounds=[0.5,1]", "attack_suite=quick", *SMALL)
    curves = read_curves(run, "quick")
    assert list(curves) == [0.5, 1.0]
    assert curves[1.0].cells == read_run(run, "quick").cells
    assert curves[1.0].flags == read_run(run, "quick").flags
    bounds = [curves[share].plan.entries["perceptual"].bound for share in (0.5, 1.0)]
    assert bounds[0] == pytest.approx(bounds[1] / 2)
    assert curves[0.5].cells["linf"].value >= curves[1.0].cells["linf"].value
    assert curves[0.5].cells["clean"] == curves[1.0].cells["clean"]
    table = result.out[result.out.index("at shares of its bounds") :]
    assert "× 0.5" in table
    assert "union" in table
    page = (run / "report.md").read_text()
    assert "## Accuracy against the bound, attack suite quick" in page
    assert "| attack | × 0.5 | × 1 |" in page
    assert "## Attack suite quick@0.5" not in page


@pytest.mark.slow
def test_a_sweep_of_shares_gives_what_a_list_gives(door, run):
    result = door("evaluate", "-m", f"checkpoint={run}", "bounds=0.5,2", *SMALL)
    assert result.code == 0, result.err
    assert list(read_curves(run, "quick")) == [0.5, 1.0, 2.0]
    before = measured(run)
    assert door("evaluate", f"checkpoint={run}", "bounds=[0.5,2]", *SMALL).code == 0
    assert measured(run) == before


@pytest.mark.slow
def test_at_no_bound_all_attacks_leave_the_clean_accuracy(door, run):
    assert door("evaluate", f"checkpoint={run}", "bounds=[0]", *SMALL).code == 0
    cells = read_curves(run, "quick")[0.0].cells
    assert cells["linf"] == cells["l2"] == cells["perceptual"] == cells["union"] == cells["clean"]


def test_survivors_have_curves_of_their_own(door, run):
    assert door("evaluate", f"checkpoint={run}", "bounds=[0.5,2]", "mode=survivors", *SMALL).code == 0
    curves = read_curves(run, "quick-survivors")
    assert list(curves) == [0.5, 2.0]
    assert curves[0.5].cells["linf"] is None
    assert curves[0.5].cells["union"].value >= curves[2.0].cells["union"].value
    assert list(read_curves(run, "quick")) == [1.0]


@pytest.mark.slow
def test_accuracy_that_rises_with_the_share_has_a_flag(door, run):
    assert door("evaluate", f"checkpoint={run}", "bounds=[0.5,1]", *SMALL).code == 0
    assert read_curves(run, "quick")[1.0].raised == read_run(run, "quick").raised
    path = run / read_plan(run, "quick").entries["linf"].folder
    for file in path.glob("*.parquet"):
        pl.read_parquet(file).with_columns(correct=pl.lit(True)).write_parquet(file)
    curves = read_curves(run, "quick")
    assert ("bound", "linf") in {(flag.name, flag.attack) for flag in curves[1.0].raised}
    assert curves[1.0].mark("linf") == "†"


def test_a_dry_run_has_a_plan_for_every_share(door, run):
    result = door("evaluate", f"checkpoint={run}", "bounds=[0.5,1]", "dry_run=true", *SMALL)
    assert result.code == 0, result.err
    assert "attack suite quick@0.5 would do" in result.out
    assert "attack suite quick would do" in result.out


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("bounds=0.25,0.5,1,2",), "key=[value1,value2]"),
        (("bounds=[half]",), "bounds=[0.25,0.5,1,2]"),
        (("bounds=[]",), "bounds=[0.25,0.5,1,2]"),
        (("bounds=[-1]",), "bounds=[0.25,0.5,1,2]"),
        (("bounds=[1,20]",), "L∞ bound 2.0 is not in [0, 1]"),
    ],
)
def test_invalid_shares_are_refused_in_one_line_before_anything_is_measured(door, run, words, hint):
    before = measured(run)
    result = door("evaluate", f"checkpoint={run}", "suite=other", *words, *SMALL)
    assert (result.code, len(result.err.strip().splitlines())) == (2, 1), result.err
    assert hint in result.err
    assert measured(run) == before


def test_shares_are_sorted_without_repetitions():
    assert shares(None) == [None]
    assert shares(0.5) == [0.5]
    assert shares([2, 1, 0.5, 1.0]) == [0.5, 1.0, 2.0]
    with pytest.raises(UserError, match="bounds=True"):
        shares(True)


BOTH_SIDES = """
import torch
from dataclasses import dataclass

from gauntlet.attacks import MinimumDistanceAttack
from gauntlet.certificates import Certificate, Certified
from gauntlet.threats import L2


@dataclass(frozen=True, kw_only=True)
class Nothing(MinimumDistanceAttack):
    def nearest(self, classifier, region, labels, noise):
        return region.zero()


@dataclass(frozen=True)
class Half(Certificate):
    threat_model: L2

    def __call__(self, classifier, images, noise):
        radius = (1000 * images.double().mean((1, 2, 3))) % 5
        return Certified(classifier(images).argmax(1), radius, torch.zeros(len(images), dtype=torch.bool))
"""


def test_minimum_distances_and_certificates_are_measured_once_for_all_shares(door, run, tmp_path, monkeypatch):
    """Their records answer at every bound: one folder each, and the cells of every share."""
    (tmp_path / "both_sides.py").write_text(BOTH_SIDES)
    monkeypatch.syspath_prepend(tmp_path)
    suite = ["attack_suite=quick", "suite=both", "allow=[both_sides]"]
    for key, name in (("attacks.nearest", "Nothing"), ("certificates.half", "Half")):
        suite.append(f"+attack_suite.{key}._target_=both_sides.{name}")
        suite.append(f"+threat_model@attack_suite.{key}.threat_model=l2")
    result = door("evaluate", f"checkpoint={run}", "bounds=[0.5,1,2]", *suite, *SMALL)
    assert result.code == 0, result.err
    curves = read_curves(run, "both")
    assert list(curves) == [0.5, 1.0, 2.0]
    for name in ("nearest", "half"):
        assert len({actual.plan.entries[name].folder for actual in curves.values()}) == 1
        assert len(list((run / "records").glob(f"{name}-*"))) == 1
        lines = [line for line in result.out.splitlines() if line.startswith(f"{name}: chunk")]
        assert ["images/s" in line for line in lines] == [True, True, False, False]  # two chunks, then what is there
    assert len(list((run / "records").glob("l2-*"))) == 3  # at the bound itself it is that of quick
    bounds = [actual.plan.entries["half"].bound for actual in curves.values()]
    assert bounds == pytest.approx([1.0, 2.0, 4.0])
    stated = curves[1.0].records["half"]
    assert len({(stated["radius"] >= bound).sum() for bound in bounds}) == 3
    for bound, (share, actual) in zip(bounds, curves.items(), strict=True):
        expected = (stated["correct"] & (stated["radius"] >= bound)).mean()
        assert actual.cells["half"].value == pytest.approx(expected), share
        assert actual.cells["nearest"] == actual.cells["clean"], share  # it finds nothing at any distance
