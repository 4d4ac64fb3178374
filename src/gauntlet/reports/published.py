"""Read published numbers from `conf/published`: `<dataset>_<suite>.yaml`, or `<dataset>.yaml` for all other suites."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from gauntlet.errors import UserError


@dataclass(frozen=True)
class PublishedRow:
    """One defense."""

    trained_on: Sequence[str]
    """Names of threat models."""
    cells: Mapping[str, float]
    """Accuracies in [0, 1] by column: attacks, `union`, `unseen mean`, other means. Unpublished numbers are missing."""
    marks: Mapping[str, str]
    """By column, or `row` for all columns: why a number is to be read with care."""


@dataclass(frozen=True)
class PublishedTable:
    """One table of a paper."""

    source: str
    network: str
    """Network of the rows, unless a mark states another."""
    dataset: str
    examples: int
    attacks: Mapping[str, Mapping[str, Any]]
    """By column: `threat_model` (its name), `bound`, and `by`, the search."""
    union: Sequence[str]
    rows: Mapping[str, PublishedRow]
    """By defense, under the names of `conf/defense`."""
    means: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """By column, the attacks of a mean accuracy."""

    @property
    def threat_models(self) -> dict[str, str]:
        """Threat models of all attacks."""
        return {name: attack["threat_model"] for name, attack in self.attacks.items()}


def read_published(file: Path) -> PublishedTable:
    """Read the table in a file.

    Raises:
        UserError: the file is no such table, a row has a column that is no attack, or a number is no percentage.
    """
    try:
        content = yaml.safe_load(file.read_bytes())
        rows = {name: _row(file, f"rows.{name}", row, content) for name, row in content["rows"].items()}
        head = {key: content[key] for key in ("source", "network", "dataset", "examples", "attacks", "union")}
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{file} is no table of published numbers ({error!r}): compare conf/published") from None
    return PublishedTable(**head, rows=rows, means=content.get("means", {}))


def published_file(folder: Path, dataset: str, suite: str) -> Path | None:
    """Return the file with the published numbers of a dataset under a suite, if there is one."""
    files = folder / f"{dataset}_{suite}.yaml", folder / f"{dataset}.yaml"
    return next((file for file in files if file.exists()), None)


def _row(file: Path, key: str, row: Mapping[str, Any], content: Mapping[str, Any]) -> PublishedRow:
    columns = {*content["attacks"], "union", "unseen mean", *content.get("means", {})}
    unknown = sorted({*row["cells"], *row.get("marks", {})} - columns - {"row"})
    if unknown:
        raise UserError(f"{file}: {key} has {unknown}, which are no columns: expected some of {sorted(columns)}")
    out_of_range = {name: value for name, value in row["cells"].items() if not 0 <= value <= 100}
    if out_of_range:
        raise UserError(f"{file}: {key} has {out_of_range}: accuracies are percentages, 0 to 100")
    cells = {name: value / 100 for name, value in row["cells"].items()}
    return PublishedRow(row["trained_on"], cells, row.get("marks", {}))
