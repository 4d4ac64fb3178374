"""Convert tables to one data frame for CSV: one number per row, with all digits and its provenance."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

import polars as pl

from gauntlet.evaluation.plan import PlannedEntry
from gauntlet.evaluation.statistics.estimates import Estimate
from gauntlet.reports.certified import pairs
from gauntlet.reports.paper_table import PaperTable

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
interval. `kind` is the entry's kind (`conditional_bound` for a certificate with an assumption), or `aggregate`;
`certified` and `attacked` are the two sides of a certificate's threat model at a bound. `p_value` is of McNemar's exact
test against the best run of the column, after Holm; `difference` is ours minus the published one. Empty: not measured,
or undefined."""


def to_frame(tables: Sequence[PaperTable]) -> pl.DataFrame:
    """Return a row for every cell of every table, and for both sides of every certificate."""
    return pl.DataFrame([row for table in tables for row in _rows(table)], schema=SCHEMA, orient="row")


def _rows(table: PaperTable) -> Iterator[dict[str, Any]]:
    for run, cells in zip(table.runs, table.cells, strict=True):
        of_the_run = {
            "dataset": table.dataset,
            "fingerprint": table.fingerprint,
            "suite": table.suite,
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
                "kind": _kind(entry),
                "bound": entry.bound if entry and entry.bound else None,
                "attack_digest": run.digests.get(name),
                **_numbers(cell.ours),
                "flagged": bool(cell.flag),
                "best": cell.best,
                "p_value": cell.verdict.p_value if cell.verdict else None,
                "published": cell.published,
                "difference": cell.difference,
            }
        for pair in pairs(run):
            for kind, estimate, mark in (
                ("certified", pair.certified, pair.certified_mark),
                ("attacked", pair.attacked, pair.attacked_mark),
            ):
                yield {
                    **dict.fromkeys(SCHEMA),
                    **of_the_run,
                    "column": pair.certificate,
                    "threat_model": pair.threat_model,
                    "kind": kind,
                    "bound": pair.bound,
                    **_numbers(estimate),
                    "flagged": bool(mark),
                }


def _numbers(estimate: Estimate | None) -> dict[str, Any]:
    known = ("unit", "value", "low", "high", "examples")
    return {key: getattr(estimate, key) if estimate else None for key in known}


def _kind(entry: PlannedEntry | None) -> str:
    if entry is None:
        return "aggregate"
    return "conditional_bound" if entry.assumption else entry.kind.value
