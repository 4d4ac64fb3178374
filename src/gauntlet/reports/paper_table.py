"""The table in the paper's layout, before rendering: aggregates, clean images, narrow threats, perceptual ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gauntlet.errors import UserError
from gauntlet.evaluation.columns import ResultTable
from gauntlet.evaluation.run import Run
from gauntlet.evaluation.statistics.estimates import PERCENT, Estimate
from gauntlet.reports.beside import beside, published_row
from gauntlet.reports.certified import certified_and_attacked
from gauntlet.reports.competitiveness import competitiveness
from gauntlet.reports.labels import labels_of
from gauntlet.reports.published import PublishedTable
from gauntlet.reports.significance import Verdict, verdicts
from gauntlet.reports.table import aggregates_of_their_own, column_text, columns, notes

WORSE = "*"
_BESIDE_EACH_OTHER = 14  # columns, of a dozen characters each


@dataclass(frozen=True)
class Cell:
    """One number, with its marks and the published number."""

    ours: Estimate | None
    flag: str = ""
    """A dagger if a sanity check concerns it."""
    verdict: Verdict | None = None
    published: float | None = None
    """In [0, 1]."""

    @property
    def difference(self) -> float | None:
        """Ours minus the published one, in [-1, 1]."""
        return None if self.ours is None or self.published is None else self.ours.value - self.published

    @property
    def best(self) -> bool:
        """Whether it is the best of the numbers it is compared with."""
        return self.verdict is not None and self.verdict.best

    @property
    def marks(self) -> str:
        """The marks after the number."""
        return self.flag + WORSE * (self.verdict is not None and self.verdict.worse)

    @property
    def value(self) -> str:
        """`61.5`, a share in percent; a dash if there is no number."""
        return "–" if self.ours is None else self.ours.text

    @property
    def interval(self) -> str:
        """`56.6–66.1`."""
        return "" if self.ours is None else self.ours.interval

    @property
    def beside(self) -> str:
        """`21.9 (+3.2)`: the published number, and ours minus it."""
        if self.published is None:
            return ""
        change = "" if self.difference is None else f" ({100 * self.difference:+.1f})"
        return f"{100 * self.published:.1f}{change}"


@dataclass(frozen=True)
class PaperTable:
    """Runs on one dataset under one suite."""

    runs: Sequence[Run]
    labels: Sequence[str]
    """By run, its name without the parts that all names share."""
    common: str
    """The parts that all names share."""
    columns: Sequence[str]
    cells: Sequence[Mapping[str, Cell]]
    """By run, by column."""
    published: PublishedTable | None

    @property
    def dataset(self) -> str:
        """Name of the dataset."""
        return str(self.runs[0].card.dataset)

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the dataset."""
        return str(self.runs[0].card.fingerprint)

    @property
    def suite(self) -> str:
        """The attack suite's name."""
        return self.runs[0].suite

    @property
    def title(self) -> str:
        """Title of the table."""
        more = f", {self.common}" if self.common else ""
        return f"{self.dataset}, attack suite {self.suite}{more}"

    @property
    def more(self) -> dict[str, ResultTable]:
        """Further tables of these runs, by title: certified and attacked accuracy, competitiveness ratios."""
        runs = dict(zip(self.labels, self.runs, strict=True))
        tables = {
            "certified and attacked accuracy": certified_and_attacked(runs),
            "competitiveness ratio": competitiveness(runs),
        }
        return {title: table for title, table in tables.items() if table}

    @property
    def is_wide(self) -> bool:
        """Whether there are more columns than fit on a page or a terminal."""
        return len(self.columns) > _BESIDE_EACH_OTHER

    def unit(self, column: str) -> str:
        """Return the unit of a column's numbers: `%`, or a unit of distance."""
        estimates = [cells[column].ours for cells in self.cells]
        return next((one.unit for one in estimates if one is not None), PERCENT)

    def has_published(self, index: int) -> bool:
        """Return whether any number of a run has a published one beside it."""
        return any(cell.published is not None for cell in self.cells[index].values())

    @property
    def published_anywhere(self) -> bool:
        """Whether the table has a published number."""
        return any(map(self.has_published, range(len(self.runs))))

    def bound(self, column: str) -> str:
        """Return the bounds of an entry in the runs, with a description of the number; empty if it has none."""
        texts = dict.fromkeys(column_text(run, column) for run in self.runs)
        return " / ".join(text for text in texts if text)

    def notes(self) -> list[str]:
        """Return sentences that explain the numbers and warn where they are to be read with care."""
        sentences = notes(self.runs)
        if any(cell.verdict for cells in self.cells for cell in cells.values()):
            sentences.append(
                f"Bold: the best of the runs that were measured alike. {WORSE} it is better than this one by more than"
                " chance (McNemar's exact test on the same examples, p < 0.05 after Holm over the runs of the column;"
                " the unseen mean is not tested)."
            )
        return sentences + self._published_notes()

    def _published_notes(self) -> list[str]:
        table = self.published
        if table is None or not self.published_anywhere:
            return []
        shown = {name for cells in self.cells for name, cell in cells.items() if cell.published is not None}
        means = ", ".join(
            f"{name} by {table.attacks[name]['by']}" for name in table.attacks if _searched(table, name, shown)
        )
        sentences = [
            f"Published: {table.source}, {table.network}, {table.examples} test images"
            f"{f'; {means}' if means else ''}. In parentheses: ours minus published, in points."
        ]
        for run, label, cells in zip(self.runs, self.labels, self.cells, strict=True):
            row = published_row(run, table)
            for column, why in (row.marks if row else {}).items():
                if column == "row" or (column in cells and cells[column].published is not None):
                    sentences.append(f"Published {label}, {'all columns' if column == 'row' else column}: {why}.")
        return sentences


