"""Rows about training: a step of perceptual adversarial training, its FLOP/s, and the loader."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from itertools import chain, islice, repeat
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from gauntlet.attacks import FastLagrangianPerceptualAttack, Last
from gauntlet.data import Batch
from gauntlet.defenses import AdversarialTraining, Defense, NormalTraining
from gauntlet.distances import SelfLPIPS
from gauntlet.threats import NeuralPerceptual
from scripts.bench.evaluating import trainable
from scripts.bench.models import BenchModel
from scripts.bench.naive import Naive
from scripts.bench.setting import Setting
from scripts.bench.sides import Row, Side, clock, take_turns

STEPS = 10
_BY = {"self": "the classifier", "external": "a network of its own"}


def step(setting: Setting) -> Iterator[Row]:
    """Time a step of perceptual adversarial training beside a naive one; strengths are measured from equal weights."""
    bench_model = setting.bench_models["robust"]
    batch = _batch(bench_model, setting.batch)
    for bounded, by in _BY.items():
        bound = bench_model.bounds.perceptual
        ours = pat(bench_model, bounded)
        network = trainable(bench_model.plain)
        feature_network = network if bounded == "self" else trainable(bench_model.distance.network)
        naive = Naive(network, feature_network)
        sides = [
            Side("Gauntlet", _step_of(ours, batch), _strength(ours, bench_model)),
            Side(
                "Gauntlet, bf16-mixed",
                _autocast(_step_of(ours, batch), setting),
                _autocast(_strength(ours, bench_model), setting),
            ),
            Side("naive", _naive_step(naive, batch, bound), _naive_strength(naive, bench_model, bound)),
        ]
        job = f"PAT step, φ of {by}, batch {setting.batch}, {bench_model.name}"
        yield Row("step", job, "right under its attack", take_turns(sides, setting.turns, setting.device), "≥ 2")


def flops(setting: Setting) -> Iterator[Row]:
    """Measure FLOP/s of a training step beside a plain forward and backward pass of the same network."""
    bench_model = setting.bench_models["robust"]
    batch = _batch(bench_model, setting.batch)
    network = copy.deepcopy(bench_model.classifier).train()

    def plain() -> None:
        network.zero_grad()
        F.cross_entropy(network(batch.images), batch.labels).backward()

    regimes = {"PAT step, φ of the classifier": pat(bench_model, "self"), "normal step": _normal(bench_model)}
    for name, regime in regimes.items():
        sides = [Side("Gauntlet", _step_of(regime, batch)), Side("forward-backward loop", plain)]
        timed = take_turns(sides, setting.turns, setting.device)
        rates = {side.name: _flop(side.run) / took.median / 1e9 for side, took in zip(sides, timed, strict=True)}
        ours, theirs = rates.values()
        figures = {f"GFLOP/s, {side}": rate for side, rate in rates.items()} | {"share": ours / theirs}
        yield Row("flops", f"{name}, batch {setting.batch}, {bench_model.name}", "", timed, "share ≥ 0.85", figures)


def loader(setting: Setting) -> Iterator[Row]:
    """Measure the time a step waits for its batch: images in memory, augmentation of the CIFAR-10 recipe."""
    from gauntlet.data import ColourJitter, RandomCrop, RandomFlip, RandomRotation
    from gauntlet.data.augmentation import TrainingExamples
    from gauntlet.data.examples import EpochBatches, Examples

    bench_model = setting.bench_models["robust"]
    images = (bench_model.images * 255).round().to(torch.uint8)
    examples = Examples(images, bench_model.labels, torch.arange(len(images), device=images.device))
    recipe = (RandomCrop(padding=4), RandomFlip(), ColourJitter(0.25, 0.25, 0.25), RandomRotation(2))
    augmented = TrainingExamples(examples, recipe, 0)
    batches = EpochBatches(len(images), setting.batch, 0, lambda: 0, 0, 1)
    for name, regime in {"normal step": _normal(bench_model), "PAT step": pat(bench_model, "self")}.items():
        waited, worked = [], []
        for rows in islice(chain.from_iterable(repeat(batches)), 2 + 2 * setting.turns):
            start = clock(setting.device)
            batch = augmented.__getitems__(rows)
            middle = clock(setting.device)
            _step_of(regime, batch)()
            waited.append(middle - start)
            worked.append(clock(setting.device) - middle)
        idle, busy = median(waited[2:]), median(worked[2:])
        figures = {"ms for a batch": 1e3 * idle, "ms for a step": 1e3 * busy, "idle share": idle / (idle + busy)}
        yield Row("loader", f"{name}, batch {setting.batch}, {bench_model.name}", "", [], "", figures)


def pat(bench_model: BenchModel, bounded: str) -> Defense:
    """Return perceptual adversarial training of a copy of the bench model's classifier."""
    distance = SelfLPIPS() if bounded == "self" else bench_model.distance
    threat = NeuralPerceptual(distance, bench_model.bounds.perceptual)
    attack = FastLagrangianPerceptualAttack(threat_model=threat, steps=STEPS, iterate=Last())
    return _without_trainer(AdversarialTraining(attack, **_training(copy.deepcopy(bench_model.classifier))))


