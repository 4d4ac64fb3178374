"""`report.py`: one or several runs as one table."""

from __future__ import annotations

import sys
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from gauntlet.errors import UserError
from gauntlet.files import write_atomically
from gauntlet.reports import markdown_table, read_row, runs_table
from gauntlet.reports.comparison import compare_all, comparisons_markdown, comparisons_table
from gauntlet.reports.table import caption


def report(config: DictConfig) -> None:
    """Print the table, and several runs in pairs beneath; with `file=table.md` write it as Markdown too."""
    given = list(config.runs) if OmegaConf.is_list(config.runs) else [config.runs]
    folders = [folder for place in given for folder in _runs_in(Path(str(place)))]
    rows = [read_row(folder, config.suite) for folder in folders]
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(runs_table(rows, f"attack suite {config.suite}"))
    pairs = compare_all(folders, Path(config.against or folders[0]), config.suite)
    if pairs:
        console.print(comparisons_table(pairs, f"against {pairs[0].against}, on the same examples"))
    if config.file is not None:
        page = f"{markdown_table(rows)}\n{caption(rows)}\n\n{comparisons_markdown(pairs)}"
        write_atomically(Path(config.file), page.rstrip("\n") + "\n")


def _runs_in(place: Path) -> list[Path]:
    """The run folder itself, or every one below a folder of several; references do not count."""
    if (place / "card.json").exists():
        return [place]
    found = sorted(file.parent for file in place.rglob("card.json") if "references" not in file.parts)
    if not found:
        raise UserError(f"no finished run in {place}: give run folders, or a folder that holds some")
    return found
