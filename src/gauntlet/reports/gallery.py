"""Embed the sheet of adversarial examples into a page, compressed to a budget of bytes."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import NamedTuple

from PIL import Image, UnidentifiedImageError

_QUALITIES = (90, 75, 60, 45, 30)  # of WebP, tried in this order
_MAX_LOSSLESS = 2  # budgets: a larger PNG does not fit as lossless WebP


class Gallery(NamedTuple):
    """A picture embedded in a page."""

    source: str
    """A `data:` URL."""
    width: int
    height: int


def gallery(file: Path, budget: int) -> Gallery | None:
    """Return a sheet as a picture of at most `budget` bytes, in the best quality that fits.

    Args:
        file: `pictures/<suite>.png` of a run folder.
        budget: size in bytes.

    Returns:
        None if the file is missing or is no picture.
    """
    try:
        sheet = Image.open(file).convert("RGB")
    except (OSError, UnidentifiedImageError):
        return None
    width, height = sheet.size
    lossless = _webp(sheet, lossless=True) if file.stat().st_size < _MAX_LOSSLESS * budget else b""
    content = lossless if 0 < len(lossless) <= budget else _smaller(sheet, budget)
    return Gallery(f"data:image/webp;base64,{base64.b64encode(content).decode()}", width, height)


def _smaller(sheet: Image.Image, budget: int) -> bytes:
    """Compress with less quality, then at half the size."""
    content = b""
    for quality in _QUALITIES:
        content = _webp(sheet, quality=quality)
        if len(content) <= budget:
            return content
    half = (sheet.width // 2, sheet.height // 2)
    return _smaller(sheet.resize(half, Image.Resampling.BOX), budget) if min(half) > 8 else content


def _webp(sheet: Image.Image, quality: int = 75, lossless: bool = False) -> bytes:
    buffer = io.BytesIO()
    sheet.save(buffer, "WEBP", quality=quality, lossless=lossless)
    return buffer.getvalue()
