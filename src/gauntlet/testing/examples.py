"""The default classifiers and images of the checks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gauntlet.data import Batch
from gauntlet.models import classifier as tapped_classifier
from gauntlet.models import linear, logits_of
from gauntlet.threats import L1, L2, Linf

DUAL_NORMS: dict[type, float] = {Linf: 1.0, L2: 2.0, L1: float("inf")}
"""By threat model, the order of the norm that is dual to its own."""
_SHAPE = (3, 6, 6)
_CLASSES = 5
_MEAN, _STD = [0.5] * 3, [0.25] * 3


class _Network(nn.Module):
    """Two convolutions with batch norms, a dropout and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(6, 8, 3, padding=1, stride=2), nn.BatchNorm2d(8), nn.ReLU())
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Linear(8, _CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.dropout(self.second(self.first(images)).mean((2, 3))))
        return logits


def small_classifier() -> nn.Module:
    """A convolutional classifier of `[3, 6, 6]` images with taps, in float64 and eval mode; 5 classes."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = _Network()
    with torch.no_grad():
        network.head.weight.mul_(10)  # so that attacks succeed on some examples only
    return tapped_classifier(network, _MEAN, _STD, taps=["first", "second"]).double().eval()


def linear_classifier(classes: int = 3) -> nn.Module:
    """A linear classifier of `[3, 6, 6]` images, in float64 and eval mode; gray images are near its boundaries."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = linear(classes, _SHAPE, _MEAN, _STD)
    return network.double().eval()


def some_images(count: int = 6, low: float = 0.0, high: float = 1.0) -> Tensor:
    """`[count, 3, 6, 6]` float64 images in [0, 1], uniform in [low, high] and clamped."""
    uniform = torch.rand(count, *_SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return (low + (high - low) * uniform).clamp(0, 1)


def predicted_batch(classifier: nn.Module, images: Tensor) -> Batch:
    """A batch of images with the predictions of a classifier in eval mode as labels, and ids from 100 on."""
    with torch.no_grad():
        labels = logits_of(classifier, images).argmax(1)
    return Batch(images, labels, torch.arange(len(images), device=images.device) + 100)


def linear_margins(classifier: nn.Module, images: Tensor, dual: float) -> Tensor:
    """The distance of each image to another class of a linear classifier without the box [0, 1], `[N]` float64.

    The smallest ratio of the logit difference to another class and the dual norm of the difference of weights.

    Args:
        classifier: linear in the images.
        images: `[N, C, H, W]`.
        dual: q of the dual norm, 1/p + 1/q = 1: 1 for L∞, 2 for L2, inf for L1.
    """
    weight = torch.autograd.functional.jacobian(lambda image: classifier(image)[0], images[:1]).flatten(1).double()
    with torch.no_grad():
        logits = classifier(images).double()
    best, prediction = logits.max(1)
    differences = best[:, None] - logits
    dual_norms = torch.linalg.vector_norm(weight[prediction][:, None] - weight[None], ord=dual, dim=2)
    distances = torch.where(dual_norms > 0, differences / dual_norms, torch.inf)
    return distances.scatter(1, prediction[:, None], torch.inf).amin(1)
