"""The pre-activation ResNet-18 of Jin and Rinard (He et al., "Identity mappings in deep residual networks", ECCV 2016).

As in their public code: the stem is activated, too, and the output of the last block is pooled without a batch norm.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn

from gauntlet.models.resnet import CIFAR_MEAN, CIFAR_STD
from gauntlet.models.taps import Normalise, TappedClassifier

_STAGES = ("layer1", "layer2", "layer3", "layer4")


def preact_resnet18(
    classes: int, mean: Sequence[float] = CIFAR_MEAN, std: Sequence[float] = CIFAR_STD, width: int = 64
) -> TappedClassifier:
    """PreAct-ResNet-18 for images of about 32×32. φ is read at the end of every stage.

    Args:
        classes: number of logits, K.
        mean: per channel, in [0, 1]; as many as the images have channels.
        std: per channel, in [0, 1].
        width: channels of the first stage; every later one has twice as many.
    """
    widths = [width * factor for factor in (1, 2, 4, 8)]
    stages = {
        name: nn.Sequential(_Block(inputs, outputs, stride), _Block(outputs, outputs, 1))
        for name, inputs, outputs, stride in zip(_STAGES, [width, *widths], widths, (1, 2, 2, 2), strict=False)
    }
    network = nn.Sequential(
        OrderedDict(
            conv1=_convolution(len(mean), width),
            bn1=nn.BatchNorm2d(width),
            relu=nn.ReLU(inplace=True),
            **stages,
            avgpool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            fc=nn.Linear(widths[-1], classes),
        )
    )
    return TappedClassifier(Normalise(mean, std), network, _STAGES)


class _Block(nn.Module):
    """x + F(x), activated before each convolution; both shortcuts, projection and identity, read the activated x."""

    identity: ClassVar[str] = "preact_block/1"

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(inputs), _convolution(inputs, outputs, stride)
        self.bn2, self.conv2 = nn.BatchNorm2d(outputs), _convolution(outputs, outputs)
        projection = [nn.Conv2d(inputs, outputs, 1, stride, bias=False)] if stride != 1 or inputs != outputs else []
        self.shortcut = nn.Sequential(*projection)

    def forward(self, maps: Tensor) -> Tensor:
        active = self.bn1(maps).relu()
        change: Tensor = self.conv2(self.bn2(self.conv1(active)).relu())
        return change + self.shortcut(active)


def _convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
