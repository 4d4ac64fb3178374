"""What an aggregate is: a pure function of a run's records to columns of its table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self, runtime_checkable

from gauntlet.evaluation.statistics.estimates import Estimate

if TYPE_CHECKING:
    from gauntlet.evaluation.run import Measured, Run
    from gauntlet.evaluation.suite import Entry


@dataclass(frozen=True)
class Column:
    """One number of a run that is made of several entries."""

    estimate: Estimate | None
    """None where it means nothing for this run, or cannot be known from its records."""
    members: Sequence[str]
    """The entries it is made of; a sanity flag of one of them marks it."""
    conjunction: Mapping[str, float] = field(default_factory=dict)
    """Entries and bounds, where it is the share of examples that are correct under all of them; else empty."""

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Back from plain values."""
        estimate = content["estimate"]
        return cls(None if estimate is None else Estimate(*estimate), content["members"], content["conjunction"])


@dataclass(frozen=True)
class ResultTable:
    """A table that an aggregate adds to a report."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    """The last row is a total where the aggregate says so in its caption."""
    caption: str


@dataclass(frozen=True)
class Aggregated:
    """What an aggregate made of a run."""

    columns: Mapping[str, Column]
    """By name, in the order of the table."""
    replaces: Sequence[str] = ()
    """Entries that have no column of their own beside these."""
    table: ResultTable | None = None
    """Shown in the place of a plain list of these columns."""
    note: str = ""
    """What a reader has to know of the columns, in a sentence."""

    def as_json(self) -> dict[str, Any]:
        """Plain values, and back by `from_json`."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Back from plain values."""
        columns = {name: Column.from_json(one) for name, one in content["columns"].items()}
        table = content["table"]
        return cls(columns, content["replaces"], None if table is None else ResultTable(**table), content["note"])


class Aggregate(Protocol):
    """What a suite declares under `aggregates`: a frozen dataclass of plain values."""

    def check(self, name: str, entries: Mapping[str, Entry]) -> None:
        """Raise ValueError, naming the entry, where it cannot take an entry's kind or an entry is not there."""

    def conjunction(self, entries: Mapping[str, Entry]) -> Mapping[str, float]:
        """Entries and bounds under all of which an example must be correct; empty of what is no union."""

    def __call__(self, name: str, measured: Measured) -> Aggregated:
        """The columns for finished records; `name` is what the suite calls the aggregate."""


@runtime_checkable
class Relative(Aggregate, Protocol):
    """An aggregate of which some columns are relative to a baseline."""

    def read_baseline(self, given: str, published: Path, find: Callable[[], Run]) -> dict[str, Any]:
        """What it has to know of a baseline, as plain values.

        Args:
            given: what the user wrote.
            published: the folder of published numbers.
            find: reads `given` as a run of the same suite on the same images.

        Raises:
            UserError: it is no baseline.
        """

    def relative_to(self, baseline: Mapping[str, Any]) -> Self:
        """The same aggregate, relative to these values."""
