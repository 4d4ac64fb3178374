"""Accuracy against the bound from both sides: certified from below, attacked from above, the gap between them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gauntlet.evaluation.run import Run
from gauntlet.kinds import Kind
from gauntlet.reports.certified import Sides, attacked_at, sides, steps
from gauntlet.reports.plots.canvas import COLOURS, GRID, Plot, as_svg, drawing, percent_axis
from gauntlet.reports.table import bound_text


def certified_plots(run: Run, name: str) -> list[Plot]:
    """A plot per threat model with a curve: certificates, minimum-distance attacks, attacks at their bound."""
    found = []
    groups = _groups(run)
    for i, (family, group) in enumerate(groups.items()):
        found.append(_plot(run, family, group, f"{name}-{i}"))
    return found


def _groups(run: Run) -> dict[str, list[str]]:
    """The entries with a curve, by digest of their threat model, and the attacks at a bound beside them."""
    if not run.complete:
        return {}
    curves = (Kind.CERTIFICATE, Kind.MINIMUM_DISTANCE)
    families = dict.fromkeys(entry.family for entry in run.plan.entries.values() if entry.kind in curves)
    return {
        family: [name for name, entry in run.plan.entries.items() if entry.family == family and _drawn(run, name)]
        for family in families
    }


def _drawn(run: Run, name: str) -> bool:
    return run.plan.entries[name].kind is not Kind.TRANSFORM and name not in run.survivors


def _plot(run: Run, family: str, names: Sequence[str], title: str) -> Plot:
    entry = run.plan.entries[names[0]]
    end = _end(run, names)
    words = []
    with drawing(2.7 + 0.17 * -(-len(names) // 2)) as (figure, grid):
        axes = grid[0, 0]
        for beside in (one for one in sides(run) if run.plan.entries[one.certificate].family == family):
            _shade_gap(run, beside, axes, end)
        for i, name in enumerate(names):
            colour, one = COLOURS[i % len(COLOURS)], run.plan.entries[name]
            share = 100 * float(run.holds(name).mean() or 0.0)  # type: ignore[arg-type]
            if one.kind is Kind.ATTACK:
                axes.plot([one.bound], [share], "o", color=colour, markersize=4.5, label=name)
            else:
                across, up = _staircase(run, name, end)
                dashes = "--" if one.assumption else "-"
                axes.step(across, up, where="post", color=colour, linestyle=dashes, linewidth=1.5, label=name)
            words.append(f"{name} {share:.1f} % at {bound_text(one.bound)}")
        percent_axis(axes, "y")
        axes.set_xlim(0, end)
        axes.set_xlabel(f"bound, {entry.unit}")
        axes.set_ylabel("accuracy %")
        figure.legend(loc="outside lower center", ncols=2)
        svg = as_svg(figure, title, f"Accuracy against the bound, {entry.threat_model}: {'; '.join(words)}.")
    caption = (
        "Share of examples correct within a bound: certificates from below, attacks from above (points: at one bound)."
        " The truth lies in the shaded gap."
    )
    return Plot(f"{entry.threat_model}: accuracy against the bound", svg, caption)


def _end(run: Run, names: Sequence[str]) -> float:
    """Where the axis ends: a little beyond the largest bound and all but a few of the finite distances and radii."""
    ends = [run.plan.entries[name].bound for name in names]
    for name in names:
        if run.plan.entries[name].kind is not Kind.ATTACK:
            places, _ = steps(run, name)
            ends += [float(np.quantile(places, 0.98))] if len(places) else []
    return 1.1 * max(ends) or 1.0


def _staircase(run: Run, name: str, end: float) -> tuple[list[float], list[float]]:
    """A curve that falls after each place, in percent, from 0 to the end of the axis."""
    places, shares = steps(run, name)
    start = 100 * float(run.holds(name, 0.0).mean() or 0.0)  # type: ignore[arg-type]
    tail = _tail(run, name)
    later = [*(100 * float(share) for share in shares[1:]), tail] if len(shares) else []
    return [0.0, *map(float, places), max(end, float(places[-1]) if len(places) else end)], [start, *later, tail]


def _tail(run: Run, name: str) -> float:
    """What is left beyond every finite place, in percent."""
    return 100 * float(run.holds(name, 1e300).mean() or 0.0)  # type: ignore[arg-type]


def _shade_gap(run: Run, beside: Sides, axes: object, end: float) -> None:
    """Between the certificate and the attacks of minimum distance."""
    curves = [name for name in beside.attacks if run.plan.entries[name].kind is Kind.MINIMUM_DISTANCE]
    if not curves:
        return
    across = np.linspace(0, end, 200)
    below = [100 * float(run.holds(beside.certificate, float(x)).mean() or 0.0) for x in across]  # type: ignore[arg-type]
    above = [attacked_at(run, curves, float(x)) for x in across]
    top = [100 * one.value if one else 100.0 for one in above]
    axes.fill_between(across, below, top, color=GRID, linewidth=0)  # type: ignore[attr-defined]
