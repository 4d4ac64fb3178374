"""Check that a classifier still computes what it computed when it was measured, by its logits of 32 fixed examples.

The identity of a classifier describes its parts. The logits show what it computes: they are stored beside the records,
and are computed again and compared whenever records may be reused.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import torch
from filelock import FileLock
from safetensors.torch import load, save
from torch import Tensor

from gauntlet.descriptions import digest
from gauntlet.evaluation.verification import ModelUnderTest, device_of
from gauntlet.files import read_json, write_atomically
from gauntlet.scopes import evaluating, exact

_EXAMPLES = 32
_GROUPS = 16  # whose verdicts are kept
TOLERANCE = 1e-3
"""Largest accepted change of a logit, relative to the example's largest logit: hardware and batch size change it."""


def recognised(model: ModelUnderTest, root: Path, group: str | None = None) -> ModelUnderTest:
    """Return the model with the number of the measurement whose records may be reused.

    The first classifier with an identity has number 0. A classifier with the same identity and other logits gets the
    next number, and so folders of its own, and a line that says so is printed; earlier records are kept. A classifier
    whose logits differ between two passes cannot be compared and has number 0.

    Args:
        model: the classifier and the examples.
        root: `records/` of the run folder.
        group: what processes that were started together have in common. The first of them to arrive compares, and the
            others use its result, as different processors may round differently. None compares.
    """
    if not len(model.examples):
        return model
    key = _key(model)
    if group is None or not _writable(root):
        return replace(model, measurement=_compared(model, root, key))
    with FileLock(root / f".verdict-{key}.lock"):
        file = root / f".verdict-{key}.json"
        verdicts: dict[str, int] = read_json(file) if file.exists() else {}
        if group not in verdicts:
            verdicts[group] = _compared(model, root, key)
            write_atomically(file, json.dumps(dict(list(verdicts.items())[-_GROUPS:])) + "\n")
    return replace(model, measurement=verdicts[group])


def looked_up(model: ModelUnderTest, root: Path) -> ModelUnderTest:
    """As `recognised`, and nothing is written."""
    if not len(model.examples) or (logits := _repeatable(model)) is None:
        return model
    return replace(model, measurement=_number(root, _key(model), logits)[0])


def _compared(model: ModelUnderTest, root: Path, key: str) -> int:
    """The number of these logits, which are kept if they are new; says so where others were kept before."""
    if (logits := _repeatable(model)) is None:
        return 0
    number, _ = _number(root, key, logits)
    if _file(root, key, number).exists():  # nothing to write, so that a folder may be read-only
        return number
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / f".logits-{key}.lock"):
        number, nearest = _number(root, key, logits)
        file = _file(root, key, number)
        if not file.exists():
            write_atomically(file, save({"logits": logits, "example_id": _rows_ids(model)}))
            if nearest is not None:
                print(_changed(model, nearest, logits), flush=True)
    return number


def _repeatable(model: ModelUnderTest) -> Tensor | None:
    """The logits of the fixed examples, `[N, K]`; None where the classifier gives others when it is asked again."""
    logits = _logits(model)
    return logits if _same(logits, _logits(model)) else None


def _key(model: ModelUnderTest) -> str:
    return digest([model.description, model.checkpoint, model.fingerprint])[:12]


def _writable(root: Path) -> bool:
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(root, os.W_OK)


def _number(root: Path, key: str, logits: Tensor) -> tuple[int, Tensor | None]:
    """Return the number under which these logits are stored, or the next free one, and the logits read last."""
    number = 0
    stored = None
    while (file := _file(root, key, number)).exists():
        stored = load(file.read_bytes())["logits"]
        if _same(stored, logits):
            return number, stored
        number += 1
    return number, stored


def _file(root: Path, key: str, number: int) -> Path:
    return root / f"logits-{key}-{number}.safetensors"


def _rows(model: ModelUnderTest) -> Tensor:
    """Rows of the fixed examples, evenly spaced over the whole test split."""
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
    """Whether two tables of logits are equal up to rounding, with −inf, inf and NaN at the same positions."""
    if one.shape != other.shape:
        return False
    finite = one.isfinite() & other.isfinite()
    same_special = torch.where(finite, True, (one == other) | (one.isnan() & other.isnan()))
    return bool(same_special.all()) and bool((_change(one, other) <= TOLERANCE).all())


def _change(one: Tensor, other: Tensor) -> Tensor:
    """The difference of each logit relative to the example's largest logit, `[N, K]`."""
    finite = one.isfinite() & other.isfinite()
    change = torch.where(finite, (one - other).abs(), 0.0)
    scale = torch.where(finite, torch.maximum(one.abs(), other.abs()), 0.0).amax(1, keepdim=True)
    return change / scale.clamp(min=1e-12)


def _changed(model: ModelUnderTest, before: Tensor, now: Tensor) -> str:
    """Describe in one line which logits changed."""
    start = "this classifier computes other logits than the one that was measured, although their parts are equal"
    if before.shape != now.shape:
        return f"{start}: shape {list(before.shape)} before, {list(now.shape)} now. All is measured anew"
    changed = ((_change(before, now) > TOLERANCE) | (before.isfinite() != now.isfinite())).any(1)
    row = int(changed.nonzero()[0])
    column = int(_change(before, now)[row].argmax())
    return (
        f"{start}: the logits of {int(changed.sum())} of {len(now)} fixed examples changed, for example class {column}"
        f" of example {int(_rows_ids(model)[row])} from {before[row, column]:.4g} to {now[row, column]:.4g}."
        f" All is measured anew, the earlier records are kept"
    )
