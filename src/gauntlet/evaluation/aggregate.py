"""What an aggregate is: a pure function of a run's records to columns of its table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, Self, runtime_checkable

from gauntlet.evaluation.columns import Aggregated
from gauntlet.evaluation.entries import Entry
from gauntlet.evaluation.run import Measured, Run


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
