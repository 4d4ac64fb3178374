"""`attack_suite=corruptions` from the command line: a readable table, a baseline, every form of the report."""

import json

import pytest

from gauntlet.corruptions import TYPES
from gauntlet.reports import latex, make_paper_tables, markdown, page, read_run, terminal_table, to_frame
from tests.fixtures import shared_data

KEPT = ("contrast", "jpeg_compression")
FEW = (
    "attack_suite=corruptions",
    *(f"attack_suite.types.{kind}=null" for kind in TYPES if kind not in KEPT),
    *("evaluation.examples=20", "evaluation.chunk=20", "evaluation.probed=2", "logger=csv"),
)


@pytest.fixture
def evaluated(door, run):
    """A small run of digits, under two types of corruption."""
    result = door("evaluate", f"checkpoint={run}", *FEW)
    assert result.code == 0, result.err
    return run, result.out


def test_the_table_has_a_line_per_type(evaluated):
    run, out = evaluated
    table = out[out.index("through attack suite corruptions") :]
    assert [word for word in KEPT if f"│ {word} " in table] == list(KEPT)
    assert "contrast_1" not in table
    assert "mean of 2" in table
    result = " ".join(table.split())
    assert "2 of 15 types of corruption, without gaussian_noise" in result
    assert "images generated" in result
    assert "No mCE: set baseline=… for it" in result
    text = (run / "report.md").read_text()
    assert "| error % | 1 | 2 | 3 | 4 | 5 | mean |" in text
    assert "| mean of 2 |" in text


def test_an_error_counts_also_for_a_misclassified_clean_image(evaluated):
    run, _ = evaluated
    actual = read_run(run, "corruptions")
    frame = actual.records["contrast_5"]
    expected = (frame["prediction"] == frame["label"]).mean()
    table = actual.plan.results["corruption errors"].table
    row = next(row for row in table.rows if row[0] == "contrast")
    assert row[5] == f"{100 * (1 - expected):.1f}"
    five = [(actual.records[f"contrast_{i}"]["prediction"] == frame["label"]).mean() for i in range(1, 6)]
    assert actual.cells["contrast"].value == pytest.approx(sum(five) / 5)


def test_relative_to_itself_everything_is_100(door, evaluated):
    run, _ = evaluated
    result = door("evaluate", f"checkpoint={run}", f"baseline={run}", *FEW)
    assert result.code == 0, result.err
    assert "chunk 1 of 1" in result.out
    assert "images/s" not in result.out  # nothing was measured again
    actual = read_run(run, "corruptions")
    assert actual.cells["mCE"].value == pytest.approx(1)
    kept = json.loads((run / "suites" / "baseline" / "corruptions.json").read_text())
    assert sorted(kept["corruption errors"]["types"]) == sorted(KEPT)
    assert "| error % | 1 | 2 | 3 | 4 | 5 | mean | CE | relative CE |" in (run / "report.md").read_text()


def test_a_baseline_by_name_and_invalid_ones(door, evaluated, tmp_path):
    run, _ = evaluated
    result = door("evaluate", f"checkpoint={run}", "baseline=alexnet", *FEW)
    assert result.code == 0, result.err
    assert "% of AlexNet" in " ".join(result.out.split())
    for given, why in (
        ("nothing", "expected alexnet, a YAML of errors, a run folder"),
        (str(tmp_path), "has no records: first evaluate it as this is"),
    ):
        result = door("evaluate", f"checkpoint={run}", f"baseline={given}", *FEW)
        assert result.code == 2
        assert why in result.err
    result = door("evaluate", f"checkpoint={run}", "baseline=alexnet", *FEW[-4:-1])
    assert result.code == 2
    assert "baseline=alexnet is for suites of whole corruptions" in result.err
    (tmp_path / "errors.yaml").write_text("name: mine\nclean: 5\nerrors: {}\n")
    result = door("evaluate", f"checkpoint={run}", f"baseline={tmp_path / 'errors.yaml'}", *FEW)
    assert result.code == 2
    assert "errors.yaml" in result.err
    result = door("evaluate", f"checkpoint={run}", f"baseline={run}", *FEW, "evaluation.examples=7", "suite=fewer")
    assert result.code == 2


def test_a_baseline_of_other_corruptions_is_refused(door, evaluated):
    run, _ = evaluated
    other = ("suite=other", "attack_suite.types.contrast.0.factor=0.7")
    result = door("evaluate", f"checkpoint={run}", f"baseline={run}", *FEW, *other)
    assert result.code == 2
    assert "was not evaluated under suite other" in result.err


def test_every_form_of_the_report_has_types_for_columns(evaluated):
    run, _ = evaluated
    tables = make_paper_tables([read_run(run, "corruptions")], {})
    assert tables[0].columns == ["clean", *KEPT, "corruption mean"]
    for text in (markdown(tables[0]), latex(tables[0]), page(tables, {})):
        assert "contrast" in text
        assert "contrast_1" not in text.replace("\\", "")
    frame = to_frame(tables)
    assert frame["column"].to_list() == ["clean", *KEPT, "corruption mean"]
    assert frame["value"].null_count() == 0


def test_a_flag_of_one_severity_marks_the_type_and_the_mean(evaluated):
    run, _ = evaluated
    file = run / "suites" / "flags" / "corruptions.json"
    content = json.loads(file.read_text())
    next(flag for flag in content["flags"] if flag["attack"] == "contrast_4")["value"] = 0.5
    file.write_text(json.dumps(content))
    actual = read_run(run, "corruptions")
    assert {name for name in actual.cells if actual.mark(name)} == {"contrast", "corruption mean"}
    assert [flag.attack for flag in actual.flags_by_column if flag.raised] == ["contrast"]


def test_frost_with_photographs(door, run):
    frost = shared_data("frost")
    only = [f"attack_suite.types.{kind}=null" for kind in TYPES if kind != "frost"]
    result = door(
        "evaluate", f"checkpoint={run}", "attack_suite=corruptions", *only, f"attack_suite.frost={frost}", *FEW[-4:]
    )
    assert result.code == 0, result.err
    assert "│ frost " in result.out
    assert terminal_table(make_paper_tables([read_run(run, "corruptions")], {})[0]).row_count == 1
