"""What stands in a run folder beside the records: the card of the run, and a plan for every suite."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from gauntlet.errors import UserError
from gauntlet.evaluation.columns import Aggregated
from gauntlet.evaluation.soundness import Soundness
from gauntlet.files import read_json, write_atomically
from gauntlet.kinds import Kind
from gauntlet.task import CLASSIFICATION

FORMAT = 2
"""Of cards and plans. Plans of format 1, and the records they name, cannot be taken over."""


@dataclass(frozen=True)
class Card:
    """Which classifier a run folder is about."""

    name: str
    dataset: str
    """The name of its config."""
    model: str
    defense: str | None
    """None of a classifier that was not trained here."""
    seed: int | None
    trained_on: Sequence[str] | None
    """Names of threat models; None where it is not stated."""
    checkpoint: str
    """SHA-256 of the weights file."""
    fingerprint: str
    """Of the dataset."""
    classifier: str = ""
    """A digest of what was measured last: the same weights may be those of several networks. Empty: not measured."""
    task: str = CLASSIFICATION.name
    """Of the dataset: the name and version that its class declares."""
    version: int = FORMAT

    def write(self, folder: Path) -> None:
        """Keep it in a run folder; of the same weights, what was measured last stays known."""
        if not self.classifier and (folder / "card.json").exists():
            known = read_card(folder)
            if known.checkpoint == self.checkpoint and known.classifier:
                replace(self, classifier=known.classifier).write(folder)
                return
        write_atomically(folder / "card.json", json.dumps(asdict(self), indent=1) + "\n")

    def is_of(self, plan: Plan) -> bool:
        """Whether a plan was measured on this classifier."""
        return plan.checkpoint == self.checkpoint and self.classifier in ("", plan.classifier)

    @property
    def training(self) -> str:
        """What the classifier was trained on, in words."""
        if self.trained_on is None:
            return "not stated (trained_on=[…] says it); the unseen mean leaves nothing out"
        return ", ".join(self.trained_on) or "clean images"


def read_card(folder: Path) -> Card:
    """The card of a run folder; one of format 1 has the same keys.

    Raises:
        UserError: it has none.
    """
    file = folder / "card.json"
    if not file.exists():
        raise UserError(f"{folder} has no card.json: give run folders that train.py or evaluate.py made")
    content: dict[str, Any] = read_json(file)
    return Card(**{key: value for key, value in content.items() if key != "version"})


@dataclass(frozen=True)
class PlannedEntry:
    """One entry of a suite as a run was measured by it."""

    kind: Kind
    threat_model: str
    """Its name."""
    bound: float
    unit: str
    folder: str
    """Of its records, in the run folder."""
    family: str
    """A digest of the threat model whatever its bound: what two entries share that may be held against each other."""
    gradient_free: bool = False
    survivors_of: Sequence[str] = ()
    """Entries whose successes it was not run on."""
    confidence: float | None = None
    """Of a certificate; None of a deterministic one."""
    assumption: str | None = None
    """Of a conditional bound."""


@dataclass(frozen=True)
class Plan:
    """What a suite was in one run, and what its aggregates came to."""

    checkpoint: str
    """SHA-256 of the weights it was measured on."""
    examples: int
    entries: Mapping[str, PlannedEntry]
    aggregates: Mapping[str, Any]
    """By name: their identities."""
    classifier: str = ""
    """A digest of what it was measured on, as the card's."""
    share: float | None = None
    """Of the dataset's bounds, where shares were asked for."""
    results: Mapping[str, Aggregated] = field(default_factory=dict)
    """By aggregate, of finished records."""
    soundness: Sequence[Soundness] = ()
    """By certificate, where attacks on the same threat model stand beside it."""
    version: int = FORMAT

    @property
    def threats(self) -> dict[str, str]:
        """Names of threat models by entry, of everything that bounds robustness from above; and the clean images.

        Attacks at a bound come last, so that of several entries with one threat model such an attack stands for it.
        """
        order = (Kind.TRANSFORM, Kind.MINIMUM_DISTANCE, Kind.ATTACK)
        found = [(name, entry) for kind in order for name, entry in self.entries.items() if entry.kind is kind]
        return {
            name: entry.threat_model
            for name, entry in found
            if entry.kind is not Kind.TRANSFORM or entry.threat_model == "clean"
        }

    def same_measurement(self, other: Plan) -> bool:
        """Whether two plans name the same records and aggregates, whatever came of them."""
        bare = [replace(plan, results={}, soundness=())._plain() for plan in (self, other)]
        return bool(bare[0] == bare[1])

    def write(self, folder: Path, suite: str) -> None:
        """Keep it in a run folder."""
        write_atomically(plan_file(folder, suite), json.dumps(self._plain(), indent=1) + "\n")

    def _plain(self) -> Any:
        return json.loads(json.dumps(asdict(self)))

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Back from the content of a file."""
        entries = {name: PlannedEntry(**{**one, "kind": Kind(one["kind"])}) for name, one in content["entries"].items()}
        results = {name: Aggregated.from_json(one) for name, one in content["results"].items()}
        soundness = [Soundness(**one) for one in content["soundness"]]
        return cls(**{**content, "entries": entries, "results": results, "soundness": soundness})


def plan_file(folder: Path, suite: str) -> Path:
    """Where the plan of a suite is kept."""
    return folder / "suites" / f"{suite}.json"


def find_plan(folder: Path, suite: str) -> Plan | None:
    """The plan of a suite; None where there is none that can be read."""
    file = plan_file(folder, suite)
    content = read_json(file) if file.exists() else {}
    return Plan.from_json(content) if content.get("version") == FORMAT else None


def find_plans(folder: Path) -> dict[str, Plan]:
    """All plans of a run folder by suite, in the order of their names."""
    suites = sorted(file.stem for file in (folder / "suites").glob("*.json"))
    plans = {suite: find_plan(folder, suite) for suite in suites}
    return {suite: plan for suite, plan in plans.items() if plan is not None}


def read_plan(folder: Path, suite: str) -> Plan:
    """The plan of a suite.

    Raises:
        UserError: the run was not evaluated by it, or by an earlier version of Gauntlet.
    """
    if plan := find_plan(folder, suite):
        return plan
    again = f"run evaluate.py checkpoint={folder} attack_suite={suite}"
    if plan_file(folder, suite).exists():
        raise UserError(f"{folder} was evaluated by another version of Gauntlet, whose records cannot be read: {again}")
    known = ", ".join(find_plans(folder)) or "none"
    raise UserError(f"{folder} was not evaluated under suite {suite} (but under {known}): {again}")
