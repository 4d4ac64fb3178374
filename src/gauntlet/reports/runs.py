"""A run under a suite with everything a report shows of it: its row, its records, what they depend on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from gauntlet.evaluation.measures import standing
from gauntlet.evaluation.outcomes import read_outcomes
from gauntlet.files import read_json
from gauntlet.identity import digest
from gauntlet.reports.table import Row, of_everybody, read_card, read_plan, read_row

OF_THE_CHECKPOINT = {"checkpoint", "classifier", "survivors_of"}  # in an identity; all the rest is what was measured


@dataclass(frozen=True)
class Run:
    """One run folder under one suite."""

    folder: Path
    suite: str
    card: Mapping[str, Any]
    plan: Mapping[str, Any]
    row: Row
    records: Mapping[str, pl.DataFrame]
    """By attack, as measured."""
    identities: Mapping[str, Mapping[str, Any]]
    """By attack: all that its records depend on."""

    @property
    def threat_models(self) -> dict[str, str]:
        """Of every attack."""
        return {name: entry["threat_model"] for name, entry in self.plan["attacks"].items()}

    @property
    def whole(self) -> dict[str, pl.DataFrame]:
        """The records of attacks that ran on every example, where all of them are there."""
        return {name: frame for name, frame in self.records.items() if self.row.cells.get(name) and self.row.complete}

    @property
    def provenance(self) -> Mapping[str, Any]:
        """Of the last start: revision, versions, machine; empty where none was recorded."""
        file = self.folder / "provenance.json"
        starts = read_json(file) if file.exists() else []
        return starts[-1] if starts else {}

    @cached_property
    def digests(self) -> dict[str, str]:
        """Twelve hexadecimal digits of every attack, and of a corruption's severities together.

        They are the same for every checkpoint.
        """
        parts: dict[str, list[Any]] = {}
        for name, identity in self.identities.items():
            place = self.plan["attacks"][name].get("corruption")
            parts.setdefault(place["type"] if place else name, []).append(identity["attack"])
        return {name: digest(part[0] if len(part) == 1 else part)[:12] for name, part in parts.items()}

    def robust(self, column: str) -> pl.Series | None:
        """Who is still right under an attack or the `union`, `[N]`; None where that is not known of every example."""
        if column in self.whole:
            return self.whole[column]["robust"]
        if column != "union" or not self.row.complete or not self.plan["union"]:
            return None
        everybody = of_everybody(self.records, self.plan)
        return standing([everybody[name] for name in self.plan["union"]])

    def measured(self, column: str) -> str:
        """A digest of what was measured in a column, on which examples: equal where two runs may be compared."""
        names = self.plan["union"] if column == "union" else [column]
        parts = [{k: v for k, v in self.identities[name].items() if k not in OF_THE_CHECKPOINT} for name in names]
        return digest([self.plan["examples"], parts])


def read_run(folder: Path, suite: str) -> Run:
    """Everything of a run folder.

    Raises:
        UserError: it is no run folder, or was not evaluated under the suite.
    """
    row, plan = read_row(folder, suite), read_plan(folder, suite)
    places = {name: folder / entry["folder"] for name, entry in plan["attacks"].items()}
    records = {name: read_outcomes(place) for name, place in places.items()}
    identities = {name: read_json(place / "identity.json") for name, place in places.items()}
    return Run(folder, suite, read_card(folder), plan, row, records, identities)


def labels_of(names: Sequence[str]) -> tuple[list[str], str]:
    """Names of the form `a/b/c` without the parts that all of them share, and what was left out.

    Where several runs have one name they are numbered.
    """
    parts = [name.split("/") for name in names]
    common = ""
    if len({len(part) for part in parts}) == 1 and len(set(names)) > 1:
        differ = [i for i, column in enumerate(zip(*parts, strict=True)) if len(set(column)) > 1]
        common = ", ".join(part for i, part in enumerate(parts[0]) if i not in differ)
        parts = [[part[i] for i in differ] for part in parts]
    labels = ["/".join(part) for part in parts]
    numbered = [f"{label} #{labels[: i + 1].count(label)}" for i, label in enumerate(labels)]
    return [
        number if labels.count(label) > 1 else label for label, number in zip(labels, numbered, strict=True)
    ], common
