"""A record file is opened once in an evaluation, however many ask for what is in it."""

from collections import Counter
from pathlib import Path

import polars as pl
import pytest

from gauntlet.evaluation import evaluate, read_records
from tests.evaluation import tiny


@pytest.fixture
def opened(monkeypatch):
    """How often each file was opened."""
    count, read = Counter(), Path.read_bytes

    def counting(file):
        if file.suffix == ".parquet":
            count[str(file)] += 1
        return read(file)

    monkeypatch.setattr(Path, "read_bytes", counting)
    return count


def test_a_notebook_opens_each_file_once(opened, tmp_path):
    one = tiny.model()
    evaluate(one.classifier, one.examples, tiny.suite(), tiny.GRID, folder=tmp_path)
    assert opened == {str(file): 1 for file in tmp_path.rglob("*.parquet")}
    assert len(opened) == tiny.CHUNKS


def test_a_file_that_changed_is_read_again(opened, tmp_path):
    folder = tiny.run(tmp_path)["linf"]
    before = read_records(folder.path, folder.kind)
    folder.write(0, before.head(8).with_columns(correct=pl.lit(False)))
    again = read_records(folder.path, folder.kind)
    assert again.tail(32).equals(before.tail(32), null_equal=True)
    assert not again.head(8)["correct"].any()


def test_the_front_door_opens_each_file_once(opened, door, run):
    """`evaluate.py` from the first chunk to the report and its pages, with sanity checks."""
    result = door("evaluate", f"checkpoint={run}", f"outputs={run.parents[2]}", "suite=again", "evaluation.examples=30")
    assert result.code == 0, result.err
    files = {str(file): count for file, count in opened.items() if "records" in file}
    assert len(files) >= 4 * 2
    assert set(files.values()) == {1}
