"""Naive implementations of the published update rules of the perceptual attacks.

Laidlaw et al., "Perceptual Adversarial Robustness", ICLR 2021, appendix A. The network's parameters are not frozen, so
every backward pass computes their gradients, too; φ is one long vector with its own forward pass, also where its
network is the classifier; the probes for the rate of φ are made with gradients; all examples stay in the batch until
the end. The results follow the same rules as the library's.
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
        feature_network: tapped; the classifier itself or another network.
    """

    classifier: nn.Module
    feature_network: nn.Module

    def phi(self, images: Tensor) -> Tensor:
        """Return φ as one vector per image, `[N, D]`."""
        parts = []
        for maps in self.feature_network.features(images):
            unit = maps / (maps.square().sum(1, keepdim=True).add(1e-20).sqrt())
            parts.append(unit.flatten(1) / (maps.shape[2] * maps.shape[3]) ** 0.5)
        return torch.cat(parts, 1)

    def fast_lpa(self, images: Tensor, labels: Tensor, bound: float, steps: int) -> Tensor:
        """Run Fast-LPA, the attack of perceptual adversarial training, `[N, C, H, W]`."""
        with torch.enable_grad():
            clean = self.phi(images).detach()
            delta = 0.01 * torch.randn_like(images)
            for i in range(steps):
                multiplier = 10 * 0.1 ** (1 - i / steps)
                delta.requires_grad_()
                features = self.phi(images + delta)
                distance = _length(features - clean)
                gain = -margin(self.classifier(images + delta), labels) - multiplier * (distance - bound).relu()
                gain.sum().backward()
                delta = self._moved(images, delta, features, bound * 0.1 ** (i / steps), 1e-4)
        return images + delta.detach()

    def lpa(self, images: Tensor, labels: Tensor, bound: float, searches: int, steps: int) -> Tensor:
        """Run LPA, `[N, C, H, W]`; successful examples are computed in every step, too, and their δ is kept."""
        clean = self.phi(images).detach()
        delta = 0.01 * torch.randn_like(images)
        multiplier = images.new_full((len(images),), 0.01)
        live = torch.ones_like(labels, dtype=torch.bool)
        for _ in range(searches):
            for i in range(steps):
                delta = delta.detach().requires_grad_()
                features = self.phi(images + delta)
                logits = self.classifier(images + delta)
                distance = _length(features - clean)
                gain = (-margin(logits, labels)).clamp(max=1) - multiplier * (distance - bound).relu()
                gain.sum().backward()
                live = live & ((logits.argmax(1) == labels) | (distance > bound))
                moved = self._moved(images, delta, features, bound * 0.1 ** (i / steps), _TINY)
                delta = torch.where(_expanded(live), moved, delta.detach())
            multiplier = torch.where(distance.detach() >= bound, 10 * multiplier, multiplier)
        return self.projected(images, images + delta.detach(), clean, bound)

    def ppgd(self, images: Tensor, labels: Tensor, bound: float, steps: int, iterations: int = 5) -> Tensor:
        """Run PPGD by conjugate gradients, with φ's derivative as a forward difference, `[N, C, H, W]`."""
        clean = self.phi(images).detach()
        at = images + 0.01 * torch.randn_like(images)
        for _ in range(steps):
            at = self._first_order_step(at, labels, 2 * bound / steps, iterations)
            at = self.projected(images, at, clean, bound)
        return at

    def projected(self, images: Tensor, others: Tensor, clean: Tensor, bound: float) -> Tensor:
        """Project by ten overshooting Newton steps on all examples, then by bisection where still outside."""
        others = others.detach()
        for _ in range(10):
            others.requires_grad_()
            distance = _length(self.phi(others) - clean)
            distance.sum().backward()
            slope = others.grad
            outside = distance.detach() > bound
            assert slope is not None
            amount = 1.1 * (distance.detach() - bound + 0.1) / slope.flatten(1).square().sum(1).clamp(min=1e-30)
            others = torch.where(_expanded(outside), (others - _expanded(amount) * slope).clamp(0, 1), others).detach()
            if not outside.any():
                return others
        low = others.new_zeros(len(others))
        high = torch.ones_like(low)
        for _ in range(10):
            middle = (low + high) / 2
            beyond = _length(self.phi(images + _expanded(middle) * (others - images)) - clean).detach() > bound
            low = torch.where(beyond, low, middle)
            high = torch.where(beyond, middle, high)
        inside = _length(self.phi(others) - clean).detach() <= bound
        return torch.where(_expanded(inside), others, images + _expanded(low) * (others - images))

    def _moved(self, images: Tensor, delta: Tensor, features: Tensor, length: float, slowest: float) -> Tensor:
        """Move δ by a perceptual `length` along its gradient; the rate of φ is probed with gradients."""
        gradient = delta.grad
        assert gradient is not None
        along = gradient / (_expanded(gradient.flatten(1).norm(dim=1)) + _TINY)
        probed = self.phi(images + delta.detach() + _RATE * along)
        rate = _length(probed - features.detach()) / _RATE
        return ((images + delta + _expanded(length / (rate + slowest)) * along).clamp(0, 1) - images).detach()

    def _first_order_step(self, at: Tensor, labels: Tensor, length: float, iterations: int) -> Tensor:
        at = at.detach().requires_grad_()
        features = self.phi(at)
        logits = self.classifier(at)
        (gradient,) = torch.autograd.grad((-margin(logits, labels)).clamp(max=1).sum(), at, retain_graph=True)

        def derivative(along: Tensor) -> Tensor:
            return (self.phi(at + 1e-3 * along) - features).detach() / 1e-3

        def product(along: Tensor) -> Tensor:
            (gradient_product,) = torch.autograd.grad(features, at, derivative(along), retain_graph=True)
            return gradient_product

        change = _solve(product, gradient, iterations)
        scale = length / derivative(change).norm(dim=1).clamp(min=_TINY)
        flat = gradient.flatten(1).norm(dim=1) < 1e-4
        return (at + _expanded(torch.where(flat, 0, scale)) * change).clamp(0, 1).detach()


