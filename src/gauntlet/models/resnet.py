"""Residual networks (He et al., "Deep residual learning for image recognition", CVPR 2016).

Submodules have torchvision's names. φ is read at the end of every stage.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import ClassVar

import torchvision.models
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.resnet import BasicBlock

from gauntlet.models.taps import IMAGENET_MEAN, IMAGENET_STD, Normalise, TappedClassifier

CIFAR_MEAN = (0.4914, 0.4822, 0.4465)
CIFAR_STD = (0.2023, 0.1994, 0.2010)
_STAGES = ("layer1", "layer2", "layer3", "layer4")


def resnet18(classes: int, mean: Sequence[float] = CIFAR_MEAN, std: Sequence[float] = CIFAR_STD) -> TappedClassifier:
    """ResNet-18 for images of about 32×32."""
    return _with_small_stem(torchvision.models.resnet18(weights=None, num_classes=classes), mean, std)


def resnet34(classes: int, mean: Sequence[float] = CIFAR_MEAN, std: Sequence[float] = CIFAR_STD) -> TappedClassifier:
    """ResNet-34 for images of about 32×32."""
    return _with_small_stem(torchvision.models.resnet34(weights=None, num_classes=classes), mean, std)


def resnet50(classes: int, mean: Sequence[float] = CIFAR_MEAN, std: Sequence[float] = CIFAR_STD) -> TappedClassifier:
    """ResNet-50 for images of about 32×32, the paper's CIFAR-10 classifier: 491,520 features."""
    return _with_small_stem(torchvision.models.resnet50(weights=None, num_classes=classes), mean, std)


def resnet18_imagenet(
    classes: int, mean: Sequence[float] = IMAGENET_MEAN, std: Sequence[float] = IMAGENET_STD
) -> TappedClassifier:
    """Torchvision's ResNet-18, for images of about 224×224."""
    return _with_large_stem(torchvision.models.resnet18(weights=None, num_classes=classes), mean, std)


def resnet34_imagenet(
    classes: int, mean: Sequence[float] = IMAGENET_MEAN, std: Sequence[float] = IMAGENET_STD
) -> TappedClassifier:
    """Torchvision's ResNet-34, for images of about 224×224."""
    return _with_large_stem(torchvision.models.resnet34(weights=None, num_classes=classes), mean, std)


def resnet50_imagenet(
    classes: int, mean: Sequence[float] = IMAGENET_MEAN, std: Sequence[float] = IMAGENET_STD
) -> TappedClassifier:
    """Torchvision's ResNet-50, the paper's ImageNet-100 classifier: 1,505,280 features of a 224×224 image."""
    return _with_large_stem(torchvision.models.resnet50(weights=None, num_classes=classes), mean, std)


def resnet20(
    classes: int, mean: Sequence[float] = IMAGENET_MEAN, std: Sequence[float] = IMAGENET_STD
) -> TappedClassifier:
    """ResNet-20 of He et al. §4.2: three stages of three blocks, shortcuts without parameters (option A)."""
    return _three_stages(3, classes, mean, std)


def resnet32(
    classes: int, mean: Sequence[float] = IMAGENET_MEAN, std: Sequence[float] = IMAGENET_STD
) -> TappedClassifier:
    """ResNet-32 of He et al. §4.2: three stages of five blocks, shortcuts without parameters (option A)."""
    return _three_stages(5, classes, mean, std)


def small_resnet(
    classes: int, mean: Sequence[float], std: Sequence[float], width: int = 16, blocks: int = 1
) -> TappedClassifier:
    """Three stages of basic blocks behind a stride-2 stem: fast on a laptop, with taps like the others.

    Args:
        classes: number of logits, K.
        mean: per channel, in [0, 1]; as many as the images have channels.
        std: per channel, in [0, 1].
        width: channels of the first stage; the second has twice, the third four times as many.
        blocks: basic blocks per stage.
    """
    network = nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(len(mean), width, 3, stride=2, padding=1, bias=False),
            bn1=nn.BatchNorm2d(width),
            relu=nn.ReLU(inplace=True),
            layer1=_stage(width, width, 1, blocks),
            layer2=_stage(width, 2 * width, 2, blocks),
            layer3=_stage(2 * width, 4 * width, 2, blocks),
            avgpool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            fc=nn.Linear(4 * width, classes),
        )
    )
    return TappedClassifier(Normalise(mean, std), network, _STAGES[:3])


def _with_small_stem(
    network: torchvision.models.ResNet, mean: Sequence[float], std: Sequence[float]
) -> TappedClassifier:
    """A 3×3 stem of stride 1 without a pool, and PyTorch's own initial weights, as in the paper's library."""
    network.conv1 = nn.Conv2d(len(mean), 64, 3, padding=1, bias=False)
    network.maxpool = nn.Identity()
    for part in network.modules():
        if isinstance(part, nn.Conv2d):
            part.reset_parameters()
    return TappedClassifier(Normalise(mean, std), network, _STAGES)


def _with_large_stem(
    network: torchvision.models.ResNet, mean: Sequence[float], std: Sequence[float]
) -> TappedClassifier:
    if len(mean) != 3:
        stem = nn.Conv2d(len(mean), 64, 7, stride=2, padding=3, bias=False)
        nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")
        network.conv1 = stem
    return TappedClassifier(Normalise(mean, std), network, _STAGES)


def _stage(inputs: int, outputs: int, stride: int, blocks: int) -> nn.Sequential:
    shortcut: nn.Module | None = None
    if stride != 1 or inputs != outputs:
        shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
    first = BasicBlock(inputs, outputs, stride, shortcut)
    return nn.Sequential(first, *(BasicBlock(outputs, outputs) for _ in range(blocks - 1)))


class _Widened(nn.Module):
    """Option A of He et al. §3.3: every second position, and channels of zeros on both sides."""

    identity: ClassVar[str] = "widened_shortcut/1"

    def __init__(self, zeros: int) -> None:
        super().__init__()
        self.zeros = zeros

    def forward(self, maps: Tensor) -> Tensor:
        return F.pad(maps[:, :, ::2, ::2], (0, 0, 0, 0, self.zeros, self.zeros))


def _three_stages(blocks: int, classes: int, mean: Sequence[float], std: Sequence[float]) -> TappedClassifier:
    def stage(inputs: int, outputs: int) -> nn.Sequential:
        wider = inputs != outputs
        shortcut = _Widened((outputs - inputs) // 2) if wider else None
        first = BasicBlock(inputs, outputs, 2 if wider else 1, shortcut)
        return nn.Sequential(first, *(BasicBlock(outputs, outputs) for _ in range(blocks - 1)))

    network = nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(len(mean), 16, 3, padding=1, bias=False),
            bn1=nn.BatchNorm2d(16),
            relu=nn.ReLU(inplace=True),
            layer1=stage(16, 16),
            layer2=stage(16, 32),
            layer3=stage(32, 64),
            avgpool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            fc=nn.Linear(64, classes),
        )
    )
    for part in network.modules():
        if isinstance(part, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(part.weight)
    return TappedClassifier(Normalise(mean, std), network, _STAGES[:3])
