"""Shared pieces: classifiers with known answers, a tiny tapped network, φ with closed forms, and the real test data."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from gauntlet.attacks import MinimumDistanceAttack
from gauntlet.certificates import Certificate, Certified
from gauntlet.data import Batch
from gauntlet.distances import FeatureDistance
from gauntlet.models import Normalise, TappedClassifier
from gauntlet.threats import L2, Linf


class LinearClassifier(nn.Module):
    """Two logits ±(w·x + bias): class 0 leads by 2 (w·x + bias)."""

    def __init__(self, features, bias=0.0, seed=0, dtype=torch.float32):
        super().__init__()
        weight = torch.randn(features, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        self.weight = nn.Parameter(weight.to(dtype))
        self.bias = nn.Parameter(torch.tensor(bias, dtype=dtype))

    def forward(self, images):
        score = images.flatten(1).to(self.weight) @ self.weight + self.bias
        return torch.stack((score, -score), 1)

    def margin(self, images, labels):
        """The lead of the wrong class, `[N]`: what an attack can make rise by 2 · bound · ‖w‖ of the dual norm."""
        with torch.no_grad():
            logits = self(images)
        return (logits.gather(1, 1 - labels[:, None]) - logits.gather(1, labels[:, None]))[:, 0]


DUALS = {Linf: 1, L2: 2}
"""The dual of the norm that bounds a threat model."""


@dataclass(frozen=True, kw_only=True)
class NearestOfLinear(MinimumDistanceAttack):
    """The nearest point of the other class of a `LinearClassifier`, a little beyond the boundary.

    δ = −(w·x + b) / ‖w‖_q · the unit vector of the norm p along w, with 1/p + 1/q = 1.
    """

    overshoot: float = 1e-6

    def nearest(self, classifier, region, labels, noise):
        weight = classifier.weight.detach()
        unit = weight.sign() if isinstance(self.threat_model, Linf) else weight / weight.norm()
        score = (region.images.flatten(1).to(weight) @ weight + classifier.bias).detach()
        right = (score < 0) == labels.bool()
        step = -(1 + self.overshoot) * score / weight.norm(p=DUALS[type(self.threat_model)])
        return torch.where(right[:, None], step[:, None] * unit, 0).reshape(region.images.shape).to(region.images)


@dataclass(frozen=True, kw_only=True)
class LinearMargin(Certificate):
    """The exact L2 radius of a `LinearClassifier`, |w·x + b| / ‖w‖₂ in float64, rounded down; times a factor.

    A factor above 1 makes it unsound.
    """

    threat_model: L2
    factor: float = 1.0

    def __call__(self, classifier, images, noise):
        weight = classifier.weight.detach().double()
        score = images.double().flatten(1) @ weight + classifier.bias.detach().double()
        radius = score.abs() / weight.norm() * (1 - 1e-12)  # more than the sums were rounded by
        return Certified((score < 0).long(), self.factor * radius, torch.zeros_like(score, dtype=torch.bool))


class Counting(nn.Module):
    """A classifier that writes down how many examples each forward had."""

    def __init__(self, classifier):
        super().__init__()
        self.classifier, self.batches = classifier, []

    def forward(self, images):
        self.batches.append(len(images))
        return self.classifier(images)


class Staged(TappedClassifier):
    """A chain of stages, whose outputs are the feature maps, and a head."""

    def __init__(self, normalise, stages, head):
        network = nn.Sequential(*stages, head)
        super().__init__(normalise, network, [str(i) for i in range(len(stages))])

    @property
    def stages(self):
        return self.network[:-1]

    @property
    def head(self):
        return self.network[-1]


def tapped(channels=3, classes=4, seed=0, activation=nn.ReLU, dtype=torch.float32):
    """A tiny classifier with two taps, for images of any size from 2×2 on, in eval mode."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        stages = [
            nn.Sequential(nn.Conv2d(channels, 6, 3, padding=1), activation()),
            nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(6, 8, 3, padding=1), activation()),
        ]
        head = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, classes))
        normalise = Normalise([0.45, 0.5, 0.55][:channels], [0.25, 0.2, 0.3][:channels])
        network = Staged(normalise, stages, head)
    return network.to(dtype).eval()


