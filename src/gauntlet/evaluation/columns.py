"""What an aggregate makes of a run: columns of its table, and sometimes a table of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from gauntlet.evaluation.statistics.estimates import Estimate


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
