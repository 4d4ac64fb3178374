"""A run folder under one suite, read once: card, plan, records, and what tables and plots ask of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from gauntlet.errors import UserError
from gauntlet.evaluation.columns import Column
from gauntlet.evaluation.evidence import decides, holds_at
from gauntlet.evaluation.flags import Flag, read_flags
from gauntlet.evaluation.plan import Card, Plan, read_card, read_plan
from gauntlet.evaluation.statistics.accuracy import check_same_examples, every, mean_score, share_of
from gauntlet.evaluation.statistics.estimates import Estimate
from gauntlet.evaluation.store import read_records, with_earlier
from gauntlet.files import read_json
from gauntlet.identity import digest
from gauntlet.kinds import Kind

OF_THE_CHECKPOINT = {"checkpoint", "classifier", "measurement", "survivors_of"}
"""Keys of a record's identity that say on which weights it was measured; all the rest is what was measured."""
MARK = "†"


@dataclass(frozen=True)
class Measured:
    """Records of one suite on one classifier, and the questions that aggregates ask of them."""

    card: Card
    plan: Plan
    records: Mapping[str, pl.DataFrame]
    """By entry, as measured: of an attack on survivors, theirs alone."""

    @cached_property
    def of_all(self) -> dict[str, pl.DataFrame]:
        """By entry; where an attack ran on survivors, with the examples that earlier entries had broken."""
        earlier = {name: self.plan.entries[name].survivors_of for name in self.records}
        return {
            name: with_earlier(frame, [self.records[other] for other in earlier[name]]) if earlier[name] else frame
            for name, frame in self.records.items()
        }

    @cached_property
    def complete(self) -> bool:
        """Whether every entry has records of all the examples it was asked for."""
        return all(len(frame) == self.plan.examples for frame in self.of_all.values())

    @cached_property
    def decides(self) -> bool:
        """Whether the records have a yes or no per example; without it columns are mean scores."""
        return all(decides(frame) for frame in self.records.values())

    def accuracy(self, name: str) -> Estimate:
        """The share of examples that are correct by an entry's evidence at its own bound, or their mean score."""
        return share_of(self.holds(name)) if self.decides else mean_score(self.records[name])

    def holds(self, name: str, bound: float | None = None) -> pl.Series:
        """Which examples are correct within a bound by an entry's evidence, `[N]`; None is its own bound.

        Raises:
            UserError: it was measured at another bound, or has scores alone.
        """
        if not self.decides:
            raise UserError(f"{self.card.task} has scores and no yes or no per example: {name} has no correct ones")
        entry = self.plan.entries[name]
        at = entry.bound if bound is None else bound
        found = holds_at(self.of_all[name], entry.kind, entry.bound, at)
        if found is None:
            raise UserError(f"{name} was measured at bound {entry.bound:g}: it tells nothing about {at:g}")
        return found

    def holds_under(self, bounds: Mapping[str, float]) -> pl.Series:
        """Which examples are correct by the evidence of several entries at bounds, `[N]`.

        Raises:
            UserError: they were measured on different examples.
        """
        check_same_examples([self.of_all[name] for name in bounds])
        return every([self.holds(name, bound) for name, bound in bounds.items()])