def random_images(*shape, seed=0, dtype=torch.float32):
    """Uniform in [0, 1]."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def batch_of(images):
    """The images as a batch: every label 0, ids from 0 on."""
    ids = torch.arange(len(images), device=images.device)
    return Batch(images, torch.zeros_like(ids), ids)


def predictions(classifier, images):
    """The classes of the images, in the dtype they have."""
    with torch.no_grad():
        return classifier(images).argmax(1)


def numpy_distance(network, images, others):
    """‖φ(x) − φ(x')‖₂ from the network's feature maps, by Laidlaw et al. 2021, §3, in float64 numpy."""

    def phi(batch):
        with torch.no_grad():
            maps = [layer.double().numpy() for layer in network.features(batch)]
        parts = []
        for layer in maps:
            length = np.sqrt((layer**2).sum(1, keepdims=True)) + 1e-10
            parts.append(
                (layer / (length * np.sqrt(layer.shape[2] * layer.shape[3]))).reshape(
                    len(layer), int(np.prod(layer.shape[1:]))
                )
            )
        return np.concatenate(parts, 1)

    return np.sqrt(((phi(images) - phi(others)) ** 2).sum(1))


class Circle(nn.Module):
    """A tapped network whose φ walks a circle: d(x, x') = √mean(4 sin²(k (x − x')/2)) over the pixels."""

    def __init__(self, frequency=1.0):
        super().__init__()
        self.frequency = nn.Parameter(torch.tensor(frequency))

    def features(self, images):
        angle = self.frequency * images[:, :1]
        return (torch.cat((angle.cos(), angle.sin()), 1),)

    def tap(self, images):
        maps = self.features(images)
        return maps, maps[0].mean((2, 3))

    def forward(self, images):
        return self.tap(images)[1]


@dataclass(frozen=True)
class Ellipsoid(FeatureDistance):
    """A linear φ(x) = A x, for which the perceptual ball is the ellipsoid ‖A δ‖ ≤ bound."""

    matrix: torch.Tensor
    name = "ellipsoid"

    def bind(self, classifier):
        return self

    def embed(self, images):
        return ((images.flatten(1) @ self.matrix.T)[:, :, None, None],)


def shared_data(*parts):
    """A file or folder of the optional test data; the test is skipped where it is absent."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    path = Path(os.environ.get("GAUNTLET_TEST_DATA", beside)).joinpath(*parts)
    if not path.exists():
        pytest.skip(f"no {'/'.join(parts)} in the test data: set GAUNTLET_TEST_DATA to the folder that has it")
    return path


def imagenet_alexnet_features():
    """Torchvision's ImageNet AlexNet features by torchvision's names, as tensors."""
    with np.load(shared_data("weights", "lpips", "alexnet_features_torchvision_v1.npz")) as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


def photographs(count, size):
    """`[count, 3, size, size]` centre crops of real photographs in [0, 1]."""
    from PIL import Image

    files = sorted(shared_data("imagenet", "nips17_ccby", "images").iterdir())[:count]
    crops = []
    for file in files:
        with Image.open(file) as picture:
            pixels = np.asarray(picture.convert("RGB"), dtype=np.float32) / 255
        top, left = (pixels.shape[0] - size) // 2, (pixels.shape[1] - size) // 2
        crops.append(torch.from_numpy(pixels[top : top + size, left : left + size].transpose(2, 0, 1).copy()))
    return torch.stack(crops)


def subsampled(images):
    """What 4:2:0 chroma leaves of `[N, 1 or 3, H, W]` images, in float64 numpy: brightness per pixel, colour per 2×2.

    Beyond an odd edge the last row and column go on.
    """
    x = images.double().numpy()
    if x.shape[1] == 1:
        return images
    height, width = x.shape[2:]
    x = np.pad(x, ((0, 0), (0, 0), (0, height % 2), (0, width % 2)), mode="edge")
    y = np.einsum("c,nchw->nhw", [0.299, 0.587, 0.114], x)
    colours = []
    for channel, weight in ((2, 0.564), (0, 0.713)):
        difference = weight * (x[:, channel] - y)
        pooled = sum(difference[:, i::2, j::2] for i in (0, 1) for j in (0, 1)) / 4
        colours.append(pooled.repeat(2, 1).repeat(2, 2))
    blue, red = colours[0] / 0.564, colours[1] / 0.713
    green = (-0.114 * blue - 0.299 * red) / 0.587
    rgb = np.stack((y + red, y + green, y + blue), 1)[:, :, :height, :width]
    return torch.from_numpy(rgb.clip(0, 1)).to(images.dtype)
