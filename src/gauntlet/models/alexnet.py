"""AlexNet, the perceptual network of the PAT paper, for ImageNet-sized and for CIFAR-sized images.

φ is read after the ReLU of each of the five convolutions; a pool precedes the convolution that reads it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torchvision.models
from torch import nn

from gauntlet.models.taps import IMAGENET_MEAN, IMAGENET_STD, Normalise, TappedClassifier

_RELUS = ("features.1", "features.4", "features.7", "features.9", "features.11")


def alexnet(
    classes: int = 1000, mean: Sequence[float] = IMAGENET_MEAN, std: Sequence[float] = IMAGENET_STD
) -> TappedClassifier:
    """Torchvision's AlexNet without pretrained weights. Images of at least 63×63 for the head, 31×31 for φ."""
    return TappedClassifier(Normalise(mean, std), torchvision.models.alexnet(weights=None, num_classes=classes), _RELUS)


def alexnet_cifar(
    classes: int, mean: Sequence[float] = IMAGENET_MEAN, std: Sequence[float] = IMAGENET_STD
) -> TappedClassifier:
    """The paper's AlexNet for 32×32 images: 43,008 features, 23 million parameters.

    Initialised for ReLUs as in He et al. 2015 (arXiv:1502.01852, eq. 10): without batch norm, torch's smaller initial
    weights keep it at chance for hundreds of steps.
    """
    features = nn.Sequential(
        *_convolution(3, 64, stride=2),
        nn.MaxPool2d(2),
        *_convolution(64, 192),
        nn.MaxPool2d(2),
        *_convolution(192, 384),
        *_convolution(384, 256),
        *_convolution(256, 256),
        nn.MaxPool2d(2),
    )
    head = nn.Sequential(*_fully_connected(256 * 2 * 2, 4096), *_fully_connected(4096, 4096), nn.Linear(4096, classes))
    network = nn.Sequential(OrderedDict(features=features, flatten=nn.Flatten(), classifier=head))
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
    return TappedClassifier(Normalise(mean, std), network, _RELUS)


def _convolution(inputs: int, outputs: int, stride: int = 1) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(inputs, outputs, 3, stride, padding=1), nn.ReLU(inplace=True)


def _fully_connected(inputs: int, outputs: int) -> tuple[nn.Module, nn.Module, nn.Module]:
    return nn.Dropout(0.5), nn.Linear(inputs, outputs), nn.ReLU(inplace=True)
