"""The table as CSV: one number per line, with every digit and everything that stands behind it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

import polars as pl

from gauntlet.reports.sheet import Sheet

SCHEMA = {
    "dataset": pl.String,
    "fingerprint": pl.String,
    "suite": pl.String,
    "run": pl.String,
    "folder": pl.String,
    "checkpoint": pl.String,
    "trained_on": pl.String,
    "column": pl.String,
    "threat_model": pl.String,
    "kind": pl.String,
    "bound": pl.Float64,
    "unit": pl.String,
    "attack_digest": pl.String,
    "value": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "examples": pl.Int64,
    "flagged": pl.Boolean,
    "best": pl.Boolean,
    "p_value": pl.Float64,
    "published": pl.Float64,
    "difference": pl.Float64,
}
"""`value` is a share in [0, 1] where the unit is %, else a distance or radius in that unit; `low` to `high` is the 95 %
interval; `p_value` is of McNemar's exact test against the best run of the column, after Holm; `difference` is ours
minus the published one. Empty: not measured, or means nothing there."""


def numbers(sheets: Sequence[Sheet]) -> pl.DataFrame:
    """Every cell of every table, a row each."""
    return pl.DataFrame([row for sheet in sheets for row in _rows(sheet)], schema=SCHEMA, orient="row")


def _rows(sheet: Sheet) -> Iterator[dict[str, Any]]:
    for run, cells in zip(sheet.runs, sheet.cells, strict=True):
        of_the_run = {
            "dataset": sheet.dataset,
            "fingerprint": sheet.fingerprint,
            "suite": sheet.suite,
            "run": run.name,
            "folder": os.fsencode(run.folder).decode(errors="backslashreplace"),
            "checkpoint": run.card.checkpoint,
            "trained_on": " ".join(run.card.trained_on or []),
        }
        for name, cell in cells.items():
            entry = run.plan.entries.get(name)
            yield {
                **of_the_run,
                "column": name,
                "threat_model": entry.threat_model if entry else None,
                "kind": entry.kind.value if entry else "aggregate",
                "bound": entry.bound if entry and entry.bound else None,
                "unit": cell.ours.unit if cell.ours else None,
                "attack_digest": run.digests.get(name),
                "value": cell.ours.value if cell.ours else None,
                "low": cell.ours.low if cell.ours else None,
                "high": cell.ours.high if cell.ours else None,
                "examples": cell.ours.examples if cell.ours else None,
                "flagged": bool(cell.flag),
                "best": cell.best,
                "p_value": cell.verdict.p_value if cell.verdict else None,
                "published": cell.published,
                "difference": cell.difference,
            }
