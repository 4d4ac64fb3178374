"""Reports: tables and pictures from run cards and outcomes."""

from gauntlet.reports.pictures import draw_examples
from gauntlet.reports.table import Row, markdown_table, read_row, run_table, runs_table

__all__ = ["Row", "draw_examples", "markdown_table", "read_row", "run_table", "runs_table"]
