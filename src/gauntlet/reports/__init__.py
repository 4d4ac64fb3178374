"""Reports: tables, plots, pages and pictures of runs."""

from gauntlet.evaluation.run import Run, read_run
from gauntlet.reports.comparison import compare_runs, comparison_table
from gauntlet.reports.details import details
from gauntlet.reports.latex import latex
from gauntlet.reports.markdown import markdown
from gauntlet.reports.page import page
from gauntlet.reports.pictures import draw_examples
from gauntlet.reports.published import PublishedRow, PublishedTable, read_published
from gauntlet.reports.run_report import write_run_report
from gauntlet.reports.sheet import Cell, Sheet, make_sheet, make_sheets
from gauntlet.reports.spreadsheet import numbers
from gauntlet.reports.table import run_markdown, run_table, run_tables
from gauntlet.reports.terminal import terminal_table

__all__ = [
    "Cell",
    "PublishedRow",
    "PublishedTable",
    "Run",
    "Sheet",
    "compare_runs",
    "comparison_table",
    "details",
    "draw_examples",
    "latex",
    "make_sheet",
    "make_sheets",
    "markdown",
    "numbers",
    "page",
    "read_published",
    "read_run",
    "run_markdown",
    "run_table",
    "run_tables",
    "terminal_table",
    "write_run_report",
]
