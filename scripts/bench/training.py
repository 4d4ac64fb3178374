"""Rows about training: the step of perceptual adversarial training, how close it is to the limit, and the loader."""

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
from scripts.bench.naive import Naive
from scripts.bench.setting import Setting
from scripts.bench.sides import Row, Side, clock, take_turns
from scripts.bench.subjects import Subject

STEPS = 10
_BY = {"self": "the classifier", "external": "a network of its own"}


def step(setting: Setting) -> Iterator[Row]:
    """A step of perceptual adversarial training beside the naive way; both make up their images from equal weights."""
    subject = setting.subjects["robust"]
    batch = _batch(subject, setting.batch)
    for bounded, by in _BY.items():
        bound, ours = subject.bounds.perceptual, pat(subject, bounded)
        network = trainable(subject.plain)
        eyes = network if bounded == "self" else trainable(subject.distance.network)
        naive = Naive(network, eyes)
        sides = [
            Side("Gauntlet", _stepping(ours, batch), _found(ours, subject)),
            Side("Gauntlet, bf16-mixed", _half(_stepping(ours, batch), setting), _half(_found(ours, subject), setting)),
            Side("naive", _naively(naive, batch, bound), _found_naively(naive, subject, bound)),
        ]
        job = f"PAT step, φ of {by}, batch {setting.batch}, {subject.name}"
        yield Row("step", job, "right under its attack", take_turns(sides, setting.turns, setting.device), "≥ 2")


def flops(setting: Setting) -> Iterator[Row]:
    """FLOP/s of a training step beside a plain forward and backward of the same network: what the device can do."""
    subject = setting.subjects["robust"]
    batch = _batch(subject, setting.batch)
    network = copy.deepcopy(subject.classifier).train()

    def plain() -> None:
        network.zero_grad()
        F.cross_entropy(network(batch.images), batch.labels).backward()

    regimes = {"PAT step, φ of the classifier": pat(subject, "self"), "normal step": _normal(subject)}
    for name, regime in regimes.items():
        sides = [Side("Gauntlet", _stepping(regime, batch)), Side("forward-backward loop", plain)]
        timed = take_turns(sides, setting.turns, setting.device)
        rates = {side.name: _flop(side.run) / took.median / 1e9 for side, took in zip(sides, timed, strict=True)}
        ours, theirs = rates.values()
        figures = {f"GFLOP/s, {side}": rate for side, rate in rates.items()} | {"share": ours / theirs}
        yield Row("flops", f"{name}, batch {setting.batch}, {subject.name}", "", timed, "share ≥ 0.85", figures)


def loader(setting: Setting) -> Iterator[Row]:
    """How long a step waits for its batch: images in memory, crops, flips and colours as in the CIFAR-10 recipe."""
    from gauntlet.data import ColourJitter, RandomCrop, RandomFlip, RandomRotation
    from gauntlet.data.augmentation import TrainingExamples
    from gauntlet.data.examples import EpochBatches, Examples

    subject = setting.subjects["robust"]
    images = (subject.images * 255).round().to(torch.uint8)
    examples = Examples(images, subject.labels, torch.arange(len(images), device=images.device))
    recipe = (RandomCrop(padding=4), RandomFlip(), ColourJitter(0.25, 0.25, 0.25), RandomRotation(2))
    seen = TrainingExamples(examples, recipe, 0)
    batches = EpochBatches(len(images), setting.batch, 0, lambda: 0, 0, 1)
    for name, regime in {"normal step": _normal(subject), "PAT step": pat(subject, "self")}.items():
        waited, worked = [], []
        for rows in islice(chain.from_iterable(repeat(batches)), 2 + 2 * setting.turns):
            start = clock(setting.device)
            batch = seen.__getitems__(rows)
            middle = clock(setting.device)
            _stepping(regime, batch)()
            waited.append(middle - start)
            worked.append(clock(setting.device) - middle)
        idle, busy = median(waited[2:]), median(worked[2:])
        figures = {"ms for a batch": 1e3 * idle, "ms for a step": 1e3 * busy, "idle share": idle / (idle + busy)}
        yield Row("loader", f"{name}, batch {setting.batch}, {subject.name}", "", [], "", figures)


