"""The published update rules of the perceptual attacks, restated the naive way.

Laidlaw et al., "Perceptual Adversarial Robustness", ICLR 2021, appendix A. Naive: the network's parameters are not
frozen, so that every backward pass computes their gradients as well; φ is one long vector and has a forward of its own,
also where its network is the classifier; the probes for the rate of φ are made with gradients; everybody stays in the
batch until the end. The numbers that come out follow the same rules as the library's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gauntlet.losses import margin
from gauntlet.threats import Region

_RATE = 0.1  # pixel length over which the rate of φ is measured
_TINY = 1e-8


@dataclass(frozen=True)
class Naive:
    """A classifier, and the network whose feature maps are φ.

    Args:
        classifier: to logits.
        eyes: tapped; the classifier itself, or another network.
    """

    classifier: nn.Module
    eyes: nn.Module

    def phi(self, images: Tensor) -> Tensor:
        """φ as one vector per image, `[N, D]`."""
        parts = []
        for maps in self.eyes.features(images):
            unit = maps / (maps.square().sum(1, keepdim=True).add(1e-20).sqrt())
            parts.append(unit.flatten(1) / (maps.shape[2] * maps.shape[3]) ** 0.5)
        return torch.cat(parts, 1)

    def fast_lpa(self, images: Tensor, labels: Tensor, bound: float, steps: int) -> Tensor:
        """Fast-LPA: the attack of perceptual adversarial training, `[N, C, H, W]`."""
        with torch.enable_grad():
            clean = self.phi(images).detach()
            delta = 0.01 * torch.randn_like(images)
            for i in range(steps):
                multiplier = 10 * 0.1 ** (1 - i / steps)
                delta.requires_grad_()
                here = self.phi(images + delta)
                distance = _length(here - clean)
                gain = -margin(self.classifier(images + delta), labels) - multiplier * (distance - bound).relu()
                gain.sum().backward()
                delta = self._moved(images, delta, here, bound * 0.1 ** (i / steps), 1e-4)
        return images + delta.detach()

    def lpa(self, images: Tensor, labels: Tensor, bound: float, searches: int, steps: int) -> Tensor:
        """LPA; who is done is computed all the same and kept, `[N, C, H, W]`."""
        clean = self.phi(images).detach()
        delta = 0.01 * torch.randn_like(images)
        multiplier = images.new_full((len(images),), 0.01)
        live = torch.ones_like(labels, dtype=torch.bool)
        for _ in range(searches):
            for i in range(steps):
                delta = delta.detach().requires_grad_()
                here, logits = self.phi(images + delta), self.classifier(images + delta)
                distance = _length(here - clean)
                gain = (-margin(logits, labels)).clamp(max=1) - multiplier * (distance - bound).relu()
                gain.sum().backward()
                live = live & ((logits.argmax(1) == labels) | (distance > bound))
                moved = self._moved(images, delta, here, bound * 0.1 ** (i / steps), _TINY)
                delta = torch.where(_wide(live), moved, delta.detach())
            multiplier = torch.where(distance.detach() >= bound, 10 * multiplier, multiplier)
        return self.projected(images, images + delta.detach(), clean, bound)

    def ppgd(self, images: Tensor, labels: Tensor, bound: float, steps: int, iterations: int = 5) -> Tensor:
        """PPGD: conjugate gradients with φ's derivative as a forward difference, `[N, C, H, W]`."""
        clean = self.phi(images).detach()
        at = images + 0.01 * torch.randn_like(images)
        for _ in range(steps):
            at = self._first_order_step(at, labels, 2 * bound / steps, iterations)
            at = self.projected(images, at, clean, bound)
        return at

    def projected(self, images: Tensor, others: Tensor, clean: Tensor, bound: float) -> Tensor:
        """Newton's method beyond the surface, ten steps on everybody; who is still outside is bisected."""
        others = others.detach()
        for _ in range(10):
            others.requires_grad_()
            distance = _length(self.phi(others) - clean)
            distance.sum().backward()
            slope, outside = others.grad, distance.detach() > bound
            assert slope is not None
            amount = 1.1 * (distance.detach() - bound + 0.1) / slope.flatten(1).square().sum(1).clamp(min=1e-30)
            others = torch.where(_wide(outside), (others - _wide(amount) * slope).clamp(0, 1), others).detach()
            if not outside.any():
                return others
        low = others.new_zeros(len(others))
        high = torch.ones_like(low)
        for _ in range(10):
            middle = (low + high) / 2
            beyond = _length(self.phi(images + _wide(middle) * (others - images)) - clean).detach() > bound
            low, high = torch.where(beyond, low, middle), torch.where(beyond, middle, high)
        inside = _length(self.phi(others) - clean).detach() <= bound
        return torch.where(_wide(inside), others, images + _wide(low) * (others - images))

    def _moved(self, images: Tensor, delta: Tensor, here: Tensor, length: float, slowest: float) -> Tensor:
        """δ a perceptual `length` further along its gradient, by a probe with gradients."""
        gradient = delta.grad
        assert gradient is not None
        along = gradient / (_wide(gradient.flatten(1).norm(dim=1)) + _TINY)
        probed = self.phi(images + delta.detach() + _RATE * along)
        rate = _length(probed - here.detach()) / _RATE
        return ((images + delta + _wide(length / (rate + slowest)) * along).clamp(0, 1) - images).detach()

    def _first_order_step(self, at: Tensor, labels: Tensor, length: float, iterations: int) -> Tensor:
        at = at.detach().requires_grad_()
        here, logits = self.phi(at), self.classifier(at)
        (gradient,) = torch.autograd.grad((-margin(logits, labels)).clamp(max=1).sum(), at, retain_graph=True)

        def pushed(along: Tensor) -> Tensor:
            return (self.phi(at + 1e-3 * along) - here).detach() / 1e-3

        def product(along: Tensor) -> Tensor:
            (pulled,) = torch.autograd.grad(here, at, pushed(along), retain_graph=True)
            return pulled

        change = _solved(product, gradient, iterations)
        scale = length / pushed(change).norm(dim=1).clamp(min=_TINY)
        flat = gradient.flatten(1).norm(dim=1) < 1e-4
        return (at + _wide(torch.where(flat, 0, scale)) * change).clamp(0, 1).detach()


