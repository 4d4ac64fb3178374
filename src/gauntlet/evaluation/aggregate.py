"""The interface of aggregates: pure functions from a run's records to columns of its table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, Self, runtime_checkable

from gauntlet.evaluation.columns import Aggregated
from gauntlet.evaluation.entries import Entry
from gauntlet.evaluation.run import Measured, Run


class Aggregate(Protocol):
    """A frozen dataclass of plain values, declared under `aggregates` of a suite."""

    def check(self, name: str, entries: Mapping[str, Entry]) -> None:
        """Raise ValueError, naming the entry, if an entry is missing or its kind is not supported."""

    def conjunction(self, entries: Mapping[str, Entry]) -> Mapping[str, float]:
        """Return bounds by entry if an example must be correct under all of them; empty if this is no union."""

    def __call__(self, name: str, measured: Measured) -> Aggregated:
        """Return the columns for finished records; `name` is the aggregate's name in the suite."""


@runtime_checkable
class Relative(Aggregate, Protocol):
    """An aggregate with columns that are relative to a baseline."""

    def read_baseline(self, given: str, published: Path, find: Callable[[], Run]) -> dict[str, Any]:
        """Return the numbers of a baseline as plain values.

        Args:
            given: the user's input.
            published: the folder of published numbers.
            find: reads `given` as a run of the same suite on the same images.

        Raises:
            UserError: `given` names no baseline.
        """

    def relative_to(self, baseline: Mapping[str, Any]) -> Self:
        """Return the same aggregate, relative to these values."""
