"""The table in the paper's layout, in no form yet: aggregates, clean images, narrow threats, perceptual ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gauntlet.errors import UserError
from gauntlet.evaluation.columns import ResultTable
from gauntlet.evaluation.run import Run
from gauntlet.evaluation.statistics.estimates import PERCENT, Estimate
from gauntlet.reports.beside import beside, published_row
from gauntlet.reports.certified import certified_and_attacked
from gauntlet.reports.labels import labels_of
from gauntlet.reports.published import PublishedTable
from gauntlet.reports.significance import Verdict, verdicts
from gauntlet.reports.table import column_text, columns, notes, replacing

WORSE = "*"
_BESIDE_EACH_OTHER = 14  # columns, of a dozen characters each


@dataclass(frozen=True)
class Cell:
    """One number and what a reader has to know of it."""

    ours: Estimate | None
    flag: str = ""
    """A dagger where a sanity check touches it."""
    verdict: Verdict | None = None
    published: float | None = None
    """In [0, 1]."""

    @property
    def difference(self) -> float | None:
        """Ours minus the published one, in [-1, 1]."""
        return None if self.ours is None or self.published is None else self.ours.value - self.published

    @property
    def best(self) -> bool:
        """Whether it is the best of those it can be compared with."""
        return self.verdict is not None and self.verdict.best

    @property
    def marks(self) -> str:
        """What stands behind the number."""
        return self.flag + WORSE * (self.verdict is not None and self.verdict.worse)

    @property
    def value(self) -> str:
        """`61.5`, a share in percent; a dash where there is nothing to say."""
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
    """By run: its name, without what all names share."""
    common: str
    """What all names share."""
    columns: Sequence[str]
    cells: Sequence[Mapping[str, Cell]]
    """By run, by column."""
    published: PublishedTable | None

    @property
    def dataset(self) -> str:
        """Its name."""
        return str(self.runs[0].card.dataset)

    @property
    def fingerprint(self) -> str:
        """Of the dataset."""
        return str(self.runs[0].card.fingerprint)

    @property
    def suite(self) -> str:
        """The attack suite's name."""
        return self.runs[0].suite

    @property
    def title(self) -> str:
        """What the table shows."""
        more = f", {self.common}" if self.common else ""
        return f"{self.dataset}, attack suite {self.suite}{more}"

    @property
    def beside(self) -> ResultTable | None:
        """Certified beside attacked accuracy of every run; None where no run has a certificate."""
        return certified_and_attacked(dict(zip(self.labels, self.runs, strict=True)))

    @property
    def is_wide(self) -> bool:
        """Whether there are more columns than go beside each other on a page or a terminal."""
        return len(self.columns) > _BESIDE_EACH_OTHER

    def unit(self, column: str) -> str:
        """Of a column's numbers: `%`, or a unit of distance."""
        known = [cells[column].ours for cells in self.cells]
        return next((one.unit for one in known if one is not None), PERCENT)

    def has_published(self, index: int) -> bool:
        """Whether any number of a run stands beside a published one."""
        return any(cell.published is not None for cell in self.cells[index].values())

    @property
    def published_anywhere(self) -> bool:
        """Whether there is a published number in the table."""
        return any(map(self.has_published, range(len(self.runs))))

    def bound(self, column: str) -> str:
        """The bounds of an entry in the runs, with what its number is about; empty for what has none."""
        texts = dict.fromkeys(column_text(run, column) for run in self.runs)
        return " / ".join(text for text in texts if text)

    def notes(self) -> list[str]:
        """What the numbers are, and what a reader must know before trusting them, a sentence or two each."""
        said = notes(self.runs)
        if any(cell.verdict for cells in self.cells for cell in cells.values()):
            said.append(
                f"Bold: the best of the runs that were measured alike. {WORSE} it is better than this one by more than"
                " chance (McNemar's exact test on the same examples, p < 0.05 after Holm over the runs of the column;"
                " the unseen mean is not tested)."
            )
        return said + self._published_notes()

    def _published_notes(self) -> list[str]:
        table = self.published
        if table is None or not self.published_anywhere:
            return []
        shown = {name for cells in self.cells for name, cell in cells.items() if cell.published is not None}
        means = ", ".join(
            f"{name} by {table.attacks[name]['by']}" for name in table.attacks if _searched(table, name, shown)
        )
        said = [
            f"Published: {table.source}, {table.network}, {table.examples} test images"
            f"{f'; {means}' if means else ''}. In parentheses: ours minus published, in points."
        ]
        for run, label, cells in zip(self.runs, self.labels, self.cells, strict=True):
            row = published_row(run, table)
            for column, why in (row.marks if row else {}).items():
                if column == "row" or (column in cells and cells[column].published is not None):
                    said.append(f"Published {label}, {'all columns' if column == 'row' else column}: {why}.")
        return said


def _searched(table: PublishedTable, name: str, shown: set[str]) -> bool:
    return "by" in table.attacks[name] and (name in shown or (name in table.union and "union" in shown))


def make_paper_table(runs: Sequence[Run], published: PublishedTable | None) -> PaperTable:
    """The table of runs on one dataset.

    Raises:
        UserError: they are of several datasets, or of several suites.
    """
    if len({(run.card.fingerprint, run.suite) for run in runs}) != 1:
        raise UserError("a table is of one dataset and one attack suite: give the others tables of their own")
    labels, common = labels_of([run.name for run in runs])
    names = paper_columns(runs)
    judged = {name: verdicts(runs, name) for name in names}
    cells = []
    for i, run in enumerate(runs):
        theirs = beside(run, published)
        cells.append(
            {
                name: Cell(
                    run.cells.get(name),
                    run.mark(name) if run.cells.get(name) else "",
                    judged[name][i],
                    theirs.get(name),
                )
                for name in names
            }
        )
    return PaperTable(runs, labels, common, names, cells, published)


def make_paper_tables(runs: Sequence[Run], published: Mapping[str, PublishedTable]) -> list[PaperTable]:
    """One table per dataset, in order of first appearance.

    Args:
        runs: under one suite.
        published: by name of the dataset.
    """
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.card.fingerprint, []).append(run)
    return [make_paper_table(group, published.get(group[0].card.dataset)) for group in groups.values()]


def paper_columns(runs: Sequence[Run]) -> list[str]:
    """The columns of table 2 of Laidlaw et al. 2021: aggregates, clean images, narrow threats, perceptual ones."""
    threats = {name: threat for run in runs for name, threat in run.plan.threats.items()}
    order = {"clean": 0, "perceptual": 2}
    first = {name for run in runs for name in run.aggregates} - {name for run in runs for name in replacing(run)}
    return sorted(columns(runs), key=lambda name: -1 if name in first else order.get(threats.get(name) or name, 1))
