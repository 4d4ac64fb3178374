"""`report.py` over several runs, of which some cannot be read."""

import shutil


def test_a_report_of_several_runs_shows_the_others_and_names_the_missing_one(door, run, tmp_path):
    second, third = (shutil.copytree(run, run.with_name(name)) for name in ("second", "third"))
    shutil.rmtree(second / "records")
    (third / "suites" / "quick.json").unlink()
    result = door("report", f"runs=[{second},{run},{third}]", f"folder={tmp_path / 'report'}")
    assert result.code == 0, result.err
    lines = [line for line in result.out.splitlines() if line.startswith("left out: ")]
    assert len(lines) == 2
    assert f"{second} has no records of" in lines[0]
    assert f"{third} was not evaluated under suite quick" in lines[1]
    assert "unseen mean" in result.out
    table = (tmp_path / "report" / "table.csv").read_text()
    assert str(run) in table
    assert str(second) not in table


def test_a_report_with_nothing_left_names_all_of_them_in_one_line(door, run, tmp_path):
    second = shutil.copytree(run, run.with_name("second"))
    for folder in (run, second):
        shutil.rmtree(folder / "records")
    result = door("report", f"runs=[{run},{second}]", f"folder={tmp_path / 'report'}")
    assert (result.code, len(result.err.strip().splitlines())) == (2, 1), result.err
    assert str(run) in result.err
    assert str(second) in result.err
    assert not (tmp_path / "report").exists()
