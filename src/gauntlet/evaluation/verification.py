"""One chunk under one entry of a suite: what came back is measured again, because no entry is trusted."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import polars as pl
import torch
from torch import Tensor, nn

from gauntlet.attacks import Adversarial, Attack
from gauntlet.certificates import Certificate, Certified
from gauntlet.data import Batch, Split
from gauntlet.distances import LPIPS
from gauntlet.distances.calibrated import CalibratedLPIPS
from gauntlet.errors import AttackFailed, NotFiniteError, ThreatModelViolation, UserError, first_line
from gauntlet.evaluation.batch_sizer import BatchSizer
from gauntlet.evaluation.entries import Entry
from gauntlet.evaluation.evidence import SCHEMAS, schema
from gauntlet.identity import describe, digest
from gauntlet.kinds import Kind
from gauntlet.models import outputs_for
from gauntlet.noise import Noise
from gauntlet.scopes import evaluating, exact
from gauntlet.task import CLASSIFICATION, Dtype, Task
from gauntlet.threats.l2 import norm
from gauntlet.transforms import Transform


@dataclass(frozen=True)
class ModelUnderTest:
    """The classifier that is measured, and on what.

    Args:
        classifier: on the device to use.
        checkpoint: SHA-256 of its weights file.
        examples: of the test split.
        fingerprint: of the dataset.
        reference: the dataset's own perceptual distance, for the column `perceptual`; None leaves it empty.
        calibrated: the distance of the column `lpips`, which stays empty where its weights are missing.
        batch_sizer: how many examples each entry has memory for.
        measurement: number of the classifier among those with the same identity; from `recognised`.
        task: of the dataset.
    """

    classifier: nn.Module
    checkpoint: str
    examples: Split
    fingerprint: str
    reference: LPIPS | None = None
    calibrated: CalibratedLPIPS = field(default_factory=CalibratedLPIPS)
    batch_sizer: BatchSizer = field(default_factory=BatchSizer)
    measurement: int = 0
    task: Task = CLASSIFICATION

    @property
    def classifier_digest(self) -> str:
        """Of what is measured, whatever file its weights lie in."""
        return digest([self.description, self.measurement])[:12]

    @cached_property
    def description(self) -> Any:
        """The classifier's part of an identity, taken once: a forward may count itself in a public attribute."""
        return describe(self.classifier)

    @torch.no_grad()
    def outputs(self, images: Tensor) -> Tensor:
        """What the classifier answers to `[N, C, H, W]` images on its device, in the form of the task."""
        return outputs_for(self.task, self.classifier, images)


class Chunk(NamedTuple):
    """What was measured of some examples."""

    records: pl.DataFrame
    """The columns of the entry's kind and the task."""
    images: Tensor | None
    """`[N, C, H, W]` on the CPU, that the records are about; None of a certificate."""


def device_of(classifier: nn.Module) -> torch.device:
    """Where its tensors are; the CPU where it has none."""
    return next((tensor.device for tensor in classifier.state_dict().values()), torch.device("cpu"))


def measure_chunk(model: ModelUnderTest, entry: Entry, batch: Batch, noise: Noise) -> Chunk:
    """Run an entry on a chunk and measure what came back.

    All at once, or in as many parts as the device's memory asks for.

    Raises:
        AttackFailed: the entry raised an error, gave back what it may not, or has no memory for even one example.
        NotFiniteError: the classifier answered NaN.
    """
    device = device_of(model.classifier)
    measure = _MEASURES[entry.kind]

    def part(rows: slice) -> Chunk:
        start = time.perf_counter()
        some, draws = batch.rows(rows).to(device), Noise(noise.seeds[rows].to(device))
        with exact(), evaluating(model.classifier):
            columns, images = measure(model, entry, some, draws)
        columns = {"example_id": some.ids, **columns}
        seconds = (time.perf_counter() - start) / max(1, len(some.labels))
        return Chunk(_records(schema(entry.kind, model.task), columns, seconds), images)

    parts = model.batch_sizer.run(digest(describe(entry)), len(batch.labels), part)
    images = [one.images for one in parts if one.images is not None]
    return Chunk(pl.concat([one.records for one in parts]), torch.cat(images) if images else None)


