"""Provenance for captions: digests, fingerprints, code revision, versions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gauntlet.evaluation.run import Run
from gauntlet.reports.paper_table import PaperTable

_SHORT = 12  # hexadecimal digits
_IN_CAPTIONS = ("gauntlet", "python", "torch", "torchvision")  # all others are in the table at the end


def run_stamp(run: Run) -> str:
    """Return the provenance of one run: checkpoint, data, attacks, code, versions."""
    attacks = ", ".join(f"{name} {short}" for name, short in run.digests.items())
    return " · ".join(
        [
            f"checkpoint {run.card.checkpoint[:_SHORT]}",
            f"data {run.card.fingerprint[:_SHORT]}",
            f"attacks {attacks}",
            f"code {code_of(run.provenance)}",
            versions(run.provenance, _IN_CAPTIONS),
        ]
    )


def column_stamp(table: PaperTable, column: str) -> str:
    """Return the provenance of a column of the table."""
    members = dict.fromkeys(name for run in table.runs for name in _members(run, column))
    return attacks_stamp(table, [f"{name} {_digests(table, name)}" for name in members])


def attacks_stamp(table: PaperTable, attacks: Sequence[str]) -> str:
    """Return the provenance of several runs: attacks, data, checkpoints; code and versions if they are equal for all.

    Args:
        table: the table whose runs are named.
        attacks: names with digests.
    """
    weights = dict.fromkeys(run.card.checkpoint[:_SHORT] for run in table.runs)
    codes = dict.fromkeys(
        f"code {code_of(run.provenance)} · {versions(run.provenance, _IN_CAPTIONS)}" for run in table.runs
    )
    return " · ".join(
        [
            f"attacks {', '.join(attacks)}",
            f"checkpoints {', '.join(weights)}",
            f"data {table.fingerprint[:_SHORT]}",
            next(iter(codes)) if len(codes) == 1 else "code and versions differ: see the table at the end",
        ]
    )


def code_of(provenance: Mapping[str, Any]) -> str:
    """Return the revision of the source tree, or the version of the package."""
    return str(provenance.get("revision") or provenance.get("gauntlet") or "not recorded")


def versions(provenance: Mapping[str, Any], packages: Sequence[str] | None = None) -> str:
    """Return `gauntlet 0.1.0, python 3.11.7, torch 2.11.0`, for some packages or for all that were recorded."""
    known = {key: provenance[key] for key in ("gauntlet", "python") if key in provenance}
    known |= provenance.get("packages", {})
    shown = {name: version for name, version in known.items() if packages is None or name in packages}
    return ", ".join(f"{name} {version}" for name, version in shown.items()) or "versions not recorded"


def _members(run: Run, column: str) -> list[str]:
    return [name for name in run.members(column) if name in run.digests]


def _digests(table: PaperTable, name: str) -> str:
    return "/".join(dict.fromkeys(run.digests[name] for run in table.runs if name in run.digests))
