"""Residual networks (He et al., "Deep residual learning for image recognition", CVPR 2016)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn
from torchvision.models.resnet import BasicBlock

from gauntlet.models.staged import Normalise, Staged


def small_resnet(classes: int, mean: Sequence[float], std: Sequence[float], width: int = 16, blocks: int = 1) -> Staged:
    """Three stages of basic blocks behind a stride-2 stem: quick on a laptop, and tapped like its big sisters.

    Args:
        classes: number of logits, K.
        mean: per channel, in [0, 1]; as many as the images have channels.
        std: per channel, in [0, 1].
        width: channels of the first stage; the second has twice, the third four times as many.
        blocks: basic blocks per stage.
    """
    stem = nn.Sequential(
        nn.Conv2d(len(mean), width, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)
    )
    stages = [
        nn.Sequential(stem, _stage(width, width, 1, blocks)),
        _stage(width, 2 * width, 2, blocks),
        _stage(2 * width, 4 * width, 2, blocks),
    ]
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4 * width, classes))
    return Staged(Normalise(mean, std), stages, head)


def _stage(inputs: int, outputs: int, stride: int, blocks: int) -> nn.Sequential:
    shortcut = None
    if stride != 1 or inputs != outputs:
        shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
    first = BasicBlock(inputs, outputs, stride, shortcut)
    return nn.Sequential(first, *(BasicBlock(outputs, outputs) for _ in range(blocks - 1)))
