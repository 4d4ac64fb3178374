"""Reports: tables, plots, pages and pictures of runs.

`draw_examples` is imported when it is first asked for: it needs torch, which everything else does without.
"""

from typing import TYPE_CHECKING, Any

from gauntlet.evaluation.run import Run, read_run
from gauntlet.reports.comparison import compare_runs, comparison_table
from gauntlet.reports.details import details
from gauntlet.reports.paper_table import Cell, PaperTable, make_paper_table, make_paper_tables
from gauntlet.reports.published import PublishedRow, PublishedTable, published_file, read_published
from gauntlet.reports.render.latex import latex
from gauntlet.reports.render.markdown import markdown
from gauntlet.reports.render.page import page
from gauntlet.reports.render.spreadsheet import to_frame
from gauntlet.reports.render.terminal import terminal_table
from gauntlet.reports.run_report import write_run_report
from gauntlet.reports.table import run_markdown, run_table, run_tables

if TYPE_CHECKING:
    from gauntlet.reports.pictures import draw_examples

__all__ = [
    "Cell",
    "PaperTable",
    "PublishedRow",
    "PublishedTable",
    "Run",
    "compare_runs",
    "comparison_table",
    "details",
    "draw_examples",
    "latex",
    "make_paper_table",
    "make_paper_tables",
    "markdown",
    "page",
    "published_file",
    "read_published",
    "read_run",
    "run_markdown",
    "run_table",
    "run_tables",
    "terminal_table",
    "to_frame",
    "write_run_report",
]

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name == "draw_examples":
            from gauntlet.reports.pictures import draw_examples

            return draw_examples
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
