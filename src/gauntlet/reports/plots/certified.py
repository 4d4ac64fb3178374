"""Plot accuracy against the bound: certified from below, attacked from above, and the gap between them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from gauntlet.evaluation.run import Run
from gauntlet.kinds import Kind
from gauntlet.reports.certified import Curve, Sides, curve, sides
from gauntlet.reports.plots.canvas import COLOURS, GRID, Plot, as_svg, drawing, percent_axis
from gauntlet.reports.table import bound_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_CURVES = (Kind.CERTIFICATE, Kind.MINIMUM_DISTANCE)


def certified_plots(run: Run, name: str) -> list[Plot]:
    """Return a plot per threat model with a curve: certificates, minimum-distance attacks, attacks at their bound."""
    plots = []
    for i, (family, names) in enumerate(_groups(run).items()):
        plots.append(_plot(run, family, names, f"{name}-{i}"))
    return plots


def _groups(run: Run) -> dict[str, list[str]]:
    """Entries with a curve, by digest of their threat model, with the attacks at a bound on the same threat model."""
    if not run.complete:
        return {}
    groups: dict[str, list[str]] = {entry.family: [] for entry in run.plan.entries.values() if entry.kind in _CURVES}
    for name, entry in run.plan.entries.items():
        if entry.family in groups and entry.kind is not Kind.TRANSFORM and name not in run.survivors:
            groups[entry.family].append(name)
    return groups


def _plot(run: Run, family: str, names: Sequence[str], title: str) -> Plot:
    entry = run.plan.entries[names[0]]
    curves = {name: curve(run, name) for name in names if run.plan.entries[name].kind in _CURVES}
    beside = [one for one in sides(run) if run.plan.entries[one.certificate].family == family]
    end = _end(run, names, curves)
    descriptions = []
    with drawing(2.7 + 0.17 * -(-len(names) // 2)) as (figure, grid):
        axes = grid[0, 0]
        shaded = [one for one in beside if _shade_gap(axes, one, curves, end)]
        for i, name in enumerate(names):
            colour = COLOURS[i % len(COLOURS)]
            one = run.plan.entries[name]
            share = 100 * float(run.holds(name).mean() or 0.0)  # type: ignore[arg-type]
            if name in curves:
                label = f"{name}, conditional" if one.assumption else name
                _steps(axes, curves[name], end, colour, "--" if one.assumption else "-", label)
            else:
                axes.plot([one.bound], [share], "o", color=colour, markersize=4.5, label=name)
            descriptions.append(f"{name} {share:.1f} % at {bound_text(one.bound)}")
        percent_axis(axes, "y")
        axes.set_xlim(0, end)
        axes.set_xlabel(f"bound, {entry.unit}" if entry.unit else "bound")
        axes.set_ylabel("accuracy %")
        figure.legend(loc="outside lower center", ncols=2)
        svg = as_svg(figure, title, f"Accuracy against the bound, {entry.threat_model}: {'; '.join(descriptions)}.")
    return Plot(f"{entry.threat_model}: accuracy against the bound", svg, _caption(run, names, bool(shaded)))


def _caption(run: Run, names: Sequence[str], shaded: bool) -> str:
    entries = {name: run.plan.entries[name] for name in names}
    text = "Share of examples correct within a bound: certificates from below, attacks from above"
    text += " (points: at one bound)." if any(one.kind is Kind.ATTACK for one in entries.values()) else "."
    text += " The truth lies in the shaded gap." if shaded else ""
    for name, one in entries.items():
        if one.assumption:
            text += f" {name} (dashed) assumes that {one.assumption}: a conditional bound, which proves nothing."
    return text


def _end(run: Run, names: Sequence[str], curves: dict[str, Curve]) -> float:
    """The end of the axis: a little beyond the largest bound and nearly all finite distances and radii."""
    ends = [run.plan.entries[name].bound for name in names]
    ends += [float(np.quantile(one.steps, 0.98)) for one in curves.values()]
    return 1.1 * max(ends) or 1.0


def _steps(axes: Axes, one: Curve, end: float, colour: str, dashes: str, label: str) -> None:
    bounds = [*one.steps, max(end, one.steps[-1])]
    percentages = [100 * share for share in (*one.shares, one.shares[-1])]
    axes.step(bounds, percentages, where="post", color=colour, linestyle=dashes, linewidth=1.5, label=label)


def _shade_gap(axes: Axes, beside: Sides, curves: dict[str, Curve], end: float) -> bool:
    """Shade the gap between a certificate and the minimum-distance attacks. Returns whether there are any."""
    above = [curves[name] for name in beside.attacks if name in curves]
    if not above:
        return False
    below = curves[beside.certificate]
    bounds = np.unique(np.concatenate([below.steps, *(one.steps for one in above), [end]]))
    top = np.min([_at(one, bounds) for one in above], axis=0)
    axes.fill_between(bounds, 100 * _at(below, bounds), 100 * top, step="post", color=GRID, linewidth=0)
    return True


def _at(one: Curve, bounds: np.ndarray) -> np.ndarray:
    """The curve just above some bounds."""
    return np.asarray(one.shares[np.searchsorted(one.steps, bounds, side="right") - 1])
