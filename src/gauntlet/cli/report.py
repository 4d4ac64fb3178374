"""`report.py`: one or several runs as tables, numbers and a page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from gauntlet.config.compose import CONF
from gauntlet.config.parts import path_of
from gauntlet.errors import UserError
from gauntlet.files import write_atomically
from gauntlet.reports import (
    PaperTable,
    PublishedTable,
    Run,
    latex,
    make_paper_tables,
    markdown,
    page,
    published_file,
    read_published,
    read_run,
    terminal_table,
    to_frame,
)
from gauntlet.reports.comparison import Comparison, compare_all, comparisons_markdown, comparisons_table
from gauntlet.reports.result_table import as_rich
from gauntlet.runs.folder import provenance
from gauntlet.terminal import show


def report(config: DictConfig) -> None:
    """Print the tables, and write them into the report folder in every form."""
    given = list(config.runs) if OmegaConf.is_list(config.runs) else [config.runs]
    if not given or not all(str(path) for path in given):
        raise UserError(f"runs={config.runs}: expected a run folder, a folder of several, or a list of them")
    folders: dict[Path, None] = {}
    for path in given:
        folders |= dict.fromkeys(_runs_in(path_of(str(path), "runs")))
    folder = None if config.folder is None else path_of(config.folder, "folder")
    against = None if config.against is None else path_of(config.against, "against")
    suite = str(config.suite)
    runs = _read(folders, suite)
    pairs = [] if against is None else compare_all(runs, read_run(against, suite))
    tables = make_paper_tables(runs, _published(runs))
    for table in tables:
        show(terminal_table(table), piped_width=160)
        for title, further in table.more.items():
            show(as_rich(further, title), piped_width=160)
    if pairs:
        show(comparisons_table(pairs, f"against {pairs[0].against}, on the same examples"), piped_width=160)
    if folder is not None:
        _write(folder, tables, pairs)


def _read(folders: Iterable[Path], suite: str) -> list[Run]:
    """Read the runs; print those that cannot be read.

    Raises:
        UserError: no run can be read.
    """
    runs, missing = [], []
    for folder in folders:
        try:
            runs.append(read_run(folder, suite))
        except UserError as error:
            missing.append(str(error))
    if not runs:
        raise UserError("; ".join(missing))
    for reason in missing:
        print(f"left out: {reason}", flush=True)
    return runs


def _write(folder: Path, tables: Sequence[PaperTable], pairs: Sequence[Comparison]) -> None:
    """Write the tables in every format into one folder."""
    texts = [*(markdown(table) for table in tables), comparisons_markdown(pairs)]
    write_atomically(folder / "table.md", "\n".join(texts).rstrip("\n") + "\n")
    write_atomically(folder / "table.tex", "\n".join(latex(table) for table in tables))
    write_atomically(folder / "table.csv", to_frame(tables).write_csv())
    write_atomically(folder / "report.html", page(tables, provenance()))
    print(f"report: {folder / 'report.html'}; table.md, table.tex and table.csv beside it", flush=True)


def _published(runs: Sequence[Run]) -> dict[str, PublishedTable]:
    """Return the published tables of the runs' datasets, where there are some."""
    files = {run.card.dataset: published_file(CONF / "published", run.card.dataset, run.suite) for run in runs}
    return {name: read_published(file) for name, file in files.items() if file}


def _runs_in(path: Path) -> list[Path]:
    """Return a run folder itself, or all run folders below a folder; references are left out."""
    if (path / "card.json").exists():
        return [path]
    runs = sorted(file.parent for file in path.rglob("card.json") if "references" not in file.parts)
    if not runs:
        raise UserError(f"no finished run in {path}: give run folders, or a folder that holds some")
    return runs
