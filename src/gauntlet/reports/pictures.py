"""Adversarial examples one can look at: clean, adversarial, and the difference, magnified."""

from __future__ import annotations

import io
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from gauntlet.data import Batch
from gauntlet.errors import AttackFailed
from gauntlet.evaluation import AttackSuite, Grid, ModelUnderTest, Plan
from gauntlet.evaluation.verification import device_of, images_of
from gauntlet.files import write_atomically
from gauntlet.models import logits_of
from gauntlet.scopes import evaluating, exact

Row = tuple[str, Tensor, list[str]]
_CELL, _LEFT, _TOP = 96, 150, 16


def draw_examples(
    model: ModelUnderTest, suite: AttackSuite, grid: Grid, plan: Plan, file: Path, count: int = 8
) -> None:
    """A sheet of the first test examples the classifier gets right, as every entry of a suite shows them."""
    batch = _right_ones(model, count)
    rows: list[Row] = []
    for name in _worth_a_picture(suite, plan):
        try:
            images, predictions = _under(model, grid, name, suite, batch)
        except (AttackFailed, torch.OutOfMemoryError):  # said when it was measured; a picture is no reason to end
            continue
        captions = captions_of(batch.labels, predictions)
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


def attacked_rows(name: str, clean: Tensor, images: Tensor, captions: list[str]) -> list[Row]:
    """The images, and how they differ from the clean ones, where they do: magnified by what is typical."""
    change = images - clean
    if not change.abs().amax() > 0:
        return [(name, images, captions)]
    times = max(1.0, min(20.0, 0.5 / float(change.abs().flatten().quantile(0.98).clamp(min=1e-3))))
    return [
        (name, images, captions),
        (f"difference x {times:.0f}", (change * times + 0.5).clamp(0, 1), [""] * len(images)),
    ]


def _right_ones(model: ModelUnderTest, count: int) -> Batch:
    some = model.examples[slice(0, 8 * count)]
    device = device_of(model.classifier)
    with torch.no_grad(), evaluating(model.classifier), exact():
        right = (logits_of(model.classifier, some.images.to(device)).argmax(1).cpu() == some.labels).nonzero()[:, 0]
    chosen = right[:count] if len(right) else torch.arange(min(count, len(some.labels)))
    return some.rows(chosen)


def _under(model: ModelUnderTest, grid: Grid, name: str, suite: AttackSuite, batch: Batch) -> tuple[Tensor, Tensor]:
    entry, on = suite.attacks[name], batch.to(device_of(model.classifier))
    images = images_of(entry, model.classifier, on, grid.noise(entry, on))
    assert images is not None
    with exact(), torch.no_grad(), evaluating(model.classifier):
        return images.cpu(), logits_of(model.classifier, images).argmax(1).cpu()


def captions_of(labels: Tensor, predictions: Tensor) -> list[str]:
    """`3` where the classifier is right, `3 -> 5` where it is not."""
    pairs = zip(labels.tolist(), predictions.tolist(), strict=True)
    return [f"{label}" if label == prediction else f"{label} -> {prediction}" for label, prediction in pairs]


def sheet(rows: list[Row]) -> bytes:
    """A PNG with a line of pictures per row: its name, `[N, C, H, W]` images in [0, 1], a caption for each."""
    height = _CELL + _TOP
    sheet = Image.new("RGB", (_LEFT + rows[0][1].shape[0] * _CELL, len(rows) * height), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for i, (name, images, captions) in enumerate(rows):
        draw.text((6, i * height + _TOP + _CELL // 2 - 8), name, fill="black", font=font)
        for j, (image, caption) in enumerate(zip(images, captions, strict=True)):
            corner = (_LEFT + j * _CELL, i * height)
            draw.text((corner[0] + 4, corner[1]), caption, fill="#b00000" if ">" in caption else "black", font=font)
            sheet.paste(_picture(image), (corner[0] + 1, corner[1] + _TOP))
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    return buffer.getvalue()


def _picture(image: Tensor) -> Image.Image:
    pixels = (image.expand(3, -1, -1) if len(image) == 1 else image).permute(1, 2, 0).mul(255).round().byte().numpy()
    return Image.fromarray(pixels).resize((_CELL - 2, _CELL - 2), Image.Resampling.NEAREST)
