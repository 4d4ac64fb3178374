"""Whom the benchmark attacks: real CIFAR-10 networks where their files are, else networks trained on digits here."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gauntlet.attacks import PGD, Attack, Last
from gauntlet.data import Digits
from gauntlet.data.cifar10_layouts import find
from gauntlet.distances import LPIPS
from gauntlet.goals import Untargeted
from gauntlet.losses import CrossEntropy
from gauntlet.models import TappedClassifier, imagenet_features, resnet32, small_resnet, with_weights
from gauntlet.models.convert import convert
from gauntlet.scopes import evaluating, exact
from gauntlet.threats import Linf

_TAPS = [f"features.{index}" for index in (1, 4, 7, 9, 11)]
_FILES = {"normal": "normal.resnet32.pt", "robust": "delta.resnet32.pt"}


@dataclass(frozen=True)
class Bounds:
    """Of the threat models of the published suite."""

    linf: float
    l2: float
    stadv: float
    recoloradv: float
    perceptual: float


@dataclass(frozen=True)
class BenchModel:
    """A classifier and what it is shown.

    Args:
        name: as in the table.
        classifier: as `train.py` and `evaluate.py` make it: channels last, in eval mode.
        plain: the same network in torch's own memory layout, as other packages are given it.
        images: `[N, 3, 32, 32]`.
        labels: `[N]`.
        distance: of a network of its own.
        bounds: of the attacks.
    """

    name: str
    classifier: nn.Module
    plain: nn.Module
    images: Tensor
    labels: Tensor
    distance: LPIPS
    bounds: Bounds

    def first(self, count: int) -> tuple[Tensor, Tensor]:
        """The first images and their labels."""
        return self.images[:count], self.labels[:count]

    def robust(self, images: Tensor) -> float:
        """The share of the first images that is still right, in full precision."""
        with torch.no_grad(), exact(), evaluating(self.plain):
            right = self.plain(images).argmax(1) == self.labels[: len(images)]
        return right.float().mean().item()

    def half_robust_bound(self, count: int) -> float:
        """The L∞ bound, in 255ths, under which a PGD of ten steps leaves nearest to half of the first images right."""
        images, labels = self.first(count)
        shares: dict[float, float] = {}
        for step in (1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 24, 32, 48, 64):
            attack = PGD(threat_model=Linf(step / 255), steps=10, step_size=0.25, goal=Untargeted(CrossEntropy()))
            found = attack(self.classifier, images, labels, seeds=torch.arange(len(images), device=images.device))
            shares[step / 255] = self.robust(found.images)
            if shares[step / 255] < 0.5:
                break
        return min(shares, key=lambda bound: abs(shares[bound] - 0.5))


def bench_models(data: Path | None, device: torch.device) -> dict[str, BenchModel]:
    """The networks `normal` and `robust`.

    Args:
        data: a folder with `weights/cifar10_resnet32/{normal,delta}.resnet32.pt` (the ReColorAdv authors'),
            `weights/lpips/alexnet_features_torchvision_v1.npz` and CIFAR-10 in `cifar10/mini`; None trains on digits.
        device: where.
    """
    return dict(_on_digits(device) if data is None else _on_cifar10(data, device))


def _on_cifar10(data: Path, device: torch.device) -> Iterator[tuple[str, BenchModel]]:
    found = find(data / "cifar10" / "mini")
    if found is None:
        raise SystemExit(f"{data} has no cifar10/mini: expected WebP sheets; leave --data out to use digits")
    images = torch.from_numpy(found.test[:, 1:].copy()).reshape(-1, 3, 32, 32).float().div(255).to(device)
    labels = torch.from_numpy(found.test[:, 0].astype("int64")).to(device)
    features = data / "weights" / "lpips" / "alexnet_features_torchvision_v1.npz"
    for name, file in _FILES.items():
        with tempfile.TemporaryDirectory() as folder:
            ours = Path(folder) / "ours.safetensors"
            convert(data / "weights" / "cifar10_resnet32" / file, "resnet32", {"classes": 10}, None, [], ours)
            network = with_weights(resnet32(10), ours)
        distance = LPIPS(imagenet_features("alexnet", _TAPS, features))
        bounds = Bounds(8 / 255, 1.0, 0.05, 0.06, 0.5)
        yield name, _subject(f"ResNet-32, CIFAR-10, {name}", network, images, labels, distance, bounds, device)


def _on_digits(device: torch.device) -> Iterator[tuple[str, BenchModel]]:
    splits = Digits().splits
    seen = splits.train[slice(0, len(splits.train))]
    test = splits.test[slice(0, len(splits.test))]
    images, labels = test.images.to(device), test.labels.to(device)
    train = seen.images.to(device), seen.labels.to(device)
    attack = PGD(threat_model=Linf(0.1), steps=5, step_size=0.4, iterate=Last(), goal=Untargeted(CrossEntropy()))
    distance = LPIPS(_trained(*train, None, seed=2))
    for name, against in (("normal", None), ("robust", attack)):
        network = _trained(*train, against, seed=1)
        bounds = Bounds(0.1, 2.0, 0.1, 0.1, 0.5)
        yield name, _subject(f"small ResNet, digits, {name}", network, images, labels, distance, bounds, device)


def _trained(images: Tensor, labels: Tensor, attack: Attack | None, seed: int) -> TappedClassifier:
    """Six epochs, under attack or not."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = small_resnet(10, [0.305] * 3, [0.342] * 3).to(images.device)
        order = torch.stack([torch.randperm(len(images)) for _ in range(6)]).to(images.device)
    network.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    for rows in order.flatten().split(50):
        batch = images[rows]
        if attack is not None:
            batch = attack(network.eval(), batch, labels[rows], seeds=rows).images
        optimizer.zero_grad()
        F.cross_entropy(network.train()(batch), labels[rows]).backward()
        optimizer.step()
    return network.eval()


def _subject(
    name: str,
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    distance: LPIPS,
    bounds: Bounds,
    device: torch.device,
) -> BenchModel:
    network = network.to(device).eval()
    plain = copy.deepcopy(network).to(memory_format=torch.contiguous_format)
    fast = copy.deepcopy(network).to(memory_format=torch.channels_last)
    return BenchModel(name, fast, plain, images, labels, distance, bounds)
