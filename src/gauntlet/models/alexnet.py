"""AlexNet, the perceptual network of the PAT paper, for ImageNet-sized and for CIFAR-sized images.

φ is read after the ReLU of each of the five convolutions; the pools stand before the convolution they feed.
"""

from __future__ import annotations

from collections.abc import Sequence

import torchvision.models
from torch import nn

from gauntlet.models.staged import Normalise, Staged

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
_CUTS = (2, 5, 8, 10, 12)  # in torchvision's `features`: one past each ReLU; what is left is the last pool


def alexnet(classes: int = 1000, mean: Sequence[float] = IMAGENET_MEAN, std: Sequence[float] = IMAGENET_STD) -> Staged:
    """Torchvision's AlexNet, uninitialised by any download. Images of at least 63×63 for the head, 31×31 for φ."""
    network = torchvision.models.alexnet(weights=None, num_classes=classes)
    stages = [network.features[start:end] for start, end in zip((0, *_CUTS), _CUTS, strict=False)]
    head = nn.Sequential(network.features[_CUTS[-1] :], network.avgpool, nn.Flatten(), network.classifier)
    return Staged(Normalise(mean, std), stages, head)


def alexnet_cifar(classes: int, mean: Sequence[float] = IMAGENET_MEAN, std: Sequence[float] = IMAGENET_STD) -> Staged:
    """The paper's AlexNet for 32×32 images: 43,008 features, 23 million parameters."""
    stages = [
        _convolution(3, 64, stride=2),
        nn.Sequential(nn.MaxPool2d(2), *_convolution(64, 192)),
        nn.Sequential(nn.MaxPool2d(2), *_convolution(192, 384)),
        _convolution(384, 256),
        _convolution(256, 256),
    ]
    head = nn.Sequential(
        nn.MaxPool2d(2),
        nn.Flatten(),
        *_fully_connected(256 * 2 * 2, 4096),
        *_fully_connected(4096, 4096),
        nn.Linear(4096, classes),
    )
    return Staged(Normalise(mean, std), stages, head)


def _convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, padding=1), nn.ReLU())


def _fully_connected(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Dropout(0.5), nn.Linear(inputs, outputs), nn.ReLU())
