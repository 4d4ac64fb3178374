"""Sanity checks that run the classifier, on a few dozen examples, each about four times as expensive as the suite.

After Carlini et al., "On evaluating adversarial robustness", 2019, §5, and Croce and Hein's checks of AutoAttack.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from gauntlet.attacks import PGD, Attack
from gauntlet.data import Batch
from gauntlet.evaluation.batch_sizer import BatchSizer
from gauntlet.evaluation.flags import Flag, share
from gauntlet.evaluation.suite import AttackSuite
from gauntlet.evaluation.verification import device_of
from gauntlet.goals import Untargeted
from gauntlet.identity import stream_of
from gauntlet.models import ascent_logits, logits_and_surrogate, outputs_for
from gauntlet.noise import Noise, mix
from gauntlet.scopes import evaluating, exact, frozen
from gauntlet.task import CLASSIFICATION, DecidingTask, Task
from gauntlet.threats import Linf
from gauntlet.varied import BOUND, SPREAD, STEPS, altered, scaled

_NOISES = 10  # random images per example


def probe(
    classifier: nn.Module, suite: AttackSuite, batch: Batch, seed: int = 0, task: Task = CLASSIFICATION
) -> list[Flag]:
    """Check a classifier, and every attack of a suite on it.

    Args:
        classifier: on the device to use.
        suite: contains the attacks.
        batch: a few examples, for instance 64; attacks are checked on those that are classified correctly.
        seed: seed of the attacks.
        task: the dataset's task; if it has scores alone, only the classifier is checked.
    """
    device = device_of(classifier)
    batch = batch.to(device)
    with exact(), evaluating(classifier):
        flags = [_same_twice(task, classifier, batch.images)]
        if isinstance(task, DecidingTask):
            flags.append(_logits(classifier, batch.images))
        if not flags[0].raised:
            flags += [_same_alone(task, classifier, batch.images)]
        if not isinstance(task, DecidingTask):
            return flags
        with torch.no_grad():
            right = task.correct(outputs_for(task, classifier, batch.images), batch.labels)
        batch = batch.rows(right)
        if not len(batch.labels):
            return flags
        flags += _tried(lambda: _unbounded(task, classifier, batch, mix(seed, batch.ids)), "unbounded", None)
        for name, attack in suite.bounded.items():
            if attack.threat_model.bound:
                seeds = mix(seed, stream_of(attack), batch.ids)
                checks = _Checks(task, classifier, name, attack, batch, seeds)
                for check in (checks.gradients, checks.noise, checks.bound, checks.converged):
                    flags += _tried(check, check.__name__, name)
    return flags


def _tried(check: Callable[[], Iterator[Flag]], name: str, attack: str | None) -> list[Flag]:
    """Return the flags of a check. If it raises an error, return a flag that says so, and let the evaluation go on."""
    try:
        return list(check())
    except Exception as error:  # attacks and losses may be a user's own
        return [Flag(name, attack, 1.0, 0.0, f"this could not be checked: {error}")]


@torch.no_grad()
def _same_twice(task: Task, classifier: nn.Module, images: Tensor) -> Flag:
    why = "share of examples whose logits differ between two passes: attacks on a random classifier need averaging"
    differ = (outputs_for(task, classifier, images) != outputs_for(task, classifier, images)).flatten(1).any(1)
    return Flag("deterministic", None, share(differ), 0.0, why)


@torch.no_grad()
def _same_alone(task: Task, classifier: nn.Module, images: Tensor) -> Flag:
    why = "share of examples whose logits differ in half the batch: they depend on what else is in the batch"
    whole = outputs_for(task, classifier, images).flatten(1)
    parts = images.split(max(1, (len(images) + 1) // 2))
    halves = torch.cat([outputs_for(task, classifier, part) for part in parts]).flatten(1)
    # Relative to each example's own logits, which may be small, or those of another example large.
    largest = torch.where(whole.isfinite(), whole, 0).abs().amax(1, keepdim=True)
    differ = ((whole != halves) & ~((whole - halves).abs() <= 1e-3 * largest)).any(1)
    return Flag("batch", None, share(differ), 0.0, why)


@torch.no_grad()
def _logits(classifier: nn.Module, images: Tensor) -> Flag:
    """Check the logits that attacks maximise; those of a classifier with a surrogate may lie in [0, 1]."""
    why = "share of examples whose logits all lie in [0, 1]: a softmax or sigmoid in the classifier flattens every loss"
    logits = ascent_logits(classifier, images)
    unmasked = logits != -torch.inf
    bounded = ((logits >= 0) & (logits <= 1) | ~unmasked).all(1) & unmasked.any(1)
    return Flag("logits", None, share(bounded), 0.5, why)


def _unbounded(task: DecidingTask, classifier: nn.Module, batch: Batch, seeds: Tensor) -> Iterator[Flag]:
    why = "share of examples still correct under PGD with any image allowed: attacks cannot optimise on this classifier"
    any_image = PGD(threat_model=Linf(1.0), steps=100, step_size=0.05, restarts=3)
    yield Flag("unbounded", None, share(_margin(task, classifier, any_image, batch, seeds) > 0), 0.0, why)


class _Checks:
    """The checks of one attack on correctly classified examples."""

    def __init__(
        self, task: DecidingTask, classifier: nn.Module, name: str, attack: Attack, batch: Batch, seeds: Tensor
    ) -> None:
        self.task, self.classifier, self.name, self.attack, self.batch = task, classifier, name, attack, batch
        self.images, self.labels, self.seeds = batch.images, batch.labels, seeds
        self._own_margin: Tensor | None = None

    def gradients(self) -> Iterator[Flag]:
        """Check the gradient of the objective at the clean images, unless flat by construction, and at the start."""
        if self.attack.gradient_free:
            return
        why = "share of examples where the attack's gradient is zero or not finite: it cannot find a direction"
        with torch.enable_grad(), frozen(self.classifier):
            region = self.attack.threat_model.around(self.batch, self.classifier)
            points = [region.start(Noise(self.seeds))]
            if not region.flat_at_zero:
                points.append(region.zero())
            useful = [self._has_gradient(region.perturb, point) for point in points]
        known = [mask for mask in useful if mask is not None]
        if len(known) == len(points):
            yield Flag("gradients", self.name, share(~torch.stack(known).all(0)), 0.05, why)

    def noise(self) -> Iterator[Flag]:
        """Check that random images of the threat model break no example that the attack leaves correct."""
        if self.attack.gradient_free:
            return
        why = f"share of examples that {_NOISES} random images break and the attack does not: gradients mislead"
        random = PGD(threat_model=altered(self.attack.threat_model, SPREAD, lambda _: 1.0), steps=0, restarts=_NOISES)
        missed = (self._margin_under(self.attack) > 0) & (self._margin_under(random) <= 0)
        yield Flag("black box", self.name, share(missed), 0.002, why)

    def bound(self) -> Iterator[Flag]:
        """Check that accuracy does not rise with twice the bound."""
        why = "how much accuracy rises when the bound is doubled: the attack fails in a larger threat model"
        try:
            wider = scaled(self.attack, BOUND, 2)
            wider.threat_model.around(self.batch.rows(slice(1)), self.classifier)
        except ValueError:  # the threat model has no larger bound
            return
        if wider is not self.attack:
            rise = share(self._margin_under(wider) > 0) - share(self._margin_under(self.attack) > 0)
            yield Flag("bound", self.name, max(0.0, rise), 0.05, why)

    def converged(self) -> Iterator[Flag]:
        """Check that twice the steps hardly lower the margins of the examples that are still correct."""
        longer = scaled(self.attack, STEPS, 2)
        if longer is self.attack or self.attack.gradient_free:
            return
        why = "what twice the steps add to the drop of the margin of correct examples, as a share: it has not converged"
        before, after = self._margin_under(self.attack), self._margin_under(longer)
        correct = before > 0
        with torch.no_grad():
            clean = self.task.margin(outputs_for(self.task, self.classifier, self.images), self.labels)
            drop = (clean - before)[correct].sum()
        more = (before - after.clamp(min=0))[correct].sum()
        value = float((more / drop).clamp(0, 1)) if more > 0 and drop > 0 else float(more > 0)
        yield Flag("converged", self.name, value, 0.1, why)

    def _has_gradient(self, perturb: Callable[[Tensor], Tensor], point: Tensor) -> Tensor | None:
        """Return where the gradient is finite and not zero, `[n]`; None if the images do not depend on the params.

        Zero is accepted if the goal is reached, because a capped margin is flat beyond it.
        """
        params = point.detach().requires_grad_()
        images = perturb(params)
        if not images.requires_grad:
            return None
        answers = logits_and_surrogate(self.classifier, images)
        ascended = answers.logits if answers.surrogate is None else answers.surrogate
        objective = getattr(self.attack, "goal", Untargeted()).bind(self.labels, Noise(self.seeds).stream(1))
        goal = objective.with_targets(lambda: ascent_logits(self.classifier, self.images).detach()).at_target(0)
        gain = goal.gain(ascended).sum()
        gradient = torch.autograd.grad(gain, params, allow_unused=True)[0] if gain.requires_grad else None
        gradient = torch.zeros_like(params) if gradient is None else gradient
        gradient = gradient.flatten(1)
        reached: Tensor = goal.reached(answers.logits)
        return gradient.isfinite().all(1) & ((gradient != 0).any(1) | reached)

    def _margin_under(self, attack: Attack) -> Tensor:
        """Return the label's margin on the attack's images, `[n]`. For the attack itself it is computed only once."""
        if attack is not self.attack:
            return _margin(self.task, self.classifier, attack, self.batch, self.seeds)
        if self._own_margin is None:
            self._own_margin = _margin(self.task, self.classifier, attack, self.batch, self.seeds)
        return self._own_margin


def _margin(task: DecidingTask, classifier: nn.Module, attack: Attack, batch: Batch, seeds: Tensor) -> Tensor:
    def measure(rows: slice) -> Tensor:
        images = attack.run(classifier, batch.rows(rows), Noise(seeds[rows])).images
        with torch.no_grad():
            return task.margin(outputs_for(task, classifier, images), batch.labels[rows])

    return torch.cat(BatchSizer().run("the attack", len(batch.labels), measure))
