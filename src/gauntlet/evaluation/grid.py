"""The grid: every attack on every example, in chunks that survive whatever happens to the process.

The grid believes no attack: it looks at every image that comes back by itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gauntlet.attacks import Adversarial, Attack
from gauntlet.checks import TOLERANCE
from gauntlet.data import Batch, Split
from gauntlet.distances import LPIPS
from gauntlet.distances.calibrated import CalibratedLPIPS
from gauntlet.errors import NotFiniteError, ThreatModelViolation
from gauntlet.evaluation.outcomes import OutcomeFolder
from gauntlet.evaluation.suite import AttackSuite
from gauntlet.goals import margin
from gauntlet.identity import describe, digest, weights_of
from gauntlet.noise import mix
from gauntlet.scopes import evaluating, exact
from gauntlet.threats.l2 import norm


@dataclass(frozen=True)
class Subject:
    """Who goes through the grid, on what.

    Args:
        classifier: on the device to use.
        checkpoint: SHA-256 of its weights file.
        examples: of the test split.
        fingerprint: of the dataset.
        reference: the dataset's own perceptual distance, for the column `lpips`; None leaves it empty.
    """

    classifier: nn.Module
    checkpoint: str
    examples: Split
    fingerprint: str
    reference: LPIPS | None = None


@dataclass(frozen=True)
class Grid:
    """How it is done.

    Args:
        seed: of the attacks' random numbers; the same for all classifiers, so that they are compared in pairs.
        chunk: examples per file. A record is bit-identical for the same chunk, device and software.
        examples: how many of the test examples to use, from the first; None for all.
        rank: this process.
        world: how many processes share the chunks; they need not know of each other.
    """

    seed: int = 0
    chunk: int = 200
    examples: int | None = None
    rank: int = 0
    world: int = 1

    def __post_init__(self) -> None:
        if self.chunk < 1 or (self.examples is not None and self.examples < 1):
            raise ValueError(f"chunk {self.chunk}, examples {self.examples}: expected at least 1 of each")

    def folders(self, subject: Subject, suite: AttackSuite, root: Path) -> dict[str, OutcomeFolder]:
        """Where the outcomes of each attack of a suite belong."""
        return {
            name: OutcomeFolder(root, name, self._identity(subject, attack)) for name, attack in suite.attacks.items()
        }

    def run(
        self, subject: Subject, suite: AttackSuite, root: Path, done: Callable[[str, int, int, float], None]
    ) -> dict[str, OutcomeFolder]:
        """Do what is missing of this process's share.

        Args:
            subject: who.
            suite: under which attacks.
            root: `outcomes/` of the run folder.
            done: told after every chunk: attack, chunks done, chunks in all, share still right of
                those done now.
        """
        folders = self.folders(subject, suite, root)
        total = min(len(subject.examples), self.examples or len(subject.examples))
        starts = range(0, total, self.chunk)
        for name, attack in suite.attacks.items():
            right = seen = 0
            for index in range(self.rank, len(starts), self.world):
                if not folders[name].has(index):
                    batch = subject.examples[slice(starts[index], min(starts[index] + self.chunk, total))]
                    rows = examine(subject, attack, batch, self.seeds(attack, batch))
                    folders[name].write(index, rows)
                    right, seen = right + sum(rows["robust"]), seen + len(rows["robust"])
                    done(name, index + 1, len(starts), right / seen)
        return folders

    def _identity(self, subject: Subject, attack: Attack) -> dict[str, Any]:
        return {
            "attack": describe(attack),
            "weights": weights_of(attack),
            "classifier": describe(subject.classifier),
            "reference": None
            if subject.reference is None
            else [describe(subject.reference), weights_of(subject.reference)],
            "checkpoint": subject.checkpoint,
            "dataset": subject.fingerprint,
            "examples": self.examples,
            "seed": self.seed,
            "precision": "float32",
            "chunk": self.chunk,
        }

    def seeds(self, attack: Attack, batch: Batch) -> Tensor:
        """`[N]`: from (seed, attack, example id)."""
        return mix(self.seed, int(digest(describe(attack))[:15], 16), batch.ids)


def device_of(classifier: nn.Module) -> torch.device:
    """Where its tensors are; the CPU where it has none."""
    return next((tensor.device for tensor in classifier.state_dict().values()), torch.device("cpu"))


def examine(subject: Subject, attack: Attack, batch: Batch, seeds: Tensor) -> dict[str, Any]:
    """Attack a chunk and measure what came back: one list per column of the schema."""
    start = time.perf_counter()
    classifier = subject.classifier
    device = device_of(classifier)
    images, labels = batch.images.to(device), batch.labels.to(device)
    with exact(), evaluating(classifier):
        found = attacked(attack, classifier, images, labels, seeds.to(device))
        with torch.no_grad():
            clean, logits = classifier(images), classifier(found.images)
        if clean.isnan().any() or (logits.isnan() & found.images.isfinite().flatten(1).all(1)[:, None]).any():
            raise NotFiniteError("the classifier answered NaN: such examples are neither right nor robust")
        inside, size = _inside(attack, classifier, images, found)
        measured = _distances(subject, images, found.images)
    prediction = logits.argmax(1)
    robust = (clean.argmax(1) == labels) & ((prediction == labels) | ~inside)  # x is in T(x); a violation is no success
    count = len(labels)
    columns: dict[str, Any] = {
        "example_id": batch.ids,
        "label": labels,
        "clean_prediction": clean.argmax(1),
        "prediction": prediction,
        "robust": robust,
        "inside": inside,
        "size": size,
        "margin": margin(logits, labels),
        **measured,
    }
    plain = {name: value.tolist() if isinstance(value, Tensor) else value for name, value in columns.items()}
    seconds = (time.perf_counter() - start) / max(1, count)
    return plain | {
        "kind": ["attack"] * count,
        "radius": [None] * count,
        "abstained": [False] * count,
        "seconds": [seconds] * count,
    }


def attacked(attack: Attack, classifier: nn.Module, images: Tensor, labels: Tensor, seeds: Tensor) -> Adversarial:
    """What the attack gives back; if it breaks its own promise, the clean images marked as outside."""
    try:
        return attack(classifier, images, labels, seeds=seeds)
    except ThreatModelViolation as violation:
        print(f"violation: {violation}; these examples count as not attacked", flush=True)
        region = attack.threat_model.around(images, classifier)
        return Adversarial(images, region.identity(), images.new_full((len(images),), torch.inf))


@torch.no_grad()
def _inside(attack: Attack, classifier: nn.Module, images: Tensor, found: Adversarial) -> tuple[Tensor, Tensor]:
    """Where the images are what the params say, finite, in [0, 1] and within the bound; and their size."""
    region = attack.threat_model.around(images, classifier)
    size = region.size(found.params)
    same = (region.perturb(found.params) == found.images).flatten(1).all(1)
    box = ((found.images >= 0) & (found.images <= 1)).flatten(1).all(1)  # false for NaN
    return same & box & (size <= 1 + TOLERANCE) & found.size.isfinite(), size


@torch.no_grad()
def _distances(subject: Subject, images: Tensor, others: Tensor) -> dict[str, Any]:
    """Linf, L2, LPIPS and calibrated LPIPS, from the two images alone."""
    calibrated = CalibratedLPIPS()
    absent = [None] * len(images)
    change = others - images
    missing = calibrated.missing((images.shape[2], images.shape[3]))
    return {
        "linf": change.abs().flatten(1).amax(1),
        "l2": norm(change),
        "lpips": absent if subject.reference is None else subject.reference(images, others),
        "lpips_calibrated": absent if missing else calibrated(images, others),
    }
