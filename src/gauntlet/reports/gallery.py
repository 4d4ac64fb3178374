"""The sheet of adversarial examples that an evaluation drew, small enough for a page of many runs."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import NamedTuple

from PIL import Image, UnidentifiedImageError

_QUALITIES = (90, 75, 60, 45, 30)  # of WebP, tried in turn
_HOPELESS = 2  # budgets: a PNG larger than that fits in no WebP without loss


class Gallery(NamedTuple):
    """A picture inside a page."""

    source: str
    """A `data:` address."""
    width: int
    height: int


def gallery(file: Path, budget: int) -> Gallery | None:
    """A sheet as a picture of at most so many bytes, in as good a quality as that allows.

    Args:
        file: `pictures/<suite>.png` of a run folder.
        budget: bytes.

    Returns:
        None where the file is absent, or no picture.
    """
    try:
        sheet = Image.open(file).convert("RGB")
    except (OSError, UnidentifiedImageError):
        return None
    width, height = sheet.size
    whole = _webp(sheet, lossless=True) if file.stat().st_size < _HOPELESS * budget else b""
    content = whole if 0 < len(whole) <= budget else _smaller(sheet, budget)
    return Gallery(f"data:image/webp;base64,{base64.b64encode(content).decode()}", width, height)


def _smaller(sheet: Image.Image, budget: int) -> bytes:
    """Less quality first, then half the size."""
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