def _records(schema: Mapping[str, Dtype], columns: Mapping[str, Any], seconds: float) -> pl.DataFrame:
    """A frame of the schema's columns, then those that a certificate counted."""
    plain = {name: value.tolist() if isinstance(value, Tensor) else value for name, value in columns.items()}
    count = len(plain["example_id"])
    known = {name: plain.pop(name, [None] * count) for name in schema if name != "seconds"}
    frame = pl.DataFrame({**known, "seconds": [seconds] * count}, schema=schema)
    counted = {name: _dtype(value) for name, value in columns.items() if name in plain}
    return frame.with_columns([pl.Series(name, plain[name], dtype) for name, dtype in counted.items()])


def _dtype(column: Tensor) -> type[pl.DataType]:
    """Of a column of its own, which an empty one has, too."""
    if column.dtype is torch.bool:
        return pl.Boolean
    return pl.Float64 if column.is_floating_point() else pl.Int64


_Measured = tuple[dict[str, Any], Tensor | None]


def _attack(model: ModelUnderTest, attack: Attack, batch: Batch, noise: Noise) -> _Measured:
    found = attacked(attack, model.classifier, batch, noise)
    with failures_of_an_entry():
        verified = attack.verify(model.classifier, batch, found)
    task, clean, outputs = model.task, _answers(model, batch.images), _answers(model, found.images)
    before, after = task.score(clean, batch.labels), task.score(outputs, batch.labels)
    # The clean image is in the threat model, too; an image outside it is no success.
    success = verified.inside & (after < before)
    columns = {**_distances(model, batch.images, found.images), **task.record(batch.labels, clean, outputs, success)}
    columns["inside"] = verified.inside
    if verified.distance is None:
        return columns | {"size": verified.size}, found.images.cpu()
    unbroken = torch.where(before > 0, torch.inf, 0.0).double()
    columns["distance"] = torch.where(success, verified.distance.double(), unbroken)
    return columns, found.images.cpu()


def _transform(model: ModelUnderTest, transform: Transform, batch: Batch, noise: Noise) -> _Measured:
    with failures_of_an_entry():
        images = transform(batch, noise)
        _check_images(images, batch.images)
        inside = transform.verify(batch, noise, images)
    clean, outputs = _answers(model, batch.images), _answers(model, images)
    judged = model.task.record(batch.labels, clean, outputs, torch.ones_like(inside))
    return {**_distances(model, batch.images, images), **judged, "inside": inside}, images.cpu()


def _certificate(model: ModelUnderTest, certificate: Certificate, batch: Batch, noise: Noise) -> _Measured:
    with failures_of_an_entry():
        found = certificate(model.classifier, batch.images, noise)
        _check_certified(found, len(batch.labels))
    clean = _answers(model, batch.images).argmax(1)
    radius = torch.where(found.abstained, 0.0, found.radius.double())
    correct = (found.predictions == batch.labels) & ~found.abstained
    predictions = {"clean_prediction": clean, "prediction": found.predictions}
    columns = {"label": batch.labels, **predictions, "correct": correct, "radius": radius}
    return {**columns, "abstained": found.abstained, **found.detail}, None


def _check_certified(found: Certified, count: int) -> None:
    predictions, radius, abstained, detail = found
    if taken := sorted(detail.keys() & {*SCHEMAS[Kind.CERTIFICATE]}):
        raise ValueError(f"its detail has columns {taken}, which every certificate has: rename them")
    for name, tensor in {"predictions": predictions, "radius": radius, "abstained": abstained, **detail}.items():
        if tensor.shape != (count,):
            raise ValueError(f"its {name} is of shape {list(tensor.shape)}: expected [{count}]")
    if abstained.dtype != torch.bool or predictions.is_floating_point():
        raise ValueError(f"predictions {predictions.dtype}, abstained {abstained.dtype}: expected integers, booleans")
    if not (radius[~abstained] >= 0).all():  # NaN too
        raise ValueError("a radius is negative or NaN: abstain instead")