def _solve(product: Callable[[Tensor], Tensor], right: Tensor, iterations: int) -> Tensor:
    """Run all iterations of conjugate gradients on all examples."""
    solution = torch.zeros_like(right)
    residual = right.clone()
    direction = right.clone()
    for _ in range(iterations):
        image = product(direction)
        before = residual.square().flatten(1).sum(1)
        step = before / (direction * image).flatten(1).sum(1).clamp(min=1e-30)
        solution = solution + _expanded(step) * direction
        residual = residual - _expanded(step) * image
        direction = residual + _expanded(residual.square().flatten(1).sum(1) / before.clamp(min=1e-30)) * direction
    return solution


def adam(classifier: nn.Module, region: Region, labels: Tensor, rate: float, steps: int) -> Tensor:
    """Run the published search of flows and colours: torch's Adam on all params, all steps, last iterate."""
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


def _expanded(values: Tensor) -> Tensor:
    """Reshape `[N]` to `[N, 1, 1, 1]`."""
    return values[:, None, None, None]


def autoattack(package: Any, images: Tensor, labels: Tensor) -> list[Tensor]:
    """Run every attack and every target of AutoAttack on all examples to the end, `[N, C, H, W]` each.

    Only Square leaves out successful examples, as published.

    Args:
        package: pyautoattack's, with as many queries and targets as wanted.
        images: `[N, C, H, W]` in [0, 1].
        labels: `[N]`.
    """
    apgd_targeted = package.apgd_targeted
    fab = package.fab
    with torch.no_grad():
        ranked = package.model(images).argsort(1, descending=True)
    package.apgd.loss = "ce"
    results = [package.apgd.perturb(images, labels)]
    apgd_targeted.init_hyperparam(images)
    for rank in range(1, apgd_targeted.n_target_classes + 1):
        apgd_targeted.y_target = ranked[:, rank]
        results.append(apgd_targeted.attack_single_run(images, labels)[3])
    for rank in range(1, fab.n_target_classes + 1):
        fab.target_class = rank + 1  # it counts the likeliest class, the label, as number 1
        with torch.no_grad():
            nearest = fab.attack_single_run(images, labels, use_rand_start=False, is_targeted=True)
        length = torch.linalg.vector_norm((nearest - images).flatten(1), {"Linf": torch.inf, "L2": 2}[fab.norm], dim=1)
        results.append(torch.where(_expanded(length <= fab.eps), nearest, images))
    return [*results, package.square.perturb(images, labels)]
