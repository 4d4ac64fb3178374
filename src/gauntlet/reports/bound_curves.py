"""Accuracy curves of a run: one attack at several bounds, from all suites the run was measured by."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from gauntlet.descriptions import digest
from gauntlet.evaluation.plan import PlannedEntry, find_plans
from gauntlet.evaluation.run import Run
from gauntlet.evaluation.statistics.accuracy import accuracy
from gauntlet.evaluation.statistics.estimates import Estimate
from gauntlet.evaluation.store import read_records
from gauntlet.files import read_json
from gauntlet.kinds import Kind


class Point(NamedTuple):
    """One attack at one bound."""

    bound: float
    accuracy: Estimate
    attack: str
    """Its name and digest."""


class CurveKey(NamedTuple):
    """What all points of a curve have in common."""

    threat_model: str
    algorithm: str
    """The name that its class declares, without the version, or else the name of the class."""
    rest: str
    """A digest of everything but the bounds."""


def accuracy_curves(run: Run) -> dict[CurveKey, list[Point]]:
    """The accuracy curves of a run, from the smallest bound on. Bound 0 is the clean images.

    Attacks are grouped by algorithm and settings as well as by threat model, unlike in
    `gauntlet.evaluation.grouping`. A curve has at least two bounds and an attack of the run's suite. All points have
    as many examples as the suite.
    """
    by_bound: dict[CurveKey, dict[float, Point]] = {}
    for key, point in _points(run):
        by_bound.setdefault(key, {}).setdefault(point.bound, point)
    own_keys = {
        _curve_key(run.plan.entries[name].threat_model, run.identities[name])
        for name in run.attacks
        if name in run.full
    }
    clean = {0.0: Point(0.0, accuracy(run.full["clean"]), "clean")} if "clean" in run.full else {}
    curves = {}
    for key, points in by_bound.items():
        if key in own_keys and len(points) > 1:
            curves[key] = [point for _, point in sorted({**clean, **points}.items())]
    return curves


def _points(run: Run) -> Iterator[tuple[CurveKey, Point]]:
    """Yield every attack run on all examples, of every suite of these weights; the run's own suite comes first."""
    plans = sorted(find_plans(run.folder).items(), key=lambda named: (named[0] != run.suite, named[0]))
    for _, plan in plans:
        if not run.card.is_of(plan) or plan.examples != run.plan.examples:
            continue
        for name, entry in plan.entries.items():
            folder = run.folder / entry.folder
            if entry.kind is not Kind.ATTACK or entry.survivors_of or not (folder / "identity.json").exists():
                continue
            identity = read_json(folder / "identity.json")
            records = read_records(folder, entry.kind)
            if len(records) == plan.examples:
                label = f"{name} {digest(identity['entry'])[:12]}"
                point = Point(_bound_on_axis(entry, identity["entry"]), accuracy(records), label)
                yield _curve_key(entry.threat_model, identity), point


def _curve_key(threat_model: str, identity: Mapping[str, Any]) -> CurveKey:
    algorithm = re.split("[/@]", str(identity["entry"].get("class", "")))[0]
    return CurveKey(threat_model, algorithm, digest([_without_bounds(identity["entry"]), identity.get("weights")]))


def _without_bounds(description: Any) -> Any:
    if isinstance(description, Mapping):
        return {key: _without_bounds(value) for key, value in description.items() if key != "bound"}
    if isinstance(description, list):
        return [_without_bounds(value) for value in description]
    return description


def _bound_on_axis(entry: PlannedEntry, attack: Mapping[str, Any]) -> float:
    """The bound; for a composition, whose own bound is always 1, the bound of its first part."""
    parts = _bounds(attack.get("threat_model"))
    return parts[0] if parts and entry.bound == 1 else entry.bound


def _bounds(description: Any) -> list[float]:
    bounds: list[float] = []
    values: Any = ()
    if isinstance(description, Mapping):
        if "bound" in description:
            bounds.append(float(description["bound"]))
        values = description.values()
    elif isinstance(description, list):
        values = description
    for value in values:
        bounds += _bounds(value)
    return bounds
