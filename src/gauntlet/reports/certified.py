"""Certified accuracy beside attacked accuracy: the truth lies between the two."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from gauntlet.evaluation.aggregate import ResultTable
from gauntlet.evaluation.estimates import Estimate
from gauntlet.evaluation.measures import every, share_of
from gauntlet.evaluation.run import Run
from gauntlet.kinds import Kind
from gauntlet.reports.table import bound_text, cell

_POINTS = 200  # of a curve, at most


class Sides(NamedTuple):
    """One certificate, and the attacks on the same threat model."""

    certificate: str
    attacks: Sequence[str]
    """Those at their own bound and of minimum distance."""


def sides(run: Run) -> list[Sides]:
    """Every certificate of a finished run beside the attacks on its threat model; conditional bounds are apart."""
    if not run.complete:
        return []
    found = []
    for name, entry in run.plan.entries.items():
        if entry.kind is Kind.CERTIFICATE and entry.assumption is None:
            rivals = [other for other in run.attacks if run.plan.entries[other].family == entry.family]
            found.append(Sides(name, [other for other in rivals if other not in run.survivors]))
    return found


def attacked_at(run: Run, attacks: Sequence[str], bound: float) -> Estimate | None:
    """The share of examples that all attacks which tell of a bound leave correct; None where none tells."""
    telling = [
        name
        for name in attacks
        if run.plan.entries[name].kind is Kind.MINIMUM_DISTANCE or run.plan.entries[name].bound == bound
    ]
    if not telling:
        return None
    return share_of(every([run.holds(name, bound) for name in telling]))


def certified_and_attacked(run: Run) -> ResultTable | None:
    """`certified | attacked` at every bound that an entry has; None where there is no certificate."""
    rows = []
    for certificate, attacks in sides(run):
        entry = run.plan.entries[certificate]
        bounds = sorted({entry.bound, *(run.plan.entries[name].bound for name in attacks)})
        for bound in bounds:
            certified = share_of(run.holds(certificate, bound))
            attacked = attacked_at(run, attacks, bound)
            gap = "–" if attacked is None else f"{100 * (attacked.value - certified.value):.1f}"
            at = f"{bound_text(bound)} {entry.unit}".strip()
            row = [f"{certificate}, {entry.threat_model}", at, cell(certified, run.mark(certificate)), cell(attacked)]
            rows.append([*row, gap])
    head = ["certificate", "at", "certified %", "attacked %", "gap"]
    caption = "Share of examples correct within the bound: at least the certified, at most the attacked accuracy."
    return ResultTable(head, rows, caption) if rows else None


def steps(run: Run, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Where a curve of accuracy against the bound falls, and what it is until there, in [0, 1].

    Of a minimum-distance attack or a certificate; infinite distances and radii are not among the places.
    """
    entry = run.plan.entries[name]
    frame = run.of_all[name]
    if entry.kind is Kind.CERTIFICATE:
        values = frame.filter(frame["correct"] & ~frame["abstained"])["radius"].to_numpy()
    else:
        values = frame["distance"].to_numpy()
        values = values[values > 0]
    places = np.unique(values[np.isfinite(values)])
    if len(places) > _POINTS:  # the highest of each step, so that a certified curve is never drawn too high
        places = places[np.linspace(0, len(places) - 1, _POINTS).round().astype(int)]
    shares = np.array([(values >= place).sum() / len(frame) for place in places])
    return places, shares
