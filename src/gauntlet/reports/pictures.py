"""Draw adversarial examples: the clean image, the adversarial image, and the magnified difference."""

from __future__ import annotations

import io
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from gauntlet.attacks import Attack
from gauntlet.data import Batch
from gauntlet.errors import AttackFailed
from gauntlet.evaluation import AttackSuite, Grid, ModelUnderTest, Plan
from gauntlet.evaluation.verification import device_of, images_of
from gauntlet.files import write_atomically
from gauntlet.models import logits_of
from gauntlet.scopes import evaluating, exact
from gauntlet.transforms import Transform

Row = tuple[str, Tensor, list[str]]
_CELL, _LEFT, _TOP = 96, 150, 16


def draw_examples(
    model: ModelUnderTest, suite: AttackSuite, grid: Grid, plan: Plan, file: Path, count: int = 8
) -> None:
    """Draw the first correctly classified test examples under every entry of a suite into one file."""
    batch = _correct_examples(model, count)
    rows: list[Row] = []
    for name in _drawn_entries(suite, plan):
        try:
            images, predictions = _images_under(suite.attacks[name], model, grid, batch)
        except (AttackFailed, torch.OutOfMemoryError):  # already reported when it was measured
            continue
        captions = captions_of(batch.labels, predictions)
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


def attacked_rows(name: str, clean: Tensor, images: Tensor, captions: list[str]) -> list[Row]:
    """Return a row of images, and a row of differences from the clean images, if any, scaled to be visible."""
    change = images - clean
    if not change.abs().amax() > 0:
        return [(name, images, captions)]
    scale = max(1.0, min(20.0, 0.5 / float(change.abs().flatten().quantile(0.98).clamp(min=1e-3))))
    return [
        (name, images, captions),
        (f"difference x {scale:.0f}", (change * scale + 0.5).clamp(0, 1), [""] * len(images)),
    ]


def _correct_examples(model: ModelUnderTest, count: int) -> Batch:
    some = model.examples[slice(0, 8 * count)]
    device = device_of(model.classifier)
    with torch.no_grad(), evaluating(model.classifier), exact():
        right = (logits_of(model.classifier, some.images.to(device)).argmax(1).cpu() == some.labels).nonzero()[:, 0]
    chosen = right[:count] if len(right) else torch.arange(min(count, len(some.labels)))
    return some.rows(chosen)


def _images_under(entry: Attack | Transform, model: ModelUnderTest, grid: Grid, batch: Batch) -> tuple[Tensor, Tensor]:
    batch = batch.to(device_of(model.classifier))
    images = images_of(entry, model.classifier, batch, grid.noise(entry, batch))
    assert images is not None
    with exact(), torch.no_grad(), evaluating(model.classifier):
        return images.cpu(), logits_of(model.classifier, images).argmax(1).cpu()


def captions_of(labels: Tensor, predictions: Tensor) -> list[str]:
    """Return `3` if the classifier is right, `3 -> 5` if it is not, for each example."""
    pairs = zip(labels.tolist(), predictions.tolist(), strict=True)
    return [f"{label}" if label == prediction else f"{label} -> {prediction}" for label, prediction in pairs]


def sheet(rows: list[Row]) -> bytes:
    """Return a PNG with a line of pictures per row: its name, `[N, C, H, W]` images in [0, 1], a caption for each."""
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
