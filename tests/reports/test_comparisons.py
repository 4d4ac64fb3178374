"""Several runs in pairs, on the terminal and on a page."""

import shutil

import polars as pl
import pytest

from gauntlet.evaluation import read_plan, read_records, read_run
from gauntlet.evaluation.statistics.paired_tests import mcnemar
from gauntlet.files import write_atomically
from gauntlet.reports import compare_runs
from gauntlet.reports.comparison import compare_all, comparisons_markdown, comparisons_table


def folder_of(run, attack, suite="quick"):
    return run / read_plan(run, suite).entries[attack].folder


def spoil(run, attack, count):
    """Let an attack break the first so many examples that it leaves correct. How many these are."""
    path = folder_of(run, attack)
    frame = read_records(path, read_plan(run, "quick").entries[attack].kind)
    broken = frame.filter("correct")["example_id"].head(count).to_list()
    for file in path.glob("*.parquet"):
        part = pl.read_parquet(file)
        hit = pl.col("example_id").is_in(broken)
        part.with_columns(correct=pl.col("correct") & ~hit).write_parquet(file)
    return len(broken)


def quick(*folders):
    """The runs in some folders under the suite `quick`."""
    return [read_run(folder, "quick") for folder in folders]


@pytest.fixture
def other(run):
    """The same run under another name, to be spoilt."""
    path = shutil.copytree(run, run.with_name("other"))
    card = (path / "card.json").read_text()
    write_atomically(path / "card.json", card.replace("seed0", "worse"))
    return path


def test_every_run_is_compared_with_the_one(run, other):
    count = spoil(other, "clean", 6)
    (comparisons,) = compare_all(quick(run, other), *quick(run))
    assert (comparisons.run, comparisons.against) == ("normal/small_resnet/worse", "normal/small_resnet/seed0")
    clean = comparisons.pairs["clean"]
    assert (clean.only_first, clean.only_second, clean.p_value) == (0, count, mcnemar(0, count))
    assert clean.difference == -count / 40
    assert [one.run for one in compare_all(quick(run, other), *quick(other))] == ["normal/small_resnet/seed0"]
    assert compare_all(quick(run), *quick(run)) == []


def test_what_cannot_be_compared_says_why_and_the_others_are(run, other):
    third = shutil.copytree(run, run.with_name("third"))
    identity = folder_of(third, "l2") / "identity.json"
    write_atomically(identity, identity.read_text().replace('"seed": 0', '"seed": 7'))
    comparisons = compare_all(quick(run, other, third), *quick(run))
    assert [bool(one.pairs) for one in comparisons] == [True, False]
    assert "l2 was not measured alike, the two runs differ in seed" in comparisons[1].reason
    assert "is not compared: l2 was not measured alike" in comparisons_markdown(comparisons)


def test_runs_on_survivors_are_compared_in_the_union_and_where_they_are_whole(door, run, other):
    for path in (run, other):
        result = door(
            "evaluate", f"checkpoint={path}", "mode=survivors", "evaluation.examples=40", "evaluation.chunk=20"
        )
        assert result.code == 0, result.err
    pairs = compare_runs(read_run(run, "quick-survivors"), read_run(other, "quick-survivors"))
    assert pairs.keys() == {"clean", "perceptual", "union"}
    assert pairs["union"] == compare_runs(*quick(run, other))["union"]


def test_the_report_compares_runs_with_one_of_them(door, run, other, tmp_path):
    count = spoil(other, "clean", 10)
    result = door("report", f"runs=[{run},{other}]", f"against={run}", f"folder={tmp_path / 'report'}")
    assert result.code == 0, result.err
    assert "against normal/small_resnet/seed0, on the same examples" in result.out
    assert f"{-100 * count / 40:+.1f}**" in result.out
    assert (
        "normal/small_resnet/worse against normal/small_resnet/seed0, 40 test examples."
        in (tmp_path / "report" / "table.md").read_text()
    )
    result = door("report", f"runs=[{run},{other}]", f"against={other}", "folder=null")
    assert "against normal/small_resnet/worse, on the same examples" in result.out
    assert "against normal" not in door("report", f"runs=[{run},{other}]", "folder=null").out


def test_runs_and_attacks_whichever_are_more_are_below_each_other(run, other):
    comparisons = compare_all(quick(run, other), *quick(run))
    attacks = ["clean", "linf", "l2", "perceptual", "union"]
    upright = comparisons_table(comparisons, "pairs")
    assert list(upright.columns[0].cells) == attacks
    assert len(upright.columns) == 2  # the run itself is not compared
    compared = next(one for one in comparisons if one.pairs)
    lying = comparisons_table([compared] * 5, "pairs")
    assert lying.row_count == 5
    assert [column.header for column in lying.columns] == ["run", *attacks]
