"""Read a run folder under one suite: card, plan and records, and the values that tables and plots show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from gauntlet.descriptions import digest
from gauntlet.errors import UserError
from gauntlet.evaluation.columns import Column
from gauntlet.evaluation.evidence import decides, holds_at
from gauntlet.evaluation.flags import Flag, read_flags
from gauntlet.evaluation.plan import Card, Plan, read_card, read_plan
from gauntlet.evaluation.statistics.accuracy import check_same_examples, every, mean_score, share_of
from gauntlet.evaluation.statistics.estimates import Estimate
from gauntlet.evaluation.store import read_records, with_earlier
from gauntlet.files import read_json
from gauntlet.kinds import Kind

OF_THE_CHECKPOINT = {"checkpoint", "classifier", "measurement", "survivors_of"}
"""Keys of a record's identity that depend on the weights; all other keys describe what was measured."""
MARK = "†"


@dataclass(frozen=True)
class Measured:
    """The records of one suite on one classifier, from which aggregates are computed."""

    card: Card
    plan: Plan
    records: Mapping[str, pl.DataFrame]
    """Records by entry. An attack on survivors has records of these examples only."""

    @cached_property
    def of_all(self) -> dict[str, pl.DataFrame]:
        """Records by entry; those of an attack on survivors are completed by the examples that earlier ones broke."""
        earlier = {name: self.plan.entries[name].survivors_of for name in self.records}
        return {
            name: with_earlier(frame, [self.records[other] for other in earlier[name]]) if earlier[name] else frame
            for name, frame in self.records.items()
        }

    @cached_property
    def complete(self) -> bool:
        """Whether the records of every entry are complete."""
        return all(len(frame) == self.plan.examples for frame in self.of_all.values())

    @cached_property
    def decides(self) -> bool:
        """Whether the records have a yes or no per example; without it columns are mean scores."""
        return all(decides(frame) for frame in self.records.values())

    def accuracy(self, name: str) -> Estimate:
        """The share of examples that are correct by an entry's evidence at its own bound, or their mean score."""
        return share_of(self.holds(name)) if self.decides else mean_score(self.records[name])

    def holds(self, name: str, bound: float | None = None) -> pl.Series:
        """Return which examples are correct within a bound according to an entry, `[N]`; None is its own bound.

        Raises:
            UserError: the records do not determine the answer at this bound, or have scores alone.
        """
        if not self.decides:
            raise UserError(f"{self.card.task} has scores and no yes or no per example: {name} has no correct ones")
        entry = self.plan.entries[name]
        at = entry.bound if bound is None else bound
        holds = holds_at(self.of_all[name], entry.kind, entry.bound, at)
        if holds is None:
            raise UserError(f"{name} was measured at bound {entry.bound:g}: its records give no answer at {at:g}")
        return holds

    def holds_under(self, bounds: Mapping[str, float]) -> pl.Series:
        """Return which examples are correct according to all of several entries, each at its bound, `[N]`.

        Raises:
            UserError: they were measured on different examples.
        """
        check_same_examples([self.of_all[name] for name in bounds])
        return every([self.holds(name, bound) for name, bound in bounds.items()])


