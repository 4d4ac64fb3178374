"""The proof that a classifier is the one that was measured: its logits of 32 fixed examples, kept beside the records.

An identity says what a classifier is made of. What it computes is seen here: whenever records may be reused, the
logits of the same examples are computed again and compared with those that were kept.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from filelock import FileLock
from safetensors.torch import load, save
from torch import Tensor

from gauntlet.evaluation.verification import ModelUnderTest, device_of
from gauntlet.files import write_atomically
from gauntlet.identity import digest
from gauntlet.scopes import evaluating, exact

_EXAMPLES = 32
TOLERANCE = 1e-3
"""Largest change of a logit, as a share of the example's largest one, that another processor or batch may make."""


def recognised(model: ModelUnderTest, root: Path, keep: bool = True) -> ModelUnderTest:
    """The subject, with the number of the measurement whose records may be reused.

    The first classifier under an identity is number 0. Another one under the same identity, whose logits differ, is
    said to be so, and is given folders of its own; those of the first stay. A classifier that answers differently when
    asked twice has no logits to compare, and is number 0.

    Args:
        model: the classifier, and what it is measured on.
        root: `records/` of the run folder.
        keep: keep the logits of a classifier that was not seen before; False where nothing may be written.
    """
    if not len(model.examples):
        return model
    logits, again = _logits(model), _logits(model)
    if not _same(logits, again):
        return model
    key = digest([model.description, model.checkpoint, model.fingerprint])[:12]
    if not keep:
        return replace(model, measurement=_number(root, key, logits)[0])
    number, _ = _number(root, key, logits)
    if _file(root, key, number).exists():  # nothing to write, so that a folder may be read-only
        return replace(model, measurement=number)
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / f".logits-{key}.lock"):
        number, nearest = _number(root, key, logits)
        file = _file(root, key, number)
        if not file.exists():
            write_atomically(file, save({"logits": logits, "example_id": _rows_ids(model)}))
            if nearest is not None:
                print(_changed(model, nearest, logits), flush=True)
    return replace(model, measurement=number)


def _number(root: Path, key: str, logits: Tensor) -> tuple[int, Tensor | None]:
    """The number under which these logits are kept, or the next free one; with it those kept last, if there are any."""
    number, known = 0, None
    while (file := _file(root, key, number)).exists():
        known = load(file.read_bytes())["logits"]
        if _same(known, logits):
            return number, known
        number += 1
    return number, known


def _file(root: Path, key: str, number: int) -> Path:
    return root / f"logits-{key}-{number}.safetensors"


def _rows(model: ModelUnderTest) -> Tensor:
    """Rows of the fixed examples: evenly spaced over the test split, whatever part of it is measured."""
    count = len(model.examples)
    return torch.arange(min(_EXAMPLES, count)) * count // min(_EXAMPLES, count)


def _rows_ids(model: ModelUnderTest) -> Tensor:
    return model.examples.ids[_rows(model)].cpu().contiguous()


@torch.no_grad()
def _logits(model: ModelUnderTest) -> Tensor:
    batch = model.examples[_rows(model)]
    with exact(), evaluating(model.classifier):
        answers = model.outputs(batch.images.to(device_of(model.classifier)))
    return answers.flatten(1).float().cpu().contiguous()


def _same(one: Tensor, other: Tensor) -> bool:
    """Whether two tables of logits are equal but for rounding; −inf, inf and NaN stand at the same places."""
    if one.shape != other.shape:
        return False
    finite = one.isfinite() & other.isfinite()
    alike = torch.where(finite, True, (one == other) | (one.isnan() & other.isnan()))
    return bool(alike.all()) and bool((_change(one, other) <= TOLERANCE).all())


def _change(one: Tensor, other: Tensor) -> Tensor:
    """By how much each logit differs, as a share of the example's largest one, `[N, K]`."""
    finite = one.isfinite() & other.isfinite()
    change = torch.where(finite, (one - other).abs(), 0.0)
    scale = torch.where(finite, torch.maximum(one.abs(), other.abs()), 0.0).amax(1, keepdim=True)
    return change / scale.clamp(min=1e-12)


def _changed(model: ModelUnderTest, before: Tensor, now: Tensor) -> str:
    """Which logits moved, in a line."""
    start = "this classifier is another one than its records say, although it is made of the same parts"
    if before.shape != now.shape:
        return f"{start}: {list(before.shape)} logits then, {list(now.shape)} now. All is measured anew"
    moved = ((_change(before, now) > TOLERANCE) | (before.isfinite() != now.isfinite())).any(1)
    row = int(moved.nonzero()[0])
    place = int(_change(before, now)[row].argmax())
    return (
        f"{start}: the logits of {int(moved.sum())} of {len(now)} fixed examples moved, as of class {place} of example"
        f" {int(_rows_ids(model)[row])} from {before[row, place]:.4g} to {now[row, place]:.4g}."
        f" All is measured anew, the earlier records are kept"
    )
