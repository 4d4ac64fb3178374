"""The files of a run folder beside the records: the card of the run, and a plan for every suite."""

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
"""Version of cards and plans. Plans of format 1, and the records they name, cannot be read."""


@dataclass(frozen=True)
class Card:
    """The classifier that a run folder is about."""

    name: str
    dataset: str
    """Name of its config."""
    model: str
    defense: str | None
    """None for a classifier that was not trained here."""
    seed: int | None
    trained_on: Sequence[str] | None
    """Names of threat models; None if unknown."""
    checkpoint: str
    """SHA-256 of the weights file."""
    fingerprint: str
    """Fingerprint of the dataset."""
    classifier: str = ""
    """Digest of the classifier measured last, as several networks may share the same weights. Empty: not measured."""
    task: str = CLASSIFICATION.name
    """Name and version of the dataset's task."""
    version: int = FORMAT

    def write(self, folder: Path) -> None:
        """Write it into a run folder. `classifier` is taken from the card there if it is of the same weights."""
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
        """The threat models the classifier was trained on, in words."""
        if self.trained_on is None:
            return "not stated (trained_on=[…] says it); the unseen mean leaves nothing out"
        return ", ".join(self.trained_on) or "clean images"


def read_card(folder: Path) -> Card:
    """Read the card of a run folder; a card of format 1 has the same keys.

    Raises:
        UserError: the folder has no card.
    """
    file = folder / "card.json"
    if not file.exists():
        raise UserError(f"{folder} has no card.json: give run folders that train.py or evaluate.py made")
    content: dict[str, Any] = read_json(file)
    return Card(**{key: value for key, value in content.items() if key != "version"})


@dataclass(frozen=True)
class PlannedEntry:
    """One entry of a suite, as it was when a run was measured."""

    kind: Kind
    threat_model: str
    """Name of the threat model."""
    bound: float
    unit: str
    folder: str
    """Folder of its records, relative to the run folder."""
    family: str
    """Digest of the threat model without its bound; entries with the same digest are comparable."""
    gradient_free: bool = False
    survivors_of: Sequence[str] = ()
    """Entries whose successes it skipped; empty if it ran on every example."""
    confidence: float | None = None
    """Confidence of a certificate; None if it is deterministic."""
    assumption: str | None = None
    """Assumption of a conditional bound."""


@dataclass(frozen=True)
class Plan:
    """A suite as it was in one run, and the results of its aggregates."""

    checkpoint: str
    """SHA-256 of the weights it was measured on."""
    examples: int
    entries: Mapping[str, PlannedEntry]
    aggregates: Mapping[str, Any]
    """Identities of the aggregates, by name."""
    classifier: str = ""
    """Digest of the classifier it was measured on, as in the card."""
    share: float | None = None
    """Share of the dataset's bounds, if shares were requested."""
    results: Mapping[str, Aggregated] = field(default_factory=dict)
    """Results by aggregate, from finished records."""
    soundness: Sequence[Soundness] = ()
    """Soundness checks, one for each certificate with attacks on the same threat model."""
    version: int = FORMAT

    @property
    def threats(self) -> dict[str, str]:
        """Names of threat models by entry, for all entries that give an upper bound on robustness and the clean images.

        Attacks at a bound come last, so that they represent a threat model that several entries share.
        """
        named: dict[str, str] = {}
        for kind in (Kind.TRANSFORM, Kind.MINIMUM_DISTANCE, Kind.ATTACK):
            for name, entry in self.entries.items():
                if entry.kind is kind and (kind is not Kind.TRANSFORM or entry.threat_model == "clean"):
                    named[name] = entry.threat_model
        return named

    def attacks_against(self, certificate: str) -> list[str]:
        """Names of attacks and minimum-distance attacks on the threat model of a certificate, whatever their bounds."""
        kinds = (Kind.ATTACK, Kind.MINIMUM_DISTANCE)
        family = self.entries[certificate].family
        return [name for name, entry in self.entries.items() if entry.kind in kinds and entry.family == family]

    def same_measurement(self, other: Plan) -> bool:
        """Whether two plans name the same records and aggregates, regardless of results."""
        bare = [replace(plan, results={}, soundness=())._plain() for plan in (self, other)]
        return bool(bare[0] == bare[1])

    def write(self, folder: Path, suite: str) -> None:
        """Write it into a run folder."""
        write_atomically(plan_file(folder, suite), json.dumps(self._plain(), indent=1) + "\n")

    def _plain(self) -> Any:
        return json.loads(json.dumps(asdict(self)))

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Read it from the content of a file."""
        entries = {name: PlannedEntry(**{**one, "kind": Kind(one["kind"])}) for name, one in content["entries"].items()}
        results = {name: Aggregated.from_json(one) for name, one in content["results"].items()}
        soundness = [Soundness(**one) for one in content["soundness"]]
        return cls(**{**content, "entries": entries, "results": results, "soundness": soundness})


def plan_file(folder: Path, suite: str) -> Path:
    """Return the file that keeps the plan of a suite."""
    return folder / "suites" / f"{suite}.json"


def find_plan(folder: Path, suite: str) -> Plan | None:
    """Read the plan of a suite; None if there is none in the current format."""
    file = plan_file(folder, suite)
    content = read_json(file) if file.exists() else {}
    return Plan.from_json(content) if content.get("version") == FORMAT else None


def find_plans(folder: Path) -> dict[str, Plan]:
    """Read all plans of a run folder by suite, in alphabetical order."""
    suites = sorted(file.stem for file in (folder / "suites").glob("*.json"))
    plans = {suite: find_plan(folder, suite) for suite in suites}
    return {suite: plan for suite, plan in plans.items() if plan is not None}


def read_plan(folder: Path, suite: str) -> Plan:
    """Read the plan of a suite.

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