@dataclass(frozen=True)
class Run(Measured):
    """One run folder under one suite."""

    folder: Path
    suite: str
    identities: Mapping[str, Mapping[str, Any]]
    """By entry: all that its records depend on."""
    flags: Sequence[Flag] | None
    """What the sanity checks measured; None where they have not been made."""

    @property
    def name(self) -> str:
        """As in tables."""
        return self.card.name

    @property
    def survivors(self) -> list[str]:
        """Attacks that ran on examples still correct, and have no accuracy of their own."""
        return [name for name, entry in self.plan.entries.items() if entry.survivors_of]

    @property
    def full(self) -> dict[str, pl.DataFrame]:
        """The records of entries that ran on every example, where all of them are there."""
        return {name: frame for name, frame in self.records.items() if self.complete and name not in self.survivors}

    @property
    def shown(self) -> list[str]:
        """The entries with a column of their own."""
        replaced = {name for result in self.plan.results.values() for name in result.replaces}
        return [name for name in self.plan.entries if name not in replaced]

    @property
    def attacks(self) -> list[str]:
        """The entries that look for wrong images."""
        kinds = (Kind.ATTACK, Kind.MINIMUM_DISTANCE)
        return [name for name, entry in self.plan.entries.items() if entry.kind in kinds]

    @property
    def searched(self) -> dict[str, pl.DataFrame]:
        """The records of attacks and minimum-distance attacks that ran on every example, and say which are correct."""
        return {name: frame for name, frame in self.full.items() if name in self.attacks and self.decides}

    @cached_property
    def aggregates(self) -> dict[str, Column]:
        """The columns of aggregates; without numbers where records are missing."""
        found: dict[str, Column] = {}
        for result in self.plan.results.values():
            for name, column in result.columns.items():
                found[name] = column if self.complete else Column(None, column.members)
        return found

    @cached_property
    def cells(self) -> dict[str, Estimate | None]:
        """By column; None where a column means nothing for this run."""
        own = {name: None if name in self.survivors else self.accuracy(name) for name in self.shown}
        return {**own, **{name: column.estimate for name, column in self.aggregates.items()}}

    @property
    def violations(self) -> int:
        """Records whose image was not the threat model's."""
        return sum(int((~frame["inside"]).sum()) for frame in self.records.values() if "inside" in frame.columns)

    @property
    def raised(self) -> list[Flag]:
        """The flags that mark a cell."""
        return [flag for flag in self.flags or () if flag.raised]

    @property
    def flags_by_column(self) -> list[Flag]:
        """The flags; those of entries without a column stand under the first column that is made of them.

        Of each check the one that measured most stands for a column.
        """
        columns: dict[str | None, str] = {}
        for result in self.plan.results.values():
            for name, column in result.columns.items():
                for member in column.members:
                    if member in result.replaces:
                        columns.setdefault(member, name)
        found: dict[tuple[str, str | None], Flag] = {}
        for flag in (replace(flag, attack=columns.get(flag.attack, flag.attack)) for flag in self.flags or ()):
            known = found.get((flag.name, flag.attack))
            if known is None or flag.value > known.value:
                found[flag.name, flag.attack] = flag
        return list(found.values())

    def members(self, column: str) -> Sequence[str]:
        """The entries that an aggregate is made of; of any other column itself."""
        return self.aggregates[column].members if column in self.aggregates else [column]

    def mark(self, column: str) -> str:
        """A dagger where a raised flag touches the cell; an aggregate has the daggers of its members."""
        members = self.members(column)
        return MARK if any(flag.attack is None or flag.attack in members for flag in self.raised) else ""

    @property
    def union(self) -> Sequence[str]:
        """The members of the first union; none where there is none."""
        return next((column.members for column in self.aggregates.values() if column.conjunction), ())

    @property
    def provenance(self) -> Mapping[str, Any]:
        """Of the last start: revision, versions, machine; empty where none was recorded."""
        file = self.folder / "provenance.json"
        starts = read_json(file) if file.exists() else []
        return starts[-1] if starts else {}

    @cached_property
    def digests(self) -> dict[str, str]:
        """Twelve hexadecimal digits of every entry, and of what a column of several replaces.

        They are the same for every checkpoint.
        """
        own = {name: identity["entry"] for name, identity in self.identities.items()}
        found = {name: digest(own[name])[:12] for name in self.shown}
        for result in self.plan.results.values():
            for name, column in result.columns.items():
                if result.replaces and name not in found:
                    found[name] = digest([own[member] for member in column.members])[:12]
        return found

    def correct(self, column: str) -> pl.Series | None:
        """Which examples are correct in a column, `[N]`; None where it is no share of examples, or not known."""
        if not self.decides:
            return None
        if column in self.full and column in self.shown:
            return self.holds(column)
        conjunction = self.aggregates[column].conjunction if column in self.aggregates else {}
        return self.holds_under(conjunction) if conjunction and self.complete else None

    def measured(self, column: str) -> str:
        """A digest of what was measured in a column, on which examples: equal where two runs may be compared."""
        conjunction = self.aggregates[column].conjunction if column in self.aggregates else {}
        bounds = dict(conjunction) or {column: self.plan.entries[column].bound}
        parts = [[bounds[name], self.condition(name)] for name in bounds]
        return digest([self.plan.examples, parts])

    def condition(self, name: str) -> dict[str, Any]:
        """What an entry's records depend on besides the classifier."""
        return {key: value for key, value in self.identities[name].items() if key not in OF_THE_CHECKPOINT}


def read_run(folder: Path, suite: str) -> Run:
    """Everything of a run folder under a suite.

    Raises:
        UserError: it is no run folder, was not evaluated under the suite, or has no records of an entry.
    """
    card, plan = read_card(folder), read_plan(folder, suite)
    if not card.is_of(plan):
        raise UserError(
            f"{folder}: suite {suite} was measured on other weights, or another network, than those there now:"
            f" run evaluate.py checkpoint={folder} attack_suite={suite}"
        )
    places = {name: folder / entry.folder for name, entry in plan.entries.items()}
    records = {name: read_records(place, plan.entries[name].kind) for name, place in places.items()}
    for name, frame in Measured(card, plan, records).of_all.items():
        if not len(frame):
            raise UserError(f"{folder} has no records of {name}: finish it with evaluate.py checkpoint={folder}")
    identities = {name: read_json(place / "identity.json") for name, place in places.items()}
    return Run(card, plan, records, folder, suite, identities, read_flags(folder, suite, card.checkpoint))
