"""Aggregates over minimum-distance attacks: median distance, area under the curve, optimality."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import polars as pl

from gauntlet.evaluation.columns import Aggregated, Column
from gauntlet.evaluation.entries import Entry, check_named
from gauntlet.evaluation.run import Measured
from gauntlet.evaluation.statistics.accuracy import check_same_examples
from gauntlet.evaluation.statistics.bootstrap import bootstrap_means
from gauntlet.evaluation.statistics.estimates import Estimate
from gauntlet.evaluation.statistics.medians import median
from gauntlet.evaluation.statistics.optimality import local_optimality, nearest_of
from gauntlet.kinds import Kind


@dataclass(frozen=True)
class _OfDistances(ABC):
    """One number of the distances found by minimum-distance attacks; of several, each example's nearest counts.

    Args:
        of: the entry's name, or the names of several on one threat model.
    """

    of: str | Sequence[str]

    @property
    def _members(self) -> list[str]:
        return [self.of] if isinstance(self.of, str) else list(self.of)

    def check(self, name: str, entries: Mapping[str, Entry]) -> None:
        """Raise ValueError unless the suite has the entries, and they are minimum-distance attacks of one unit."""
        _check_members(name, self._members, entries)

    def conjunction(self, entries: Mapping[str, Entry]) -> Mapping[str, float]:
        """Return nothing: this is no union."""
        return {}

    def __call__(self, name: str, measured: Measured) -> Aggregated:
        """One column, in the threat model's unit."""
        members = self._members
        unit = measured.plan.entries[members[0]].unit
        estimate = self._estimate(_nearest(measured, members), unit)
        return Aggregated({name: Column(estimate, members)}, note=f"{name}: {self._note(' or '.join(members), unit)}.")

    @abstractmethod
    def _estimate(self, distances: pl.Series, unit: str) -> Estimate | None:
        """Return the number, from `[N]` distances."""

    @abstractmethod
    def _note(self, attacks: str, unit: str) -> str:
        """Describe the number."""


@dataclass(frozen=True)
class MedianDistance(_OfDistances):
    """The median distance over all examples: an upper bound on median robustness.

    Args:
        of: name of a minimum-distance attack, or names of several on one threat model.
    """

    identity: ClassVar[str] = "median_distance/1"

    def _estimate(self, distances: pl.Series, unit: str) -> Estimate | None:
        """Return an order statistic with its exact binomial interval; distances may be 0 and inf."""
        return median(distances, unit)

    def _note(self, attacks: str, unit: str) -> str:
        """Describe the number."""
        return f"median distance found by {attacks}, with the exact binomial interval"


@dataclass(frozen=True)
class AreaUnderCurve(_OfDistances):
    """The area under accuracy against distance, from 0 to a bound: the mean of min(distance, bound).

    Args:
        of: name of a minimum-distance attack, or names of several on one threat model.
        up_to: upper end of the area, in the threat model's unit.
    """

    identity: ClassVar[str] = "area_under_curve/1"
    up_to: float

    def __post_init__(self) -> None:
        if not isinstance(self.up_to, int | float) or not 0 < self.up_to < float("inf"):
            raise ValueError(f"up_to {self.up_to!r}: expected a finite bound above 0 at which the area ends")

    def _estimate(self, distances: pl.Series, unit: str) -> Estimate | None:
        """Return the area in the threat model's unit, with a bootstrap interval."""
        (mean,) = bootstrap_means([distances.clip(0, self.up_to).to_list()])
        return mean._replace(unit=unit)

    def _note(self, attacks: str, unit: str) -> str:
        """Describe the number."""
        end = f"{self.up_to:.4g} {unit}".strip()
        return f"area under accuracy against distance by {attacks}, from 0 to {end}, with the bootstrap's interval"


@dataclass(frozen=True)
class Optimality:
    """The local optimality of each of several minimum-distance attacks, in percent; see `local_optimality`.

    Args:
        members: names of the attacks that are rated, all on one threat model.
        others: names of further attacks that belong to the minimum over all attacks and are not rated.
    """

    identity: ClassVar[str] = "optimality/1"
    members: Sequence[str]
    others: Sequence[str] = ()

    def check(self, name: str, entries: Mapping[str, Entry]) -> None:
        """Raise ValueError unless the suite has the entries, and they are minimum-distance attacks of one unit."""
        for members in (self.members, self.others):
            check_named(name, members, entries, [Kind.MINIMUM_DISTANCE])
        if not self.members:
            raise ValueError(f"{name} has no members: name minimum-distance attacks, or leave {name} out")
        _check_members(name, [*self.members, *self.others], entries)

    def conjunction(self, entries: Mapping[str, Entry]) -> Mapping[str, float]:
        """Return nothing: this is no union."""
        return {}

    def __call__(self, name: str, measured: Measured) -> Aggregated:
        """One column per member."""
        every_member = [*self.members, *self.others]
        nearest = _nearest(measured, every_member)
        columns = {
            f"{name} {member}": Column(local_optimality(measured.records[member]["distance"], nearest), [member])
            for member in self.members
        }
        note = (
            f"{name}: local optimality in % against each example's nearest image by {', '.join(every_member)}, with the"
            f" bootstrap's interval."
        )
        return Aggregated(columns, note=note, mean_over_runs=f"global {name}")


def _check_members(name: str, members: Sequence[str], entries: Mapping[str, Entry]) -> None:
    check_named(name, members, entries, [Kind.MINIMUM_DISTANCE])
    if not members:
        raise ValueError(f"{name} names no attack: name a minimum-distance attack of the suite")
    threats = {member: entries[member].threat_model for member in members}
    if len({(threat.name, threat.unit) for threat in threats.values()}) > 1:
        names = ", ".join(f"{member} on {threat.name}" for member, threat in threats.items())
        raise ValueError(f"{name} names {names}: distances of different threat models cannot be compared")


def _nearest(measured: Measured, members: Sequence[str]) -> pl.Series:
    """The element-wise minimum of the distances of several entries, `[N]`."""
    frames = [measured.records[member] for member in members]
    check_same_examples(frames)
    return nearest_of([frame["distance"] for frame in frames])
