"""A sheet of pictures as PNG: rows of images with a name and a caption each."""

from __future__ import annotations

import io

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

Row = tuple[str, Tensor, list[str]]
"""A name, `[N, C, H, W]` images in [0, 1], and a caption for each."""
_CELL, _LEFT, _TOP = 96, 150, 16  # pixels


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
