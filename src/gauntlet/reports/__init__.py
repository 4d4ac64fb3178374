"""Reports: tables and pictures from run cards and outcomes."""

from gauntlet.reports.comparison import compare_runs, comparison_table
from gauntlet.reports.details import details
from gauntlet.reports.pictures import draw_examples
from gauntlet.reports.published import PublishedRow, PublishedTable, read_published
from gauntlet.reports.table import Row, markdown_table, read_row, run_table, runs_table

__all__ = [
    "PublishedRow",
    "PublishedTable",
    "Row",
    "compare_runs",
    "comparison_table",
    "details",
    "draw_examples",
    "markdown_table",
    "read_published",
    "read_row",
    "run_table",
    "runs_table",
]