def _normal(bench_model: BenchModel) -> Defense:
    return _without_trainer(NormalTraining(**_training(copy.deepcopy(bench_model.classifier))))


def _training(classifier: nn.Module) -> dict[str, object]:
    return {"classifier": classifier.requires_grad_(True), "optimizer": None, "schedule": None}


def _without_trainer(defense: Defense) -> Defense:
    """Make the defense usable without a trainer; logged values are dropped."""
    defense.note = lambda *_, **__: None  # type: ignore[method-assign]
    defense.trainer = type("Trainer", (), {"current_epoch": 0, "global_step": 0})()
    return defense


def _batch(bench_model: BenchModel, count: int) -> Batch:
    images, labels = bench_model.first(count)
    return Batch(images, labels, torch.arange(len(images), device=images.device))


def _step_of(defense: Defense, batch: Batch) -> Callable[[], None]:
    """Return a function for one step at a learning rate of 0, so that every turn has the same weights."""
    optimizer = torch.optim.SGD(defense.classifier.parameters(), lr=0.0, momentum=0.9)

    def run() -> None:
        optimizer.zero_grad()
        defense.classifier.train()
        defense.training_step(batch, 0).backward()
        optimizer.step()

    return run


def _autocast(run: Callable[..., Any], setting: Setting) -> Callable[..., Any]:
    """Return the function under autocast, as with `trainer.precision=bf16-mixed`."""

    def autocast(*given: Any) -> Any:
        with torch.autocast(setting.device.type, dtype=torch.bfloat16):
            return run(*given)

    return autocast


def _naive_step(naive: Naive, batch: Batch, bound: float) -> Callable[[], None]:
    optimizer = torch.optim.SGD(naive.classifier.parameters(), lr=0.0, momentum=0.9)

    def run() -> None:
        images = _naive_images(naive, batch, bound)
        optimizer.zero_grad()
        F.cross_entropy(naive.classifier.train()(images), batch.labels).backward()
        optimizer.step()

    return run


def _naive_images(naive: Naive, batch: Batch, bound: float) -> Tensor:
    """Return the training images; misclassified ones stay clean, as published."""
    images = batch.images.clone()
    naive.classifier.eval()
    with torch.no_grad():
        right = naive.classifier(images).argmax(1) == batch.labels
    images[right] = naive.fast_lpa(images[right], batch.labels[right], bound, STEPS)
    return images


def _strength(defense: Defense, bench_model: BenchModel) -> Callable[[object], float]:
    """Return a function for the robust accuracy under a step's attack, with the bench model's own weights."""

    def strength(_: object) -> float:
        assert isinstance(defense, AdversarialTraining)
        batch = _batch(bench_model, len(bench_model.images[:50]))
        defense.classifier.load_state_dict(bench_model.classifier.state_dict())
        return bench_model.robust(defense.training_images(batch, defense.right(batch)))

    return strength


def _naive_strength(naive: Naive, bench_model: BenchModel, bound: float) -> Callable[[object], float]:
    def strength(_: object) -> float:
        batch = _batch(bench_model, len(bench_model.images[:50]))
        naive.classifier.load_state_dict(bench_model.classifier.state_dict())
        return bench_model.robust(_naive_images(naive, batch, bound))

    return strength


def _flop(run: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()
