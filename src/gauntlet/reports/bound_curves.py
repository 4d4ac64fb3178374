"""Attacks of a run that are the same but for their bounds, whichever suites they were measured in."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from gauntlet.evaluation.plan import PlannedEntry, find_plans
from gauntlet.evaluation.run import Run
from gauntlet.evaluation.statistics.accuracy import accuracy
from gauntlet.evaluation.statistics.estimates import Estimate
from gauntlet.evaluation.store import read_records
from gauntlet.files import read_json
from gauntlet.identity import digest
from gauntlet.kinds import Kind


class Point(NamedTuple):
    """One attack at one bound."""

    bound: float
    accuracy: Estimate
    attack: str
    """Its name and digest."""


class Family(NamedTuple):
    """What tells one curve from another."""

    threat_model: str
    algorithm: str
    """The name that its class declares, without the version; that of the class where it declares none."""
    rest: str
    """A digest of everything but the bounds."""


def families(run: Run) -> dict[Family, list[Point]]:
    """The curves of a run, from the smallest bound on; bound 0 is the clean images.

    Families without an attack of the run's suite, or with one bound alone, are no curves of it. All points are of as
    many examples as the suite.
    """
    found: dict[Family, dict[float, Point]] = {}
    for family, point in _points(run):
        found.setdefault(family, {}).setdefault(point.bound, point)
    own = {
        _family(run.plan.entries[name].threat_model, run.identities[name]) for name in run.attacks if name in run.full
    }
    start = {0.0: Point(0.0, accuracy(run.full["clean"]), "clean")} if "clean" in run.full else {}
    return {
        family: [point for _, point in sorted({**start, **points}.items())]
        for family, points in found.items()
        if family in own and len(points) > 1
    }


def _points(run: Run) -> Iterator[tuple[Family, Point]]:
    """Every attack that was run on all examples, of every suite of these weights; the run's own suite comes first."""
    plans = sorted(find_plans(run.folder).items(), key=lambda named: (named[0] != run.suite, named[0]))
    for _, plan in plans:
        if not run.card.is_of(plan) or plan.examples != run.plan.examples:
            continue
        for name, entry in plan.entries.items():
            place = run.folder / entry.folder
            if entry.kind is not Kind.ATTACK or entry.survivors_of or not (place / "identity.json").exists():
                continue
            identity, frame = read_json(place / "identity.json"), read_records(place, entry.kind)
            if len(frame) == plan.examples:
                label = f"{name} {digest(identity['entry'])[:12]}"
                point = Point(_size(entry, identity["entry"]), accuracy(frame), label)
                yield _family(entry.threat_model, identity), point


def _family(threat_model: str, identity: Mapping[str, Any]) -> Family:
    algorithm = re.split("[/@]", str(identity["entry"].get("class", "")))[0]
    return Family(threat_model, algorithm, digest([_without_bounds(identity["entry"]), identity.get("weights")]))


def _without_bounds(description: Any) -> Any:
    if isinstance(description, Mapping):
        return {key: _without_bounds(value) for key, value in description.items() if key != "bound"}
    if isinstance(description, list):
        return [_without_bounds(value) for value in description]
    return description


def _size(entry: PlannedEntry, attack: Mapping[str, Any]) -> float:
    """The bound; of a composition, whose own is always 1, that of its first part."""
    inner = _bounds(attack.get("threat_model"))
    return inner[0] if inner and entry.bound == 1 else entry.bound


def _bounds(description: Any) -> list[float]:
    if isinstance(description, Mapping):
        own = [float(description["bound"])] if "bound" in description else []
        return own + [bound for value in description.values() for bound in _bounds(value)]
    if isinstance(description, list):
        return [bound for value in description for bound in _bounds(value)]
    return []
