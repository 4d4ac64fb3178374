"""The page about an own certificate, run unchanged: both sides of the table meet, a wrong one is caught."""

import shlex

import polars as pl
import pytest

from gauntlet.evaluation import read_run
from gauntlet.evaluation.soundness import within_radius
from gauntlet.kinds import Kind
from gauntlet.reports.certified import attacked_at
from gauntlet.tolerance import TOLERANCE
from tests.docs.pages import ROOT, blocks, commands
from tests.docs.test_commands import finalize, run_python

GUIDE = ROOT / "docs" / "own_certificate.md"
FEW = ("evaluation.examples=40", "evaluation.chunk=20", "logger=csv")
SMALL = {"train": (*FEW, "trainer=cpu", "trainer.max_epochs=2"), "evaluate": FEW, "report": ()}

pytestmark = pytest.mark.skipif(not GUIDE.exists(), reason="no docs in this installation")


@pytest.fixture
def folder(fitted, tmp_path, monkeypatch):
    """A reader's folder with the files of the page, and a reference network that need not be fitted."""
    (tmp_path / "outputs").mkdir()
    (tmp_path / "outputs" / "references").symlink_to(fitted / "references")
    finalize(GUIDE, tmp_path, monkeypatch)
    return tmp_path


def test_certificate_and_attack_are_one_file_and_one_yaml_each():
    assert [block.file for block in blocks(GUIDE) if block.file] == [
        "margin.py",
        "conf/certificate/margin.yaml",
        "nearest.py",
        "conf/attack/nearest.yaml",
        "conf/attack_suite/margin.yaml",
        "wrong.py",
    ]


def test_its_checks_pass_and_the_wrong_certificate_is_refused_by_them(folder, capsys):
    for block in blocks(GUIDE):
        if block.language == "python" and not block.file:
            run_python(block.text)
    result = capsys.readouterr().out
    assert "certified ['0." in result
    assert "TooLarge: radius" in result


def test_the_gap_is_closed_and_the_wrong_certificate_is_named_with_the_ids(folder, door):
    result = {}
    for command in commands(GUIDE):
        program, *words = shlex.split(command.text)
        if not program.startswith("gauntlet-"):
            continue
        name = program.removeprefix("gauntlet-")
        (run,) = folder.glob("outputs/digits/normal-linear/*") if name != "train" else [None]
        words = [f"checkpoint={run}" if word.startswith("checkpoint=") else word for word in words_of(words)]
        done = door(name, *words, *SMALL[name])
        assert done.code == 0, f"{command}\n{done.err}"
        result[command.text.partition(" suite=")[2].partition(" ")[0] or name] = done.out
    both = read_run(run, "margin")
    _check_closed(both)
    assert "certified %" in result["train"]
    assert "SOUNDNESS" not in result["train"] + result["clean_and_margin"]
    assert "median_distance" in result["clean_and_margin"]
    page = (folder / "outputs" / "report" / "report.html").read_text()
    assert "accuracy against the bound" in page
    assert "nearest" in page.split("accuracy against the bound", 1)[1]
    _check_named(read_run(run, "wrong"), both, result["wrong"])
    _check_without_power(read_run(run, "wrong_and_weak"), result["wrong_and_weak"])


def words_of(words):
    """Without the pieces of `$(ls -d …)`, which a shell would have replaced."""
    return [word for word in words if word != "-d" and not word.endswith("*)")]


def _check_closed(run):
    """Distance and radius differ by no more than rounding, at every example and at every bound."""
    assert run.complete
    assert not run.violations
    near = run.records["nearest"].join(run.records["margin"], on="example_id", suffix="_certified")
    assert near["clean_prediction"].equals(near["prediction_certified"])
    right = near.filter(pl.col("distance") > 0)
    assert len(right) > 20
    assert right["correct_certified"].all()
    assert (right["distance"] >= right["radius"]).all()
    assert ((right["distance"] - right["radius"]).abs() <= 1e-3).all()
    for bound in (0.1, 0.5, 1.0, 2.0):
        certified = run.holds("margin", bound).mean()
        attacked = attacked_at(run, ["nearest"], bound).value
        close = right.filter((pl.col("radius") - bound).abs() <= 1e-3 + TOLERANCE * bound)
        assert 0 <= attacked - certified <= len(close) / len(near)
    columns = {name: column.estimate.value for name, column in run.aggregates.items()}
    assert columns["median_distance"] == pytest.approx(columns["median_radius"], abs=1e-3)
    counted = near["radius"].dot(near["correct_certified"].cast(pl.Float64)) / len(near)
    assert columns["average_radius"] == pytest.approx(counted, rel=1e-9)


def _check_named(wrong, both, result):
    """Every example whose radius × 1.5 is beyond its distance, and no other."""
    ids = within_radius(wrong.records["margin"], wrong.records["nearest"], Kind.MINIMUM_DISTANCE, 2.0)
    right = both.records["nearest"].filter(pl.col("distance") > 0)
    assert sorted(ids) == sorted(right["example_id"])
    assert "SOUNDNESS: margin is contradicted" in result
    assert f"{sorted(ids)[0]}," in result.partition("SOUNDNESS")[2]


def _check_without_power(weak, result):
    """No attack succeeds within any radius, so nothing is contradicted, and that is what is flagged."""
    (soundness,) = weak.plan.soundness
    assert not soundness.wrong
    assert soundness.broken < 0.5
    assert soundness.multiple == 4
    assert "SOUNDNESS" not in result
    shown = " ".join(result.split())
    assert "soundness power: margin 100 %; expected at most 50 %: share of examples left correct by nearest" in shown
    assert "within 4 times the certified radius: attacks this weak cannot contradict a certificate" in shown
