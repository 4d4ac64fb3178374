"""Networks of the benchmark: real CIFAR-10 networks from files, or networks trained on digits."""

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
from gauntlet.data.cifar10_layouts import find_content
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
    """Bounds of the threat models of the published suite."""

    linf: float
    l2: float
    stadv: float
    recoloradv: float
    perceptual: float


@dataclass(frozen=True)
class BenchModel:
    """A classifier with images, a distance and bounds.

    Args:
        name: in the table.
        classifier: as `train.py` and `evaluate.py` make it: channels last, in eval mode.
        plain: the same network in contiguous memory format, for other packages.
        images: `[N, 3, 32, 32]`.
        labels: `[N]`.
        distance: LPIPS of another network.
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
        """Return the first images and their labels."""
        return self.images[:count], self.labels[:count]

    def robust(self, images: Tensor) -> float:
        """Return the share of adversarial images that are classified correctly, in full precision."""
        with torch.no_grad(), exact(), evaluating(self.plain):
            right = self.plain(images).argmax(1) == self.labels[: len(images)]
        return right.float().mean().item()

    def half_robust_bound(self, count: int) -> float:
        """Return the L∞ bound n/255 at which PGD-10 comes closest to a robust accuracy of 50 %."""
        images, labels = self.first(count)
        shares: dict[float, float] = {}
        for step in (1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 24, 32, 48, 64):
            attack = PGD(threat_model=Linf(step / 255), steps=10, step_size=0.25, goal=Untargeted(CrossEntropy()))
            result = attack(self.classifier, images, labels, seeds=torch.arange(len(images), device=images.device))
            shares[step / 255] = self.robust(result.images)
            if shares[step / 255] < 0.5:
                break
        return min(shares, key=lambda bound: abs(shares[bound] - 0.5))


def bench_models(data: Path | None, device: torch.device) -> dict[str, BenchModel]:
    """Return the networks `normal` and `robust`.

    Args:
        data: a folder with `weights/cifar10_resnet32/{normal,delta}.resnet32.pt` (the ReColorAdv authors'),
            `weights/lpips/alexnet_features_torchvision_v1.npz` and CIFAR-10 in `cifar10/mini`; None trains on digits.
        device: of the networks and images.
    """
    return dict(_on_digits(device) if data is None else _on_cifar10(data, device))


def _on_cifar10(data: Path, device: torch.device) -> Iterator[tuple[str, BenchModel]]:
    content = find_content(data / "cifar10" / "mini")
    if content is None:
        raise SystemExit(f"{data} has no cifar10/mini: expected WebP sheets; leave --data out to use digits")
    images = torch.from_numpy(content.test[:, 1:].copy()).reshape(-1, 3, 32, 32).float().div(255).to(device)
    labels = torch.from_numpy(content.test[:, 0].astype("int64")).to(device)
    features = data / "weights" / "lpips" / "alexnet_features_torchvision_v1.npz"
    for name, file in _FILES.items():
        with tempfile.TemporaryDirectory() as folder:
            ours = Path(folder) / "ours.safetensors"
            convert(data / "weights" / "cifar10_resnet32" / file, "resnet32", {"classes": 10}, None, [], ours)
            network = with_weights(resnet32(10), ours)
        distance = LPIPS(imagenet_features("alexnet", _TAPS, features))
        bounds = Bounds(8 / 255, 1.0, 0.05, 0.06, 0.5)
        yield name, _bench_model(f"ResNet-32, CIFAR-10, {name}", network, images, labels, distance, bounds, device)


def _on_digits(device: torch.device) -> Iterator[tuple[str, BenchModel]]:
    splits = Digits().splits
    training = splits.train[slice(0, len(splits.train))]
    test = splits.test[slice(0, len(splits.test))]
    images, labels = test.images.to(device), test.labels.to(device)
    train = training.images.to(device), training.labels.to(device)
    attack = PGD(threat_model=Linf(0.1), steps=5, step_size=0.4, iterate=Last(), goal=Untargeted(CrossEntropy()))
    distance = LPIPS(_trained(*train, None, seed=2))
    for name, against in (("normal", None), ("robust", attack)):
        network = _trained(*train, against, seed=1)
        bounds = Bounds(0.1, 2.0, 0.1, 0.1, 0.5)
        yield name, _bench_model(f"small ResNet, digits, {name}", network, images, labels, distance, bounds, device)


def _trained(images: Tensor, labels: Tensor, attack: Attack | None, seed: int) -> TappedClassifier:
    """Train a small network for six epochs, with or without an attack."""
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


def _bench_model(
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