def _solved(product: Callable[[Tensor], Tensor], right: Tensor, iterations: int) -> Tensor:
    """Conjugate gradients for everybody, all iterations."""
    solution, residual, direction = torch.zeros_like(right), right.clone(), right.clone()
    for _ in range(iterations):
        image = product(direction)
        before = residual.square().flatten(1).sum(1)
        step = before / (direction * image).flatten(1).sum(1).clamp(min=1e-30)
        solution = solution + _wide(step) * direction
        residual = residual - _wide(step) * image
        direction = residual + _wide(residual.square().flatten(1).sum(1) / before.clamp(min=1e-30)) * direction
    return solution


def adam(classifier: nn.Module, region: Region, labels: Tensor, rate: float, steps: int) -> Tensor:
    """The published search of flows and colours: torch's Adam on the params of everybody, all steps, the last one."""
    params = region.zero().clone().requires_grad_()
    optimizer = torch.optim.Adam([params], lr=rate)
    for _ in range(steps):
        optimizer.zero_grad()
        (margin(classifier(region.perturb(params)), labels) + region.penalty(params)).sum().backward()
        optimizer.step()
        with torch.no_grad():
            params.copy_(region.project(params))
    return region.perturb(params).detach()


def _length(vectors: Tensor) -> Tensor:
    return vectors.square().sum(1).add(1e-20).sqrt()


def _wide(values: Tensor) -> Tensor:
    """`[N]` as `[N, 1, 1, 1]`."""
    return values[:, None, None, None]


def autoattack(package: Any, images: Tensor, labels: Tensor) -> list[Tensor]:
    """What AutoAttack's parts find, `[N, C, H, W]` each: every part and every target on everybody, all the way.

    Only Square lets those be who have fallen, as it is published.

    Args:
        package: pyautoattack's, with as many queries and targets as wanted.
        images: `[N, C, H, W]` in [0, 1].
        labels: `[N]`.
    """
    descent, fab = package.apgd_targeted, package.fab
    with torch.no_grad():
        ranked = package.model(images).argsort(1, descending=True)
    package.apgd.loss = "ce"
    found = [package.apgd.perturb(images, labels)]
    descent.init_hyperparam(images)
    for rank in range(1, descent.n_target_classes + 1):
        descent.y_target = ranked[:, rank]
        found.append(descent.attack_single_run(images, labels)[3])
    for rank in range(1, fab.n_target_classes + 1):
        fab.target_class = rank + 1  # its own count has the likeliest class, the label's, as number 1
        with torch.no_grad():
            nearest = fab.attack_single_run(images, labels, use_rand_start=False, is_targeted=True)
        length = torch.linalg.vector_norm((nearest - images).flatten(1), {"Linf": torch.inf, "L2": 2}[fab.norm], dim=1)
        found.append(torch.where(_wide(length <= fab.eps), nearest, images))
    return [*found, package.square.perturb(images, labels)]
