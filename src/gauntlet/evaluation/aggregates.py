"""Aggregates over a suite: union accuracy, means, and of certificates medians, averages and abstentions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import polars as pl

from gauntlet.evaluation.columns import Aggregated, Column
from gauntlet.evaluation.entries import Entry, check_named
from gauntlet.evaluation.plan import PlannedEntry
from gauntlet.evaluation.run import Measured
from gauntlet.evaluation.statistics.accuracy import mean_share, share_of, unseen
from gauntlet.evaluation.statistics.bootstrap import bootstrap_means
from gauntlet.evaluation.statistics.estimates import Estimate
from gauntlet.evaluation.statistics.medians import median
from gauntlet.kinds import IMAGE_KINDS, Kind


@dataclass(frozen=True)
class Union:
    """The share of examples still correct under every member. It is an upper bound on robust accuracy.

    Args:
        members: names of attacks, minimum-distance attacks and transforms.
        bounds: by minimum-distance attack among the members, its bound in the unit of its threat model.
    """

    identity: ClassVar[str] = "union/1"
    members: Sequence[str]
    bounds: Mapping[str, float] = field(default_factory=dict)

    def check(self, name: str, entries: Mapping[str, Entry]) -> None:
        """Raise ValueError if a member is missing, is a certificate, or may leave its threat model."""
        if not self.members:
            raise ValueError(f"{name} has no members: name some of {sorted(entries)}, or leave {name} out")
        check_named(name, self.members, entries, IMAGE_KINDS)
        for member in self.members:
            if not getattr(entries[member], "stays_inside", True):
                raise ValueError(
                    f"{name} names {member}, which does not promise to stay inside its threat model: give it a"
                    f" projection"
                )
            if entries[member].kind is Kind.MINIMUM_DISTANCE and member not in self.bounds:
                example = f"bounds: {{{member}: {entries[member].threat_model.bound:g}}}"
                raise ValueError(
                    f"{name} names {member}, which is a minimum-distance attack and has no bound: say which one counts,"
                    f" as {example}"
                )
        self._check_bounds(name, entries)

    def _check_bounds(self, name: str, entries: Mapping[str, Entry]) -> None:
        if unknown := sorted(self.bounds.keys() - set(self.members)):
            raise ValueError(f"{name} has bounds of {unknown}, which are not among its members {list(self.members)}")
        for member, bound in self.bounds.items():
            if entries[member].kind is not Kind.MINIMUM_DISTANCE:
                raise ValueError(f"{name}: {member} is no minimum-distance attack: leave it out of bounds")
            if not isinstance(bound, int | float) or not 0 <= bound < float("inf"):
                raise ValueError(f"{name}: bound {bound!r} of {member}: expected a finite number, at least 0")

    def conjunction(self, entries: Mapping[str, Entry]) -> Mapping[str, float]:
        """Return the bound of every member."""
        return {member: self.bounds.get(member, entries[member].threat_model.bound) for member in self.members}

    def __call__(self, name: str, measured: Measured) -> Aggregated:
        """Return the union accuracy with its Wilson interval."""
        bounds = {member: self.bounds.get(member, measured.plan.entries[member].bound) for member in self.members}
        return Aggregated({name: Column(share_of(measured.holds_under(bounds)), list(self.members), bounds)})


@dataclass(frozen=True)
class UnseenMean:
    """The mean accuracy over the threat models that were not trained on, one attack for each (Laidlaw et al. 2021)."""

    identity: ClassVar[str] = "unseen_mean/1"

    def check(self, name: str, entries: Mapping[str, Entry]) -> None:
        """Accept every suite."""

    def conjunction(self, entries: Mapping[str, Entry]) -> Mapping[str, float]:
        """Return nothing: this is no union."""
        return {}

    def __call__(self, name: str, measured: Measured) -> Aggregated:
        """Return the mean over attacks; no estimate if one of them ran on survivors only."""
        members = unseen(measured.plan.threats, measured.card.trained_on or [])
        if not members or any(measured.plan.entries[member].survivors_of for member in members):
            return Aggregated({name: Column(None, members)})
        return Aggregated({name: Column(mean_share([measured.holds(member) for member in members]), members)})


@dataclass(frozen=True)
class MeanAccuracy:
    """The mean accuracy over named attacks and transforms, such as UA2 of ImageNet-UA (Kaufmann et al. 2023).

    Args:
        members: names of attacks and transforms; all count alike.
    """

    identity: ClassVar[str] = "mean_accuracy/1"
    members: Sequence[str]

    def check(self, name: str, entries: Mapping[str, Entry]) -> None:
        """Raise ValueError if a member is missing, named twice or of another kind."""
        check_named(name, self.members, entries, [Kind.ATTACK, Kind.TRANSFORM])
        if not self.members or len(set(self.members)) != len(self.members):
            raise ValueError(f"{name} is a mean over {list(self.members)}: name some of {sorted(entries)}, each once")

    def conjunction(self, entries: Mapping[str, Entry]) -> Mapping[str, float]:
        """Return nothing: this is no union."""
        return {}

    def __call__(self, name: str, measured: Measured) -> Aggregated:
        """Return the mean; no estimate if one of the members ran on survivors only."""
        if any(measured.plan.entries[member].survivors_of for member in self.members):
            return Aggregated({name: Column(None, list(self.members))})
        holds = [measured.holds(member) for member in self.members]
        return Aggregated({name: Column(mean_share(holds), list(self.members))})


@dataclass(frozen=True)
class _OfCertificate(ABC):
    """An aggregate of one certificate.

    Args:
        of: the entry's name.
    """

    of: str

    def check(self, name: str, entries: Mapping[str, Entry]) -> None:
        """Raise ValueError unless the suite has the entry and it is a certificate."""
        check_named(name, [self.of], entries, [Kind.CERTIFICATE])

    def conjunction(self, entries: Mapping[str, Entry]) -> Mapping[str, float]:
        """Return nothing: this is no union."""
        return {}

    def __call__(self, name: str, measured: Measured) -> Aggregated:
        """One column, in the threat model's unit where it has one."""
        entry = measured.plan.entries[self.of]
        estimate = self._estimate(measured.records[self.of], entry.unit)
        return Aggregated({name: Column(estimate, [self.of])}, note=f"{name}: {self._note(entry)}.")

    @abstractmethod
    def _estimate(self, records: pl.DataFrame, unit: str) -> Estimate | None:
        """Return the number, from the entry's records."""

    @abstractmethod
    def _note(self, entry: PlannedEntry) -> str:
        """Describe the number."""


