"""The contract of attacks, at a bound and of minimum distance."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from gauntlet.attacks import Adversarial, Attack
from gauntlet.data import Batch, unidentified
from gauntlet.kinds import Kind
from gauntlet.models import logits_of
from gauntlet.noise import Noise
from gauntlet.testing.examples import (
    DUAL_NORMS,
    linear_classifier,
    linear_margins,
    predicted_batch,
    small_classifier,
    some_images,
)
from gauntlet.testing.expectations import (
    expect,
    expect_alike,
    expect_identity,
    expect_images,
    expect_restored,
    expect_unchanged,
    first_row,
    name_of,
    tolerance_of,
)
from gauntlet.threats import SearchableThreatModel
from gauntlet.tolerance import TOLERANCE
from gauntlet.varied import BOUND, altered


def check_attack(attack: Attack, *, classifier: nn.Module | None = None, images: Tensor | None = None) -> None:
    """Check every property that training and the evaluation rely on.

    Args:
        attack: at a bound, or of minimum distance; it is run a dozen times, so use few steps.
        classifier: to attack; None for a small convolutional one with taps, in float64.
        images: `[N, C, H, W]` with N ≥ 3 for the classifier; None for six of `[3, 6, 6]` in float64.

    Raises:
        AssertionError: a property does not hold; the message names it and the deviation.
    """
    _check_declaration(attack)
    classifier = classifier or small_classifier()
    images = some_images(low=-0.1, high=1.1) if images is None else images
    check = _Check(attack, classifier.eval(), predicted_batch(classifier.eval(), images))
    check.result()
    check.determinism()
    check.batches()
    check.callers()
    check.refusals()
    if attack.kind is Kind.MINIMUM_DISTANCE:
        check.distances()
        if type(attack.threat_model) in DUAL_NORMS:
            check_nearest_of_linear(attack)


def _check_declaration(attack: Attack) -> None:
    kind = name_of(attack)
    expect(isinstance(attack, Attack), f"{kind} is no gauntlet.attacks.Attack: subclass Search, or Attack itself")
    expect(
        attack.kind in (Kind.ATTACK, Kind.MINIMUM_DISTANCE),
        f"{kind}.kind is {attack.kind!r}: expected Kind.ATTACK or Kind.MINIMUM_DISTANCE",
    )
    expect(isinstance(attack.threat_model, SearchableThreatModel), f"{kind}.threat_model cannot be searched")
    for name in ("stays_inside", "gradient_free"):
        value = getattr(attack, name)
        expect(isinstance(value, bool), f"{kind}.{name} is {value!r}: expected True or False")
    expect_identity(attack)


class _Check:
    """The checks of one attack on one classifier and batch."""

    def __init__(self, attack: Attack, classifier: nn.Module, batch: Batch) -> None:
        self.attack, self.classifier, self.batch = attack, classifier, batch
        self.kind, self.tolerance = name_of(attack), tolerance_of(batch.images)
        self.seeds = batch.ids
        with expect_unchanged(self.kind, images=batch.images, labels=batch.labels, seeds=self.seeds):
            self.adversarial = self.run(batch)

    def run(self, batch: Batch, classifier: nn.Module | None = None) -> Adversarial:
        return self.attack(classifier or self.classifier, batch.images, batch.labels, seeds=batch.ids)

    def result(self) -> None:
        """Images are in [0, 1], equal to what their params give, and within the bound."""
        adversarial, images = self.adversarial, self.batch.images
        expect_images(adversarial.images, images, self.kind)
        expect(
            len(adversarial.params) == len(images),
            f"{self.kind}: {len(adversarial.params)} params for {len(images)} images",
        )
        expect(
            adversarial.size.shape == (len(images),), f"{self.kind}: size {list(adversarial.size.shape)}, expected [N]"
        )
        expect(not any(part.requires_grad for part in adversarial), f"{self.kind}: results have a graph; detach them")
        with torch.no_grad():
            region = self.attack.threat_model.around(unidentified(images, self.batch.labels), self.classifier)
            images_of_params, size = region.perturb(adversarial.params), region.size(adversarial.params)
        expect_alike(
            images_of_params, adversarial.images, self.tolerance, f"{self.kind}: images are not what their params say"
        )
        verified = self.attack.verify(self.classifier, self._unidentified(), adversarial)
        if self.attack.kind is Kind.MINIMUM_DISTANCE:
            return
        expect_alike(adversarial.size, size, TOLERANCE / 2, f"{self.kind}: size is not that of the params")
        if self.attack.stays_inside:
            largest = adversarial.size.max().item()
            expect(
                bool((adversarial.size <= 1 + TOLERANCE).all()),
                f"{self.kind} says that it stays inside, and has size {largest:.6g} of the bound: project its result,"
                f" or let stays_inside be False",
            )
            expect(verified.inside.all(), f"{self.kind}: row {first_row(~verified.inside)} is not verified as inside")

    def _unidentified(self) -> Batch:
        return unidentified(self.batch.images, self.batch.labels)

    def determinism(self) -> None:
        """The same seeds give bit-identical results, by either call, with gradients off, with any global generator."""
        with torch.random.fork_rng():
            torch.manual_seed(20)
            again = self.run(self.batch)
        same = f"{self.kind}: the same seeds give other images; draw every random number from the noise"
        expect_alike(again.images, self.adversarial.images, 0.0, same)
        with torch.no_grad():
            other = self.attack.run(self.classifier, self._unidentified(), Noise(self.seeds))
            expect(not torch.is_grad_enabled(), f"{self.kind} leaves gradients on: use torch.enable_grad() as a scope")
        expect_alike(
            other.images, self.adversarial.images, 0.0, f"{self.kind}: run() under no_grad differs from the call"
        )

    def batches(self) -> None:
        """An example gets the same image in any batch: reversed, in part, alone; an empty batch is accepted."""
        count = len(self.batch.images)
        for rows in (torch.arange(count).flip(0), torch.arange(1, count, 2), torch.tensor([count - 1])):
            some = self.run(self.batch.rows(rows))
            advice = "no example may depend on the others of its batch"
            for name in ("images", "params", "size"):
                what = f"{self.kind}: {name} of {len(rows)} of {count} examples, in another batch; {advice}"
                expect_alike(getattr(some, name), getattr(self.adversarial, name)[rows], self.tolerance, what)
        empty = self.run(self.batch.rows(slice(0, 0)))
        lengths = [len(part) for part in empty]
        expect(lengths == [0, 0, 0], f"{self.kind}: an empty batch gives {lengths} images, params and sizes")
        expect_images(empty.images, self.batch.images[:0], f"{self.kind}: an empty batch")

    def callers(self) -> None:
        """The classifier is attacked in eval mode without gradients of parameters, and restored."""
        classifier = _in_mixed_state(self.classifier)
        with expect_restored(self.kind, classifier):
            adversarial = self.run(self.batch, classifier)
        what = f"{self.kind}: on a classifier in training mode; attack it in eval mode"
        expect_alike(adversarial.images, self.adversarial.images, self.tolerance, what)
        classifier = _in_mixed_state(self.classifier)
        failing = classifier.register_forward_pre_hook(_failing(3))
        raising = f"{self.kind}, when the classifier raises an error,"
        with expect_restored(raising, classifier), suppress(ArithmeticError):
            self.run(self.batch, classifier)
        failing.remove()

    def refusals(self) -> None:
        """8-bit images and a wrong number of labels are refused."""
        images, labels, _, _ = self.batch
        bad = {"images above 1": (images * 255 + 1, labels), "one label too few": (images, labels[:-1])}
        for what, (bad_images, bad_labels) in bad.items():
            try:
                self.attack(self.classifier, bad_images, bad_labels, seeds=self.seeds)
            except ValueError:
                continue
            raise AssertionError(f"{self.kind} takes {what}: raise ValueError (gauntlet.checks.check_batch)")

    def distances(self) -> None:
        """Results are misclassified, and the same at every bound; misclassified clean images are not changed."""
        batch = self._unidentified()
        distance = self._distance(self.attack, self.adversarial)
        expect(bool((distance >= 0).all()), f"{self.kind}: a distance is {distance.min().item():.3g}, expected ≥ 0")
        with torch.no_grad():
            logits = logits_of(self.classifier, self.adversarial.images)
        correct = logits.argmax(1) == batch.labels
        failed = correct & (distance > 0)
        expect(
            not failed.any(),
            f"{self.kind}: row {first_row(failed)} at distance {distance[failed].sum().item():.4g} is not"
            f" misclassified: return the params of the zero image where nothing is found",
        )
        misclassified = self.batch._replace(labels=(batch.labels + 1) % logits.shape[1])
        moved = self._distance(self.attack, self.run(misclassified))
        expect(not moved.any(), f"{self.kind}: examples that are wrong already get distance {moved.max().item():.3g}")
        for share in (0.0, 0.5):
            other = _at_share(self.attack, share)
            if other is not None:
                adversarial = other(self.classifier, batch.images, batch.labels, seeds=self.seeds)
                expect_alike(
                    adversarial.images, self.adversarial.images, 0.0, f"{self.kind}: images depend on the bound"
                )
                what = f"{self.kind}: distances depend on the bound"
                expect_alike(self._distance(other, adversarial), distance, 0.0, what)

    def _distance(self, attack: Attack, adversarial: Adversarial) -> Tensor:
        distance = attack.verify(self.classifier, self._unidentified(), adversarial).distance
        if distance is None:
            raise AssertionError(f"{self.kind}.verify states no distance: expected [N] float64")
        expect(distance.dtype == torch.float64, f"{self.kind}.verify states distances in {distance.dtype}: float64")
        return distance


def check_nearest_of_linear(attack: Attack) -> None:
    """Check that no distance is below the closed form for a linear classifier, up to rounding.

    Args:
        attack: of minimum distance, in L∞, L2 or L1.
    """
    classifier = linear_classifier()
    images = some_images(low=0.45, high=0.55)
    batch = predicted_batch(classifier, images)
    adversarial = attack(classifier, images, batch.labels, seeds=batch.ids)
    distance = attack.verify(classifier, unidentified(images, batch.labels), adversarial).distance
    if distance is None:
        raise AssertionError(f"{name_of(attack)}.verify states no distance: expected [N] float64")
    optimum = linear_margins(classifier, images, DUAL_NORMS[type(attack.threat_model)])
    below = (distance > 0) & (distance < optimum * (1 - 1e-9))
    if below.any():
        row = first_row(below)
        raise AssertionError(
            f"{name_of(attack)}: distance {distance[row].item():.6g} on a linear classifier, whose nearest image of"
            f" another class is {optimum[row].item():.6g} away: measure the distance of the image itself"
        )


def _at_share(attack: Attack, share: float) -> Attack | None:
    """The attack at a share of its bounds; None if its threat model does not allow that bound."""
    try:
        other: Attack = altered(attack, BOUND, lambda value: share * value)
    except ValueError:
        return None
    return other if other.threat_model.bound == share * attack.threat_model.bound else None


def _in_mixed_state(classifier: nn.Module) -> nn.Module:
    """A copy in training mode except one part, with one parameter frozen and one with a gradient."""
    mixed = copy.deepcopy(classifier).train()
    parts, parameters = list(mixed.modules()), list(mixed.parameters())
    parts[-1].eval()
    if parameters:
        parameters[0].requires_grad_(False)
        parameters[-1].grad = torch.ones_like(parameters[-1])
    return mixed


def _failing(count: int) -> Callable[..., None]:
    """A hook that raises ArithmeticError at forward number `count`."""
    calls: list[Any] = []

    def hook(*_: Any) -> None:
        calls.append(None)
        if len(calls) == count:
            raise ArithmeticError(f"forward {count}")

    return hook
