"""Enlarge coarse fields by matrices, one product per field: independent of the batch size, deterministic on a GPU."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from gauntlet.scopes import exact


def upsampled(field: Tensor, height: int, width: int, mode: Literal["bilinear", "bicubic"]) -> Tensor:
    """`[N, C, h, w]` enlarged to `[N, C, height, width]`, as `interpolate` does without aligned corners."""
    count, channels, rows, columns = field.shape
    with exact():
        down = _weights(rows, height, mode, field).expand(count * channels, -1, -1)
        across = _weights(columns, width, mode, field).T.expand(count * channels, -1, -1)
        planes = field.reshape(count * channels, rows, columns)
        return torch.bmm(torch.bmm(down, planes), across).reshape(count, channels, height, width)


def _weights(count: int, enlarged: int, mode: str, like: Tensor) -> Tensor:
    """How much each of `count` numbers contributes to each of `enlarged`, `[enlarged, count]`."""
    each = torch.eye(count, dtype=torch.float64)[None, None]
    return F.interpolate(each, (enlarged, count), mode=mode, align_corners=False)[0, 0].to(like)
