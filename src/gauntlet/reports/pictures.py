"""Draw adversarial examples: the clean image, the adversarial image, and the magnified difference."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from gauntlet.attacks import Attack
from gauntlet.data import Batch
from gauntlet.errors import AttackFailed
from gauntlet.evaluation import AttackSuite, Grid, ModelUnderTest, Plan
from gauntlet.evaluation.verification import device_of, images_of
from gauntlet.files import write_atomically
from gauntlet.picture_sheet import Row, attacked_rows, sheet
from gauntlet.scopes import evaluating, exact
from gauntlet.transforms import Transform


def draw_examples(
    model: ModelUnderTest, suite: AttackSuite, grid: Grid, plan: Plan, file: Path, count: int = 8
) -> None:
    """Draw the first correctly classified test examples under every entry of a suite into one file."""
    batch = _correct_examples(model, count)
    rows: list[Row] = []
    for name in _drawn_entries(suite, plan):
        try:
            images, captions = _images_under(suite.attacks[name], model, grid, batch)
        except (AttackFailed, torch.OutOfMemoryError):  # already reported when it was measured
            continue
        rows += attacked_rows(name, batch.images, images, captions)
    write_atomically(file, sheet(rows))


def _drawn_entries(suite: AttackSuite, plan: Plan) -> list[str]:
    """Every attack and transform; of entries that an aggregate replaces, only the middle one of each column."""
    middle: set[str] = set()
    replaced: set[str] = set()
    for result in plan.results.values():
        replaced |= set(result.replaces)
        if result.replaces:
            middle |= {column.members[len(column.members) // 2] for column in result.columns.values()}
    return [name for name in suite.attacks if name not in replaced or name in middle]


def _correct_examples(model: ModelUnderTest, count: int) -> Batch:
    some = model.examples[slice(0, 8 * count)]
    with evaluating(model.classifier), exact():
        outputs = model.outputs(some.images.to(device_of(model.classifier))).cpu()
    right = (model.task.score(outputs, some.labels.cpu()) == 1).nonzero()[:, 0]
    chosen = right[:count] if len(right) else torch.arange(min(count, len(some.labels)))
    return some.rows(chosen)


def _images_under(
    entry: Attack | Transform, model: ModelUnderTest, grid: Grid, batch: Batch
) -> tuple[Tensor, list[str]]:
    batch = batch.to(device_of(model.classifier))
    images = images_of(entry, model.classifier, batch, grid.noise(entry, batch))
    assert images is not None
    with exact(), evaluating(model.classifier):
        return images.cpu(), model.task.captions(model.outputs(images), batch.labels)