def pat(subject: Subject, bounded: str) -> Defense:
    """Perceptual adversarial training of a copy of the subject's classifier."""
    distance = SelfLPIPS() if bounded == "self" else subject.distance
    threat = NeuralPerceptual(distance, subject.bounds.perceptual)
    attack = FastLagrangianPerceptualAttack(threat_model=threat, steps=STEPS, iterate=Last())
    return _alone(AdversarialTraining(attack, **_training(copy.deepcopy(subject.classifier))))


def _normal(subject: Subject) -> Defense:
    return _alone(NormalTraining(**_training(copy.deepcopy(subject.classifier))))


def _training(classifier: nn.Module) -> dict[str, object]:
    return {"classifier": classifier.requires_grad_(True), "optimizer": None, "schedule": None}


def _alone(defense: Defense) -> Defense:
    """Without a trainer: what a step logs is dropped."""
    defense.note = lambda *_, **__: None  # type: ignore[method-assign]
    defense.trainer = type("Trainer", (), {"current_epoch": 0, "global_step": 0})()
    return defense


def _batch(subject: Subject, count: int) -> Batch:
    images, labels = subject.first(count)
    return Batch(images, labels, torch.arange(len(images), device=images.device))


def _stepping(defense: Defense, batch: Batch) -> Callable[[], None]:
    """One step at a learning rate of 0, so that every turn begins from the same weights."""
    optimizer = torch.optim.SGD(defense.classifier.parameters(), lr=0.0, momentum=0.9)

    def run() -> None:
        optimizer.zero_grad()
        defense.classifier.train()
        defense.training_step(batch, 0).backward()
        optimizer.step()

    return run


def _half(run: Callable[..., Any], setting: Setting) -> Callable[..., Any]:
    """The same under autocast, as `trainer.precision=bf16-mixed` has it."""

    def halved(*given: Any) -> Any:
        with torch.autocast(setting.device.type, dtype=torch.bfloat16):
            return run(*given)

    return halved


def _naively(naive: Naive, batch: Batch, bound: float) -> Callable[[], None]:
    optimizer = torch.optim.SGD(naive.classifier.parameters(), lr=0.0, momentum=0.9)

    def run() -> None:
        images = _naive_images(naive, batch, bound)
        optimizer.zero_grad()
        F.cross_entropy(naive.classifier.train()(images), batch.labels).backward()
        optimizer.step()

    return run


def _naive_images(naive: Naive, batch: Batch, bound: float) -> Tensor:
    """What is already wrong stays as it is, as published."""
    images = batch.images.clone()
    naive.classifier.eval()
    with torch.no_grad():
        right = naive.classifier(images).argmax(1) == batch.labels
    images[right] = naive.fast_lpa(images[right], batch.labels[right], bound, STEPS)
    return images


def _found(defense: Defense, subject: Subject) -> Callable[[object], float]:
    """How many images are right under the attack of a step from the subject's own weights."""

    def strength(_: object) -> float:
        assert isinstance(defense, AdversarialTraining)
        batch = _batch(subject, len(subject.images[:50]))
        defense.classifier.load_state_dict(subject.classifier.state_dict())
        return subject.robust(defense.training_images(batch, defense.right(batch)))

    return strength


def _found_naively(naive: Naive, subject: Subject, bound: float) -> Callable[[object], float]:
    def strength(_: object) -> float:
        batch = _batch(subject, len(subject.images[:50]))
        naive.classifier.load_state_dict(subject.classifier.state_dict())
        return subject.robust(_naive_images(naive, batch, bound))

    return strength


def _flop(run: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()
