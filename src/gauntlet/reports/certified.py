"""Certified accuracy beside attacked accuracy: a lower and an upper bound on the true robust accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from gauntlet.evaluation.columns import ResultTable
from gauntlet.evaluation.run import MARK, Run
from gauntlet.evaluation.statistics.accuracy import every, share_of
from gauntlet.evaluation.statistics.estimates import Estimate
from gauntlet.kinds import Kind
from gauntlet.reports.table import bound_text, cell

_POINTS = 200  # of a curve, at most
CAPTION = "Share of examples correct within the bound: at least the certified, at most the attacked accuracy."


class Sides(NamedTuple):
    """One certificate, and the attacks on the same threat model."""

    certificate: str
    attacks: Sequence[str]
    """Attacks at a bound and minimum-distance attacks."""


class Pair(NamedTuple):
    """Certified and attacked accuracy at one bound."""

    certificate: str
    threat_model: str
    bound: float
    unit: str
    certified: Estimate
    certified_mark: str
    """A dagger if a sanity check concerns the certificate."""
    attacked: Estimate | None
    """None if no attack has an answer at this bound."""
    attacked_mark: str

    @property
    def at(self) -> str:
        """`0.5 L2`."""
        return f"{bound_text(self.bound)} {self.unit}".strip()


def sides(run: Run) -> list[Sides]:
    """Return every certificate of a finished run, and the attacks on its threat model; no conditional bounds."""
    if not run.complete:
        return []
    result = []
    for name, entry in run.plan.entries.items():
        if entry.kind is Kind.CERTIFICATE and entry.assumption is None:
            attacks = [attack for attack in run.plan.attacks_against(name) if attack not in run.survivors]
            result.append(Sides(name, attacks))
    return result


def pairs(run: Run) -> list[Pair]:
    """Return certified and attacked accuracy at every bound that a certificate or an attack on its threat model has."""
    result = []
    for certificate, attacks in sides(run):
        entry = run.plan.entries[certificate]
        for bound in sorted({entry.bound, *(run.plan.entries[name].bound for name in attacks)}):
            attacks_at_bound = _with_answer(run, attacks, bound)
            pair = Pair(
                certificate=certificate,
                threat_model=entry.threat_model,
                bound=bound,
                unit=entry.unit,
                certified=share_of(run.holds(certificate, bound)),
                certified_mark=run.mark(certificate),
                attacked=attacked_at(run, attacks, bound),
                attacked_mark=MARK if any(run.mark(name) for name in attacks_at_bound) else "",
            )
            result.append(pair)
    return result


def attacked_at(run: Run, attacks: Sequence[str], bound: float) -> Estimate | None:
    """Return the accuracy under all attacks that have an answer at a bound; None if there are none."""
    names = _with_answer(run, attacks, bound)
    return share_of(every([run.holds(name, bound) for name in names])) if names else None


def _with_answer(run: Run, attacks: Sequence[str], bound: float) -> list[str]:
    """The minimum-distance attacks, which have an answer at any bound, and the attacks at this very bound."""
    entries = run.plan.entries
    return [name for name in attacks if entries[name].kind is Kind.MINIMUM_DISTANCE or entries[name].bound == bound]


def certified_and_attacked(runs: Mapping[str, Run]) -> ResultTable | None:
    """Return certified and attacked accuracy at every bound; None if no run has a certificate.

    Args:
        runs: runs by label. The label is left out of the table of a single run.
    """
    rows = []
    for label, run in runs.items():
        for pair in pairs(run):
            names = [label] if len(runs) > 1 else []
            numbers = [cell(pair.certified, pair.certified_mark), cell(pair.attacked, pair.attacked_mark), _gap(pair)]
            rows.append([*names, f"{pair.certificate}, {pair.threat_model}", pair.at, *numbers])
    head = [*(["run"] if len(runs) > 1 else []), "certificate", "at", "certified %", "attacked %", "gap, points"]
    return ResultTable(head, rows, CAPTION) if rows else None


def _gap(pair: Pair) -> str:
    return "–" if pair.attacked is None else f"{100 * (pair.attacked.value - pair.certified.value):.1f}"


class Curve(NamedTuple):
    """Accuracy against the bound, a step function."""

    steps: np.ndarray
    """`[N]` bounds at which the accuracy changes, 0 first."""
    shares: np.ndarray
    """`[N]` accuracies in [0, 1], each from its step to the next; the last for all larger bounds."""


def curve(run: Run, name: str) -> Curve:
    """Return the curve of a minimum-distance attack or a certificate.

    If there are too many steps for a plot, some are left out on the safe side: the curve of a certificate is never
    above the records, that of an attack never below.
    """
    entry, frame = run.plan.entries[name], run.of_all[name]
    certificate = entry.kind is Kind.CERTIFICATE
    if certificate:
        values = frame.filter(frame["correct"] & ~frame["abstained"])["radius"].to_numpy()
    else:
        values = frame["distance"].to_numpy()
    values = np.sort(values)
    steps = np.unique(np.append(0.0, values[np.isfinite(values)]))
    if len(steps) > _POINTS:
        steps = steps[np.linspace(0, len(steps) - 1, _POINTS).round().astype(int)]
    count_above = len(values) - np.searchsorted(values, steps, side="right")
    if certificate:  # count radii that reach the next step, a lower bound for all bounds before it
        count_above[:-1] = len(values) - np.searchsorted(values, steps[1:], side="left")
    return Curve(steps, count_above / len(frame))
