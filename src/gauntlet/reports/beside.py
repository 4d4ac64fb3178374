"""Choose the published number beside each of ours: only where the same thing was measured."""

from __future__ import annotations

import math

from gauntlet.evaluation.run import Run
from gauntlet.evaluation.statistics.accuracy import unseen
from gauntlet.kinds import Kind
from gauntlet.reports.published import PublishedRow, PublishedTable


def published_row(run: Run, table: PublishedTable | None) -> PublishedRow | None:
    """Return the published row of the same defense on the same dataset."""
    if table is None or run.card.dataset != table.dataset:
        return None
    return table.rows.get(run.card.defense or "")


def beside(run: Run, table: PublishedTable | None) -> dict[str, float]:
    """Return the published accuracies in [0, 1], by our columns.

    An attack has one if the paper's column of that name has the same threat model and bound. The union and means
    have one if all attacks they are computed from do; clean images are ignored there.
    """
    row = published_row(run, table)
    if row is None or table is None:
        return {}
    same = {name for name in run.plan.entries if name in table.attacks and _same_attack(run, table, name)}
    cells = {name: row.cells[name] for name in run.plan.entries if name in same and name in row.cells}
    members: dict[str, tuple[set[str], set[str]]] = {
        "union": (set(run.union), set(table.union)),
        "unseen mean": (set(run.members("unseen mean")), set(unseen(table.threat_models, row.trained_on))),
    }
    members |= {name: (set(run.members(name)), set(attacks)) for name, attacks in table.means.items()}
    for name, (ours, theirs) in members.items():
        same_members = ours - {"clean"} == theirs - {"clean"} and theirs <= same
        if same_members and name in row.cells and name in run.aggregates:
            cells[name] = row.cells[name]
    return cells


def _same_attack(run: Run, table: PublishedTable, name: str) -> bool:
    ours, theirs = run.plan.entries[name], table.attacks[name]
    same = ours.kind is not Kind.CERTIFICATE and ours.threat_model == theirs["threat_model"]
    return same and math.isclose(ours.bound, theirs.get("bound", 0.0), rel_tol=1e-6)
