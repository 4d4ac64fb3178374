"""The result of an aggregate: columns of a run's table, and sometimes a table of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from gauntlet.evaluation.statistics.estimates import Estimate


@dataclass(frozen=True)
class Column:
    """One number of a run, computed from several entries."""

    estimate: Estimate | None
    """None where it is undefined for this run, or the records do not determine it."""
    members: Sequence[str]
    """The entries it is computed from; a sanity flag of any of them marks it."""
    conjunction: Mapping[str, float] = field(default_factory=dict)
    """Bounds by entry, if it is the share of examples that are correct under all of these entries; else empty."""

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Read it from plain values."""
        estimate = content["estimate"]
        return cls(None if estimate is None else Estimate(*estimate), content["members"], content["conjunction"])


@dataclass(frozen=True)
class ResultTable:
    """A table of text, rendered by `gauntlet.reports.result_table`."""

    head: Sequence[str]
    """Names of the columns."""
    rows: Sequence[Sequence[str]]
    """Each as long as the head. In a table that an aggregate adds to a report the last row is the total."""
    caption: str
    """Text below the table; may be empty."""


@dataclass(frozen=True)
class Aggregated:
    """The result of an aggregate for one run."""

    columns: Mapping[str, Column]
    """By name, in the order of the table."""
    replaces: Sequence[str] = ()
    """Entries that these columns replace in the run's table."""
    table: ResultTable | None = None
    """Shown instead of a plain list of these columns."""
    note: str = ""
    """A sentence that explains the columns to a reader."""
    mean_over_runs: str = ""
    """Name of the mean of a column over several runs of a table; empty if that mean is not shown."""
    compared_at: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """By entry, the bounds of the cells in which a report compares several runs; empty if it does not."""

    def as_json(self) -> dict[str, Any]:
        """Return plain values that `from_json` reads."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Read it from plain values."""
        columns = {name: Column.from_json(one) for name, one in content["columns"].items()}
        table = None if content["table"] is None else ResultTable(**content["table"])
        # The last two are not in plans of earlier versions.
        across_runs = content.get("mean_over_runs", ""), content.get("compared_at", {})
        return cls(columns, content["replaces"], table, content["note"], *across_runs)
