"""One chunk under one attack: what came back is looked at again, because no attack is believed."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from gauntlet.attacks import Adversarial, Attack
from gauntlet.checks import TOLERANCE
from gauntlet.data import Batch, Split
from gauntlet.distances import LPIPS
from gauntlet.distances.calibrated import CalibratedLPIPS
from gauntlet.errors import AttackFailed, NotFiniteError, ThreatModelViolation, UserError, first_line
from gauntlet.evaluation.room import Room, Rows
from gauntlet.identity import describe, digest
from gauntlet.losses import margin
from gauntlet.models import logits_of
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
        calibrated: the distance of the column `lpips_calibrated`, which stays empty where its weights are missing.
        room: how many examples each attack has memory for.
    """

    classifier: nn.Module
    checkpoint: str
    examples: Split
    fingerprint: str
    reference: LPIPS | None = None
    calibrated: CalibratedLPIPS = field(default_factory=CalibratedLPIPS)
    room: Room = field(default_factory=Room)


def device_of(classifier: nn.Module) -> torch.device:
    """Where its tensors are; the CPU where it has none."""
    return next((tensor.device for tensor in classifier.state_dict().values()), torch.device("cpu"))


def examine(subject: Subject, attack: Attack, batch: Batch, seeds: Tensor) -> Rows:
    """Attack a chunk and measure what came back: one list per column of the schema.

    All at once, or in as many parts as the device's memory asks for.

    Raises:
        AttackFailed: the attack raised an error, gave back what is no batch of images, or has no memory for even one.
        NotFiniteError: the classifier answered NaN.
    """

    def measure(rows: slice) -> Rows:
        return _examined(subject, attack, batch.rows(rows), seeds[rows])

    return subject.room.fitted(digest(describe(attack)), batch, measure)


def _examined(subject: Subject, attack: Attack, batch: Batch, seeds: Tensor) -> Rows:
    start = time.perf_counter()
    classifier = subject.classifier
    device = device_of(classifier)
    images, labels = batch.images.to(device), batch.labels.to(device)
    with exact(), evaluating(classifier):
        found = attacked(attack, classifier, images, labels, seeds.to(device))
        with torch.no_grad():
            clean, logits = logits_of(classifier, images), logits_of(classifier, found.images)
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
    plain: Rows = {name: value.tolist() if isinstance(value, Tensor) else value for name, value in columns.items()}
    seconds = (time.perf_counter() - start) / max(1, count)
    return plain | {
        "kind": ["attack"] * count,
        "radius": [None] * count,
        "abstained": [False] * count,
        "seconds": [seconds] * count,
    }


def attacked(attack: Attack, classifier: nn.Module, images: Tensor, labels: Tensor, seeds: Tensor) -> Adversarial:
    """What the attack gives back. An example for which it breaks its own promise gets its clean image, as outside.

    The promise is broken by a batch, the bug belongs to an example: halves of the batch are tried again until it is
    alone, so that the others keep what was found for them.

    Raises:
        AttackFailed: the attack raised anything else, or gave back what is no batch of images.
    """
    try:
        found = attack(classifier, images, labels, seeds=seeds)
        if found.images.shape != images.shape or len(found.params) != len(images) or len(found.size) != len(images):
            raise ValueError(f"it gave back images {list(found.images.shape)} for {list(images.shape)}")
    except ThreatModelViolation as violation:
        if len(images) > 1:
            middle = len(images) // 2
            halves = (
                attacked(attack, classifier, images[part], labels[part], seeds[part])
                for part in (slice(middle), slice(middle, None))
            )
            return Adversarial(*(torch.cat(parts) for parts in zip(*halves, strict=True)))
        print(f"violation: {violation}; this example counts as not attacked", flush=True)
        region = attack.threat_model.around(images, classifier)
        return Adversarial(images, region.identity(), images.new_full((len(images),), torch.inf))
    except (UserError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise AttackFailed(f"{type(error).__name__}: {first_line(error)}") from error
    return found


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
    absent = [None] * len(images)
    change = others - images
    missing = subject.calibrated.missing((images.shape[2], images.shape[3]))
    return {
        "linf": change.abs().flatten(1).amax(1),
        "l2": norm(change),
        "lpips": absent if subject.reference is None else subject.reference(images, others),
        "lpips_calibrated": absent if missing else subject.calibrated(images, others),
    }
