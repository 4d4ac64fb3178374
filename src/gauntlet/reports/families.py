"""Attacks of a run that are the same but for their bounds, whichever suites they were measured in."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from gauntlet.evaluation.measures import Accuracy, accuracy
from gauntlet.evaluation.outcomes import read_outcomes
from gauntlet.files import read_json
from gauntlet.identity import digest
from gauntlet.reports.runs import Run


class Point(NamedTuple):
    """One attack at one bound."""

    bound: float
    accuracy: Accuracy
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
    own = {_family(run.threat_models[name], run.identities[name]) for name in run.whole}
    start = {0.0: Point(0.0, accuracy(run.whole["clean"]), "clean")} if "clean" in run.whole else {}
    return {
        family: [point for _, point in sorted({**start, **points}.items())]
        for family, points in found.items()
        if family in own and len(points) > 1
    }


def _points(run: Run) -> Iterator[tuple[Family, Point]]:
    """Every attack that was run on all examples, of every suite of these weights; the run's own suite comes first."""
    files = sorted((run.folder / "suites").glob("*.json"), key=lambda file: (file.stem != run.suite, file.stem))
    for plan in map(read_json, files):
        if plan["checkpoint"] != run.card["checkpoint"] or plan["examples"] != run.plan["examples"]:
            continue
        for name, entry in plan["attacks"].items():
            place = run.folder / entry["folder"]
            if entry["threat_model"] == "clean" or entry.get("survivors_of") or "corruption" in entry:
                continue
            if not (place / "identity.json").exists():
                continue
            identity, frame = read_json(place / "identity.json"), read_outcomes(place)
            if len(frame) == plan["examples"]:
                point = Point(
                    _size(entry, identity["attack"]), accuracy(frame), f"{name} {digest(identity['attack'])[:12]}"
                )
                yield _family(entry["threat_model"], identity), point


def _family(threat_model: str, identity: Mapping[str, Any]) -> Family:
    algorithm = re.split("[/@]", str(identity["attack"].get("class", "")))[0]
    return Family(threat_model, algorithm, digest([_without_bounds(identity["attack"]), identity.get("weights")]))


def _without_bounds(description: Any) -> Any:
    if isinstance(description, Mapping):
        return {key: _without_bounds(value) for key, value in description.items() if key != "bound"}
    if isinstance(description, list):
        return [_without_bounds(value) for value in description]
    return description


def _size(entry: Mapping[str, Any], attack: Mapping[str, Any]) -> float:
    """The bound; of a composition, whose own is always 1, that of its first part."""
    inner = _bounds(attack.get("threat_model"))
    return inner[0] if inner and float(entry["bound"]) == 1 else float(entry["bound"])


def _bounds(description: Any) -> list[float]:
    if isinstance(description, Mapping):
        own = [float(description["bound"])] if "bound" in description else []
        return own + [bound for value in description.values() for bound in _bounds(value)]
    if isinstance(description, list):
        return [bound for value in description for bound in _bounds(value)]
    return []