def _searched(table: PublishedTable, name: str, shown: set[str]) -> bool:
    return "by" in table.attacks[name] and (name in shown or (name in table.union and "union" in shown))


def make_paper_table(runs: Sequence[Run], published: PublishedTable | None) -> PaperTable:
    """Make the table of runs on one dataset.

    Raises:
        UserError: the runs are of several datasets or several suites.
    """
    if len({(run.card.fingerprint, run.suite) for run in runs}) != 1:
        raise UserError("a table is of one dataset and one attack suite: give the others tables of their own")
    labels, common = labels_of([run.name for run in runs])
    names = paper_columns(runs)
    by_column = {name: verdicts(runs, name) for name in names}
    cells = []
    for i, run in enumerate(runs):
        theirs = beside(run, published)
        row = {}
        for name in names:
            ours = run.cells.get(name)
            row[name] = Cell(ours, run.mark(name) if ours else "", by_column[name][i], theirs.get(name))
        cells.append(row)
    return PaperTable(runs, labels, common, names, cells, published)


def make_paper_tables(runs: Sequence[Run], published: Mapping[str, PublishedTable]) -> list[PaperTable]:
    """Make one table per dataset, in order of first appearance.

    Args:
        runs: runs under one suite.
        published: published tables by name of the dataset.
    """
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.card.fingerprint, []).append(run)
    return [make_paper_table(group, published.get(group[0].card.dataset)) for group in groups.values()]


def paper_columns(runs: Sequence[Run]) -> list[str]:
    """Return the columns as in table 2 of Laidlaw et al. 2021: aggregates, clean images, narrow threats, perceptual."""
    threats: dict[str, str] = {}
    for run in runs:
        threats |= run.plan.threats
    first = aggregates_of_their_own(runs)
    order = {"clean": 0, "perceptual": 2}

    def position(name: str) -> int:
        return -1 if name in first else order.get(threats.get(name) or name, 1)

    return sorted(columns(runs), key=position)
