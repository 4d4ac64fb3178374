"""Adversarial examples one can look at: clean, adversarial, and the difference, magnified."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from gauntlet.data import Batch
from gauntlet.errors import AttackFailed
from gauntlet.evaluation import AttackSuite, Grid, ModelUnderTest, Plan
from gauntlet.evaluation.verification import device_of, images_of
from gauntlet.files import write_atomically
from gauntlet.picture_sheet import Row, attacked_rows, sheet
from gauntlet.scopes import evaluating, exact


def draw_examples(
    model: ModelUnderTest, suite: AttackSuite, grid: Grid, plan: Plan, file: Path, count: int = 8
) -> None:
    """A sheet of the first test examples the classifier gets right, as every entry of a suite shows them."""
    batch = _right_ones(model, count)
    rows: list[Row] = []
    for name in _worth_a_picture(suite, plan):
        try:
            images, captions = _under(model, grid, name, suite, batch)
        except (AttackFailed, torch.OutOfMemoryError):  # said when it was measured; a picture is no reason to end
            continue
        rows += attacked_rows(name, batch.images, images, captions)
    write_atomically(file, sheet(rows))


def _worth_a_picture(suite: AttackSuite, plan: Plan) -> list[str]:
    """Every attack and transform; of the entries that a column stands for, the middle one shows enough."""
    middle: set[str] = set()
    replaced: set[str] = set()
    for result in plan.results.values():
        replaced |= set(result.replaces)
        if result.replaces:
            middle |= {column.members[len(column.members) // 2] for column in result.columns.values()}
    return [name for name in suite.attacks if name not in replaced or name in middle]


def _right_ones(model: ModelUnderTest, count: int) -> Batch:
    some = model.examples[slice(0, 8 * count)]
    with evaluating(model.classifier), exact():
        outputs = model.outputs(some.images.to(device_of(model.classifier))).cpu()
    right = (model.task.score(outputs, some.labels.cpu()) == 1).nonzero()[:, 0]
    chosen = right[:count] if len(right) else torch.arange(min(count, len(some.labels)))
    return some.rows(chosen)


def _under(model: ModelUnderTest, grid: Grid, name: str, suite: AttackSuite, batch: Batch) -> tuple[Tensor, list[str]]:
    entry, on = suite.attacks[name], batch.to(device_of(model.classifier))
    images = images_of(entry, model.classifier, on, grid.noise(entry, on))
    assert images is not None
    with exact(), evaluating(model.classifier):
        return images.cpu(), model.task.captions(model.outputs(images), on.labels)