def _check_images(found: Tensor, images: Tensor) -> None:
    if found.shape != images.shape:
        raise ValueError(f"it gave back images {list(found.shape)} for {list(images.shape)}")


_MEASURES: Mapping[Kind, Callable[[ModelUnderTest, Any, Batch, Noise], _Measured]] = {
    Kind.ATTACK: _attack,
    Kind.MINIMUM_DISTANCE: _attack,
    Kind.CERTIFICATE: _certificate,
    Kind.TRANSFORM: _transform,
}


def _answers(model: ModelUnderTest, images: Tensor) -> Tensor:
    outputs = model.outputs(images)
    if (outputs.isnan().flatten(1).any(1) & images.isfinite().flatten(1).all(1)).any():
        raise NotFiniteError("the classifier answered NaN: such examples are neither right nor robust")
    return outputs


@contextmanager
def failures_of_an_entry() -> Iterator[None]:
    """Turn what an entry's own code raises into AttackFailed, so that the other entries go on."""
    try:
        yield
    except (UserError, AttackFailed, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise AttackFailed(f"{type(error).__name__}: {first_line(error)}") from error


def attacked(attack: Attack, classifier: nn.Module, batch: Batch, noise: Noise) -> Adversarial:
    """What the attack gives back. An example for which it breaks its own promise gets its clean image, as outside.

    The promise is broken by a batch, the bug belongs to an example: halves of the batch are tried again until it is
    alone, so that the others keep what was found for them.

    Raises:
        AttackFailed: the attack raised anything else, or gave back what is no batch of images.
    """
    images = batch.images
    try:
        found = attack.run(classifier, batch, noise)
        _check_images(found.images, images)
        if not len(found.params) == len(found.size) == len(images):
            raise ValueError(
                f"it gave back {len(found.params)} params and {len(found.size)} sizes for {len(images)} images"
            )
    except ThreatModelViolation as violation:
        if len(images) > 1:
            middle = len(images) // 2
            halves = (
                attacked(attack, classifier, batch.rows(part), Noise(noise.seeds[part]))
                for part in (slice(middle), slice(middle, None))
            )
            return Adversarial(*(torch.cat(parts) for parts in zip(*halves, strict=True)))
        print(f"violation: {violation}; this example counts as not attacked", flush=True)
        region = attack.threat_model.around(batch, classifier)
        return Adversarial(images, region.zero(), images.new_full((len(images),), torch.inf))
    except (UserError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise AttackFailed(f"{type(error).__name__}: {first_line(error)}") from error
    return found


def images_of(entry: Entry, classifier: nn.Module, batch: Batch, noise: Noise) -> Tensor | None:
    """The images `[N, C, H, W]` that an entry makes of a batch; None of a certificate.

    Raises:
        AttackFailed: the attack raised an error.
    """
    if entry.kind is Kind.CERTIFICATE:
        return None
    with exact():
        if entry.kind is Kind.TRANSFORM:
            transform: Any = entry
            shown: Tensor = transform(batch, noise)
            return shown
        attack: Any = entry
        return attacked(attack, classifier, batch, noise).images


@torch.no_grad()
def _distances(model: ModelUnderTest, images: Tensor, others: Tensor) -> dict[str, Any]:
    """L∞, L2, the reference distance and LPIPS, from the two images alone."""
    absent = [None] * len(images)
    change = others - images
    missing = model.calibrated.missing((images.shape[2], images.shape[3]))
    return {
        "linf": change.abs().flatten(1).amax(1),
        "l2": norm(change),
        "perceptual": absent if model.reference is None else model.reference(images, others),
        "lpips": absent if missing else model.calibrated(images, others),
    }
