"""The CSV reads back to the numbers of the table."""

import polars as pl

from gauntlet.config.compose import CONF
from gauntlet.reports import make_paper_tables, read_published, read_run, to_frame
from gauntlet.reports.render.spreadsheet import SCHEMA


def test_every_number_of_the_table_comes_back_to_the_last_bit(twelve, tmp_path):
    published = {"cifar10": read_published(CONF / "published" / "cifar10.yaml")}
    tables = make_paper_tables([read_run(folder, "paper") for folder in sorted(twelve.iterdir())], published)
    to_frame(tables).write_csv(tmp_path / "table.csv")
    frame = pl.read_csv(tmp_path / "table.csv", schema=SCHEMA)
    assert frame.equals(to_frame(tables))
    (table,) = tables
    rows = iter(frame.iter_rows(named=True))
    for run, cells in zip(table.runs, table.cells, strict=True):
        for column in table.columns:
            row, cell = next(rows), cells[column]
            assert (row["run"], row["column"], row["checkpoint"]) == (run.name, column, run.card.checkpoint)
            ours = None if cell.ours is None else tuple(cell.ours)
            assert (
                None if row["value"] is None else tuple(row[k] for k in ("value", "low", "high", "examples", "unit"))
            ) == ours
            assert (row["published"], row["difference"], row["best"]) == (cell.published, cell.difference, cell.best)
            assert row["p_value"] == (cell.verdict.p_value if cell.verdict else None)
            assert row["attack_digest"] == run.digests.get(column)
    assert next(rows, None) is None
    assert frame["difference"].is_not_null().any()
    assert frame["p_value"].is_not_null().any()