@dataclass(frozen=True)
class Run(Measured):
    """A run folder under one suite."""

    folder: Path
    suite: str
    identities: Mapping[str, Mapping[str, Any]]
    """By entry, everything its records depend on."""
    flags: Sequence[Flag] | None
    """Results of the sanity checks; None if they were not run."""

    @property
    def name(self) -> str:
        """Name in tables."""
        return self.card.name

    @property
    def survivors(self) -> list[str]:
        """Attacks that ran on survivors only, and have no accuracy of their own."""
        return [name for name, entry in self.plan.entries.items() if entry.survivors_of]

    @property
    def full(self) -> dict[str, pl.DataFrame]:
        """Records of the entries that ran on every example; empty if any records are missing."""
        return {name: frame for name, frame in self.records.items() if self.complete and name not in self.survivors}

    @property
    def shown(self) -> list[str]:
        """Entries with a column of their own."""
        replaced = {name for result in self.plan.results.values() for name in result.replaces}
        return [name for name in self.plan.entries if name not in replaced]

    @property
    def attacks(self) -> list[str]:
        """Names of the attacks and minimum-distance attacks."""
        kinds = (Kind.ATTACK, Kind.MINIMUM_DISTANCE)
        return [name for name, entry in self.plan.entries.items() if entry.kind in kinds]

    @property
    def searched(self) -> dict[str, pl.DataFrame]:
        """Records of the attacks and minimum-distance attacks that ran on every example and say which are correct."""
        return {name: frame for name, frame in self.full.items() if name in self.attacks and self.decides}

    @cached_property
    def aggregates(self) -> dict[str, Column]:
        """Columns of the aggregates; without estimates if records are missing."""
        columns: dict[str, Column] = {}
        for result in self.plan.results.values():
            for name, column in result.columns.items():
                columns[name] = column if self.complete else Column(None, column.members)
        return columns

    @cached_property
    def cells(self) -> dict[str, Estimate | None]:
        """Estimates by column; None where a column is undefined for this run."""
        own = {name: None if name in self.survivors else self.accuracy(name) for name in self.shown}
        return {**own, **{name: column.estimate for name, column in self.aggregates.items()}}

    @property
    def violations(self) -> int:
        """Number of records whose image lies outside the threat model."""
        return sum(int((~frame["inside"]).sum()) for frame in self.records.values() if "inside" in frame.columns)

    @property
    def raised(self) -> list[Flag]:
        """Raised flags."""
        return [flag for flag in self.flags or () if flag.raised]

    @property
    def flags_by_column(self) -> list[Flag]:
        """Flags by column: a flag of an entry without a column moves to the first column computed from that entry.

        For each check and column the flag with the largest value is kept.
        """
        column_of: dict[str | None, str] = {}
        for result in self.plan.results.values():
            for name, column in result.columns.items():
                for member in column.members:
                    if member in result.replaces:
                        column_of.setdefault(member, name)
        largest: dict[tuple[str, str | None], Flag] = {}
        for flag in self.flags or ():
            column_name = column_of.get(flag.attack, flag.attack)
            key = (flag.name, column_name)
            if key not in largest or flag.value > largest[key].value:
                largest[key] = replace(flag, attack=column_name)
        return list(largest.values())

    def members(self, column: str) -> Sequence[str]:
        """Return the entries that an aggregate is computed from; for any other column the column itself."""
        return self.aggregates[column].members if column in self.aggregates else [column]

    def mark(self, column: str) -> str:
        """Return a dagger if a raised flag concerns the column or one of its members."""
        members = self.members(column)
        return MARK if any(flag.attack is None or flag.attack in members for flag in self.raised) else ""

    @property
    def union(self) -> Sequence[str]:
        """Members of the first union; empty if there is none."""
        return next((column.members for column in self.aggregates.values() if column.conjunction), ())

    @property
    def provenance(self) -> Mapping[str, Any]:
        """Code revision, versions and machine of the last start; empty if not recorded."""
        file = self.folder / "provenance.json"
        starts = read_json(file) if file.exists() else []
        return starts[-1] if starts else {}

    @cached_property
    def digests(self) -> dict[str, str]:
        """Digests of every entry, and of the columns that replace several entries, 12 hexadecimal digits each.

        They do not depend on the checkpoint.
        """
        own = {name: identity["entry"] for name, identity in self.identities.items()}
        digests = {name: digest(own[name])[:12] for name in self.shown}
        for result in self.plan.results.values():
            for name, column in result.columns.items():
                if result.replaces and name not in digests:
                    digests[name] = digest([own[member] for member in column.members])[:12]
        return digests

    def correct(self, column: str) -> pl.Series | None:
        """Return which examples are correct in a column, `[N]`; None if it is no share of examples or incomplete."""
        if not self.decides:
            return None
        if column in self.full and column in self.shown:
            return self.holds(column)
        conjunction = self.aggregates[column].conjunction if column in self.aggregates else {}
        return self.holds_under(conjunction) if conjunction and self.complete else None

    def bounds(self, column: str) -> dict[str, float]:
        """By entry, the bounds at which an example must be correct to count in a column that is a share of examples."""
        conjunction = self.aggregates[column].conjunction if column in self.aggregates else {}
        return dict(conjunction) or {column: self.plan.entries[column].bound}

    def measured(self, column: str) -> str:
        """Return a digest of the measurement behind a column. Two runs with equal digests may be compared."""
        bounds = self.bounds(column)
        parts = [[bounds[name], self.condition(name)] for name in bounds]
        return digest([self.plan.examples, parts])

    def condition(self, name: str) -> dict[str, Any]:
        """Return everything but the classifier that an entry's records depend on."""
        return {key: value for key, value in self.identities[name].items() if key not in OF_THE_CHECKPOINT}


def read_run(folder: Path, suite: str) -> Run:
    """Read a run folder under a suite.

    Raises:
        UserError: the folder is no run folder, was not evaluated under the suite, or lacks records of an entry.
    """
    card, plan = read_card(folder), read_plan(folder, suite)
    if not card.is_of(plan):
        raise UserError(
            f"{folder}: suite {suite} was measured on other weights, or another network, than those there now:"
            f" run evaluate.py checkpoint={folder} attack_suite={suite}"
        )
    folders = {name: folder / entry.folder for name, entry in plan.entries.items()}
    records = {name: read_records(path, plan.entries[name].kind) for name, path in folders.items()}
    for name, frame in Measured(card, plan, records).of_all.items():
        if not len(frame):
            raise UserError(f"{folder} has no records of {name}: finish it with evaluate.py checkpoint={folder}")
    identities = {name: read_json(path / "identity.json") for name, path in folders.items()}
    return Run(card, plan, records, folder, suite, identities, read_flags(folder, suite, card.checkpoint))