@dataclass(frozen=True)
class MedianRadius(_OfCertificate):
    """The median certified radius over all examples; 0 where the prediction is wrong or the certificate abstains.

    Args:
        of: the entry's name.
    """

    identity: ClassVar[str] = "median_radius/1"

    def _estimate(self, records: pl.DataFrame, unit: str) -> Estimate | None:
        """Return an order statistic with its exact binomial interval."""
        return median(certified_radius(records), unit)

    def _note(self, entry: PlannedEntry) -> str:
        """Describe the number."""
        return f"median {_radius_of(self.of, entry)}, with the exact binomial interval"


@dataclass(frozen=True)
class AverageCertifiedRadius(_OfCertificate):
    """The mean certified radius, 0 where the prediction is wrong or the certificate abstains (Zhai et al., ICLR 2020).

    Args:
        of: the entry's name.
    """

    identity: ClassVar[str] = "average_certified_radius/1"

    def _estimate(self, records: pl.DataFrame, unit: str) -> Estimate | None:
        """Return the mean in the threat model's unit, with a bootstrap interval; None if a radius is infinite."""
        return _mean(certified_radius(records), unit)

    def _note(self, entry: PlannedEntry) -> str:
        """Describe the number."""
        return f"mean {_radius_of(self.of, entry)}, with the bootstrap's interval"


@dataclass(frozen=True)
class Abstentions(_OfCertificate):
    """The share of examples for which a certificate abstains.

    Args:
        of: the entry's name.
    """

    identity: ClassVar[str] = "abstentions/1"

    def _estimate(self, records: pl.DataFrame, unit: str) -> Estimate | None:
        """Return the share with its Wilson interval."""
        return share_of(records["abstained"])

    def _note(self, entry: PlannedEntry) -> str:
        """Describe the number."""
        return f"share of examples for which {self.of} abstains"


def _radius_of(name: str, entry: PlannedEntry) -> str:
    """The term for the radii in a note. Radii of a conditional bound are not certified."""
    word = "radius" if entry.assumption else "certified radius"
    return f"{word} of {name}, 0 where it is wrong or abstains"


def certified_radius(records: pl.DataFrame) -> pl.Series:
    """Return the radii of correct predictions without abstention, 0 for other examples, `[N]`."""
    correct = records["correct"] & ~records["abstained"]
    return pl.select(pl.when(correct).then(records["radius"]).otherwise(0.0)).to_series()


def _mean(column: pl.Series, unit: str) -> Estimate | None:
    if not column.is_finite().all():
        return None
    (mean,) = bootstrap_means([column.to_list()])
    return mean._replace(unit=unit)
