"""Rows about passes: their number with an active set, and their time with folded batch norms."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from gauntlet.acceleration import folded
from gauntlet.attacks import PGD, Attack, FastLagrangianPerceptualAttack, FirstSuccess
from gauntlet.evaluation.cost import counted_passes
from gauntlet.goals import Untargeted
from gauntlet.losses import CrossEntropy
from gauntlet.scopes import frozen
from gauntlet.threats import Linf, NeuralPerceptual
from scripts.bench.evaluating import published, stopped
from scripts.bench.models import BenchModel
from scripts.bench.setting import Setting
from scripts.bench.sides import Row, Side, take_turns

_FEW = 2  # images for the worst case, which is the same for every image
_PASSES = 10  # in one turn


def folding(setting: Setting) -> Iterator[Row]:
    """Time forward passes, and forward and backward to the images, with and without folded batch norms."""
    bench_model = setting.bench_models["robust"]
    network = bench_model.classifier
    images, _ = bench_model.first(setting.batch)

    def forward() -> None:
        with torch.no_grad():
            network(images)

    def both() -> None:
        wanted = images.clone().requires_grad_()
        torch.autograd.grad(network(wanted).sum(), wanted)

    for name, run in {"forward": forward, "forward and backward": both}.items():
        sides = [
            Side("folded", partial(_repeated, network, run, partial(folded, network, images))),
            Side("as it is", partial(_repeated, network, run, nullcontext)),
        ]
        job = f"{_PASSES} × {name}, batch {len(images)}, {bench_model.name}"
        yield Row("folding", job, "", take_turns(sides, setting.turns, setting.device))


def _repeated(network: nn.Module, run: Callable[[], None], scope: Callable[[], AbstractContextManager[Any]]) -> None:
    with frozen(network), scope():
        for _ in range(_PASSES):
            run()


def active(setting: Setting) -> Iterator[Row]:
    """Count passes with an active set, and in the worst case, in which no attack succeeds."""
    for bench_model in setting.bench_models.values():
        images, labels = bench_model.first(setting.images)
        worst = _AlwaysRight(bench_model.classifier, labels[:_FEW])
        for name, attack in _stopping(bench_model, setting).items():
            spent = _passes(attack, bench_model.classifier, bench_model.classifier, images, labels)
            most = _passes(attack, worst, bench_model.classifier, images[:_FEW], labels[:_FEW])
            figures = {"passes": spent, "worst case": most, "share": spent / most}
            job = f"{name}, {len(images)} images, {bench_model.name}"
            yield Row("active", job, "passes per image", [], "", figures)


def _stopping(bench_model: BenchModel, setting: Setting) -> dict[str, Attack]:
    """Return the published suite with early stopping, and two further attacks."""
    bounds = bench_model.bounds
    return {name: stopped(attack) for name, attack in published(bench_model, setting).items()} | {
        "pgd-40": PGD(threat_model=Linf(bounds.linf), steps=40, goal=Untargeted(CrossEntropy())),
        "fast-lpa": FastLagrangianPerceptualAttack(
            threat_model=NeuralPerceptual(bench_model.distance, bounds.perceptual), iterate=FirstSuccess()
        ),
    }


def _passes(attack: Attack, shown: nn.Module, counted: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Return forward and backward passes per image."""
    seeds = torch.arange(len(images), device=images.device)
    with counted_passes([counted], images[:1]) as (passes,):
        attack(shown, images, labels, seeds=seeds)
    return (passes.forwards + passes.backwards) / len(images)


class _AlwaysRight(nn.Module):
    """The classifier with a large bonus on the label's logit: no attack succeeds, and all passes are made."""

    def __init__(self, classifier: nn.Module, labels: Tensor) -> None:
        super().__init__()
        self.classifier, self.labels = classifier, labels

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.classifier(images)
        return logits + 1e3 * nn.functional.one_hot(self.labels[: len(images)], logits.shape[1])
