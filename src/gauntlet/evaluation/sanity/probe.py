"""Sanity checks that need the classifier: a few dozen examples, about four times the suite's price for each of them.

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
from gauntlet.models import answers_of, climbed_of, outputs_for
from gauntlet.noise import Noise, mix
from gauntlet.scopes import evaluating, exact, frozen
from gauntlet.task import CLASSIFICATION, DecidingTask, Task
from gauntlet.threats import Linf
from gauntlet.varied import BOUND, SPREAD, STEPS, altered, scaled

_NOISES = 10  # random images per example


def probe(
    classifier: nn.Module, suite: AttackSuite, batch: Batch, seed: int = 0, task: Task = CLASSIFICATION
) -> list[Flag]:
    """Check a classifier, and every attack of a suite on it. Nothing is left changed.

    Args:
        classifier: on the device to use.
        suite: the attacks.
        batch: a few examples, 64 say; the attacks are checked on those the classifier gets right.
        seed: of the attacks.
        task: of the dataset; of one without a yes or no per example only the classifier is checked.
    """
    device = device_of(classifier)
    batch = batch.to(device)
    with exact(), evaluating(classifier):
        found = [_same_twice(task, classifier, batch.images)]
        if isinstance(task, DecidingTask):
            found.append(_logits(classifier, batch.images))
        if not found[0].raised:
            found += [_same_alone(task, classifier, batch.images)]
        if not isinstance(task, DecidingTask):
            return found
        with torch.no_grad():
            right = task.correct(outputs_for(task, classifier, batch.images), batch.labels)
        batch = batch.rows(right)
        if not len(batch.labels):
            return found
        found += _tried(lambda: _unbounded(task, classifier, batch, mix(seed, batch.ids)), "unbounded", None)
        for name, attack in suite.bounded.items():
            if attack.threat_model.bound:
                seeds = mix(seed, stream_of(attack), batch.ids)
                checks = _Checks(task, classifier, name, attack, batch, seeds)
                for check in (checks.gradients, checks.noise, checks.bound, checks.converged):
                    found += _tried(check, check.__name__, name)
    return found


def _tried(check: Callable[[], Iterator[Flag]], name: str, attack: str | None) -> list[Flag]:
    """The flags of a check; where an attack failed in it, a flag that says so: no check may cost an evaluation."""
    try:
        return list(check())
    except Exception as error:  # attacks and losses are other people's as well
        return [Flag(name, attack, 1.0, 0.0, f"this could not be checked: {error}")]


@torch.no_grad()
def _same_twice(task: Task, classifier: nn.Module, images: Tensor) -> Flag:
    why = "share of examples whose logits differ when asked twice: attacks on a random classifier need averaging"
    differ = (outputs_for(task, classifier, images) != outputs_for(task, classifier, images)).flatten(1).any(1)
    return Flag("deterministic", None, share(differ), 0.0, why)


@torch.no_grad()
def _same_alone(task: Task, classifier: nn.Module, images: Tensor) -> Flag:
    why = "share of examples whose logits differ in half the batch: they depend on what else is in the batch"
    whole = outputs_for(task, classifier, images).flatten(1)
    parts = images.split(max(1, (len(images) + 1) // 2))
    halves = torch.cat([outputs_for(task, classifier, part) for part in parts]).flatten(1)
    largest = torch.where(whole.isinf(), 0, whole).abs().amax(1, keepdim=True)
    differ = ((whole != halves) & ~((whole - halves).abs() <= 1e-3 * largest.clamp(min=1))).any(1)
    return Flag("batch", None, share(differ), 0.0, why)


@torch.no_grad()
def _logits(classifier: nn.Module, images: Tensor) -> Flag:
    """Of what is climbed: the votes of a classifier with a surrogate may well be shares."""
    why = "share of examples whose logits all lie in [0, 1]: a softmax or sigmoid in the classifier flattens every loss"
    answers = climbed_of(classifier, images)
    exist = answers != -torch.inf
    bounded = ((answers >= 0) & (answers <= 1) | ~exist).all(1) & exist.any(1)
    return Flag("logits", None, share(bounded), 0.5, why)


def _unbounded(task: DecidingTask, classifier: nn.Module, batch: Batch, seeds: Tensor) -> Iterator[Flag]:
    why = "share of examples still right under PGD that may show any image at all: attacks cannot climb this classifier"
    anything = PGD(threat_model=Linf(1.0), steps=100, step_size=0.05, restarts=3)
    yield Flag("unbounded", None, share(_lead(task, classifier, anything, batch, seeds) > 0), 0.0, why)


class _Checks:
    """The checks of one attack on the examples that are right before it."""

    def __init__(
        self, task: DecidingTask, classifier: nn.Module, name: str, attack: Attack, batch: Batch, seeds: Tensor
    ) -> None:
        self.task, self.classifier, self.name, self.attack, self.batch = task, classifier, name, attack, batch
        self.images, self.labels, self.seeds = batch.images, batch.labels, seeds
        self._found: Tensor | None = None

    def gradients(self) -> Iterator[Flag]:
        """At the clean images and where a search begins, of what the attack climbs."""
        if self.attack.gradient_free:
            return
        why = "share of examples where the attack's gradient is zero or not finite: it cannot see where to go"
        with torch.enable_grad(), frozen(self.classifier):
            region = self.attack.threat_model.around(self.batch, self.classifier)
            points = (region.zero(), region.start(Noise(self.seeds)))
            seeing = [self._sees(region.perturb, point) for point in points]
        sound = [where for where in seeing if where is not None]
        if len(sound) == len(points):
            yield Flag("gradients", self.name, share(~torch.stack(sound).all(0)), 0.05, why)

    def noise(self) -> Iterator[Flag]:
        """Random images of the same threat model must not break what the attack left."""
        if self.attack.gradient_free:
            return
        why = f"share of examples that {_NOISES} random images break and the attack does not: gradients mislead"
        random = PGD(threat_model=altered(self.attack.threat_model, SPREAD, lambda _: 1.0), steps=0, restarts=_NOISES)
        missed = (self._lead(self.attack) > 0) & (self._lead(random) <= 0)
        yield Flag("black box", self.name, share(missed), 0.002, why)

    def bound(self) -> Iterator[Flag]:
        """With twice the bound, accuracy must not rise."""
        why = "how much accuracy rises when the bound is doubled: the attack fails in a larger threat model"
        try:
            wider = scaled(self.attack, BOUND, 2)
            wider.threat_model.around(self.batch.rows(slice(1)), self.classifier)
        except ValueError:  # there is no such bound: everything is inside already
            return
        if wider is not self.attack:
            rise = share(self._lead(wider) > 0) - share(self._lead(self.attack) > 0)
            yield Flag("bound", self.name, max(0.0, rise), 0.05, why)

    def converged(self) -> Iterator[Flag]:
        """With twice the steps, the examples that stand must lead by nearly as much as before."""
        longer = scaled(self.attack, STEPS, 2)
        if longer is self.attack or self.attack.gradient_free:
            return
        why = "what twice the steps add to the fall of the lead of standing examples, as a share: it has not converged"
        before, after = self._lead(self.attack), self._lead(longer)
        stood = before > 0
        with torch.no_grad():
            clean = self.task.margin(outputs_for(self.task, self.classifier, self.images), self.labels)
            fall = (clean - before)[stood].sum()
        more = (before - after.clamp(min=0))[stood].sum()
        value = float((more / fall).clamp(0, 1)) if more > 0 and fall > 0 else float(more > 0)
        yield Flag("converged", self.name, value, 0.1, why)

    def _sees(self, perturb: Callable[[Tensor], Tensor], point: Tensor) -> Tensor | None:
        """Where the gradient is finite and, unless the goal is reached there, not zero, `[n]`.

        Beyond its goal a capped margin is flat, and the search is over. None where the images hang on nothing.
        """
        params = point.detach().requires_grad_()
        images = perturb(params)
        if not images.requires_grad:
            return None
        answers = answers_of(self.classifier, images)
        ascent_logits = answers.logits if answers.surrogate is None else answers.surrogate
        aims = getattr(self.attack, "goal", Untargeted()).bind(self.labels, Noise(self.seeds).stream(1))
        goal = aims.with_targets(lambda: climbed_of(self.classifier, self.images).detach()).at_target(0)
        gain = goal.gain(ascent_logits).sum()
        gradient = torch.autograd.grad(gain, params, allow_unused=True)[0] if gain.requires_grad else None
        slope = (torch.zeros_like(params) if gradient is None else gradient).flatten(1)
        reached: Tensor = goal.reached(answers.logits)
        return slope.isfinite().all(1) & ((slope != 0).any(1) | reached)

    def _lead(self, attack: Attack) -> Tensor:
        """The label's lead on what comes back, `[n]`; that of the attack as it is, is computed once."""
        if attack is not self.attack:
            return _lead(self.task, self.classifier, attack, self.batch, self.seeds)
        if self._found is None:
            self._found = _lead(self.task, self.classifier, attack, self.batch, self.seeds)
        return self._found


def _lead(task: DecidingTask, classifier: nn.Module, attack: Attack, batch: Batch, seeds: Tensor) -> Tensor:
    def measure(rows: slice) -> Tensor:
        found = attack.run(classifier, batch.rows(rows), Noise(seeds[rows])).images
        with torch.no_grad():
            return task.margin(outputs_for(task, classifier, found), batch.labels[rows])

    return torch.cat(BatchSizer().run("the attack", len(batch.labels), measure))
