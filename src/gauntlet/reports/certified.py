"""Certified accuracy beside attacked accuracy: the truth lies between the two."""

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
    """Those at their own bound and of minimum distance."""


class Pair(NamedTuple):
    """Both sides of robustness at one bound."""

    certificate: str
    threat_model: str
    bound: float
    unit: str
    certified: Estimate
    certified_mark: str
    """A dagger where a sanity check touches the certificate."""
    attacked: Estimate | None
    """None where no attack tells of the bound."""
    attacked_mark: str

    @property
    def at(self) -> str:
        """`0.5 L2`."""
        return f"{bound_text(self.bound)} {self.unit}".strip()


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


def pairs(run: Run) -> list[Pair]:
    """Both sides at every bound that an entry of their threat model has."""
    found = []
    for certificate, attacks in sides(run):
        entry = run.plan.entries[certificate]
        for bound in sorted({entry.bound, *(run.plan.entries[name].bound for name in attacks)}):
            telling = _telling(run, attacks, bound)
            pair = Pair(
                certificate=certificate,
                threat_model=entry.threat_model,
                bound=bound,
                unit=entry.unit,
                certified=share_of(run.holds(certificate, bound)),
                certified_mark=run.mark(certificate),
                attacked=attacked_at(run, attacks, bound),
                attacked_mark=MARK if any(run.mark(name) for name in telling) else "",
            )
            found.append(pair)
    return found


def attacked_at(run: Run, attacks: Sequence[str], bound: float) -> Estimate | None:
    """The share of examples that all attacks which tell of a bound leave correct; None where none tells."""
    telling = _telling(run, attacks, bound)
    return share_of(every([run.holds(name, bound) for name in telling])) if telling else None


def _telling(run: Run, attacks: Sequence[str], bound: float) -> list[str]:
    entries = run.plan.entries
    return [name for name in attacks if entries[name].kind is Kind.MINIMUM_DISTANCE or entries[name].bound == bound]


def certified_and_attacked(runs: Mapping[str, Run]) -> ResultTable | None:
    """`certified | attacked` at every bound that an entry has; None where no run has a certificate.

    Args:
        runs: by label, which is left out of a table of one run.
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
    """Accuracy against the bound, a staircase."""

    places: np.ndarray
    """`[N]` bounds, 0 first: where it falls."""
    shares: np.ndarray
    """`[N]` in [0, 1]: from each place to the next; the last beyond all of them."""


def curve(run: Run, name: str) -> Curve:
    """The curve of a minimum-distance attack or a certificate.

    Where there are too many places for a drawing some are left out, on the safe side: the curve of a certificate is
    never above the records, that of an attack never below.
    """
    entry, frame = run.plan.entries[name], run.of_all[name]
    certificate = entry.kind is Kind.CERTIFICATE
    if certificate:
        values = frame.filter(frame["correct"] & ~frame["abstained"])["radius"].to_numpy()
    else:
        values = frame["distance"].to_numpy()
    values = np.sort(values)
    places = np.unique(np.append(0.0, values[np.isfinite(values)]))
    if len(places) > _POINTS:
        places = places[np.linspace(0, len(places) - 1, _POINTS).round().astype(int)]
    beyond = len(values) - np.searchsorted(values, places, side="right")
    if certificate:  # what holds right up to the next place
        beyond[:-1] = len(values) - np.searchsorted(values, places[1:], side="left")
    return Curve(places, beyond / len(frame))
