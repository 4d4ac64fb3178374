"""Several attacks in one: the worst of them for every example, or one of them by chance.

All search the same threat model, so that the params and the size that come back mean one thing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gauntlet.attacks.search import Adversarial, Attack
from gauntlet.checks import check_batch, check_labels
from gauntlet.errors import NotFiniteError
from gauntlet.identity import describe, weights_of
from gauntlet.losses import margin
from gauntlet.noise import Noise, fresh_seeds
from gauntlet.scopes import evaluating, exact, frozen
from gauntlet.threats import ThreatModel


@dataclass(frozen=True, kw_only=True)
class WorstCase:
    """The attacks in turn, each on the examples that still stand: that were right at x and whatever came back so far.

    An example's image is the zero image (x, where a threat model has no other) if it was wrong there, else that of the
    first success, else that with the lowest margin of the label. What counts as right is a full-precision forward,
    never an attack's word.

    Args:
        threat_model: what all attacks search.
        attacks: by name, in the order in which they run.
    """

    threat_model: ThreatModel
    attacks: Mapping[str, Attack]

    def __post_init__(self) -> None:
        _check_same(self.threat_model, self.attacks)
        free = [name for name, attack in self.attacks.items() if not attack.stays_inside]
        if free:
            raise ValueError(
                f"{free} do not promise to stay inside their threat model, so that their success is none: give them a"
                f" projection"
            )

    @property
    def stays_inside(self) -> bool:
        """True: every attack promised."""
        return True

    def __call__(
        self, classifier: nn.Module, images: Tensor, labels: Tensor, *, seeds: Tensor | None = None
    ) -> Adversarial:
        """Attack a batch; as `Search.__call__`."""
        check_batch(images, labels)
        images, labels = images.detach(), labels.long()
        noise = Noise(fresh_seeds(len(images), images.device) if seeds is None else seeds)
        worst = _unchanged(self.threat_model, classifier, images)
        if not len(images):
            return worst
        lead, standing = _lead(classifier, worst.images, labels)
        for index, attack in enumerate(self.attacks.values()):
            if not standing.any():
                break
            rows = standing.nonzero()[:, 0]
            found = attack(classifier, images[rows], labels[rows], seeds=noise.stream(1 + index).seeds[rows])
            now, right = _lead(classifier, found.images, labels[rows])
            better = (now < lead[rows]) | ~right
            _put(worst, rows[better], Adversarial(*(part[better] for part in found)))
            lead[rows[better]] = now[better]
            standing[rows[~right]] = False
        return worst


@dataclass(frozen=True, kw_only=True)
class RandomChoice:
    """One of the attacks for each example, drawn from its seed; all are equally likely.

    Args:
        threat_model: what all attacks search.
        attacks: by name.
    """

    threat_model: ThreatModel
    attacks: Mapping[str, Attack]

    def __post_init__(self) -> None:
        _check_same(self.threat_model, self.attacks)

    @property
    def stays_inside(self) -> bool:
        """Whether every attack promises it."""
        return all(attack.stays_inside for attack in self.attacks.values())

    def __call__(
        self, classifier: nn.Module, images: Tensor, labels: Tensor, *, seeds: Tensor | None = None
    ) -> Adversarial:
        """Attack a batch; as `Search.__call__`. An attack that nobody drew costs nothing."""
        check_batch(images, labels)
        images, labels = images.detach(), labels.long()
        noise = Noise(fresh_seeds(len(images), images.device) if seeds is None else seeds)
        drawn = (noise.uniform((len(images),)) * len(self.attacks)).long()
        found = _unchanged(self.threat_model, classifier, images)
        for index, attack in enumerate(self.attacks.values()):
            rows = (drawn == index).nonzero()[:, 0]
            if len(rows):
                seeds = noise.stream(1 + index).seeds[rows]
                _put(found, rows, attack(classifier, images[rows], labels[rows], seeds=seeds))
        return found


def _check_same(threat_model: ThreatModel, attacks: Mapping[str, Attack]) -> None:
    """Raise ValueError unless there are attacks and all search just this threat model, its networks included."""
    if not attacks:
        raise ValueError("a combination of no attacks: expected at least one, by name")
    expected, weights = _allowed(threat_model), weights_of(threat_model)
    for name, attack in attacks.items():
        other = attack.threat_model
        if _allowed(other) != expected or weights_of(other) != weights:
            raise ValueError(
                f"{name} searches {_short(other)} and the combination {_short(threat_model)}: expected one threat"
                f" model for all; in YAML write threat_model: ${{...threat_model}} in each of the attacks"
            )


def _allowed(thing: Any) -> Any:
    """What a threat model allows: its description without the fields that only guide a search (`compare=False`)."""
    if is_dataclass(thing) and not isinstance(thing, type):
        return [type(thing).__qualname__, *(_allowed(getattr(thing, f.name)) for f in fields(thing) if f.compare)]
    if isinstance(thing, Sequence) and not isinstance(thing, str):
        return [_allowed(value) for value in thing]
    return describe(thing)


def _short(threat_model: ThreatModel) -> str:
    return f"{threat_model.name} of bound {threat_model.bound:g}"


@torch.no_grad()
def _unchanged(threat_model: ThreatModel, classifier: nn.Module, images: Tensor) -> Adversarial:
    with frozen(classifier), evaluating(classifier), exact():
        region = threat_model.around(images, classifier)
        params = region.identity()
        size = region.size(params) if len(images) else images.new_zeros(0)
        return Adversarial(region.perturb(params).clone(), params.clone(), size.clone())


@torch.no_grad()
def _lead(classifier: nn.Module, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The margin of the labels and where they are predicted, `[N]` each, by a full-precision forward."""
    with frozen(classifier), evaluating(classifier), exact():
        logits = classifier(images)
    check_labels(labels, logits.shape[1])
    nan = logits.isnan().any(1)
    if nan.any():
        raise NotFiniteError(
            f"the classifier answered NaN for example {int(nan.nonzero()[0])} of the batch: such examples are neither"
            f" right nor robust"
        )
    return margin(logits, labels), logits.argmax(1) == labels


def _put(whole: Adversarial, rows: Tensor, part: Adversarial) -> None:
    """Write what was found for some of the examples."""
    for to, what in zip(whole, part, strict=True):
        to[rows] = what.to(to.dtype)
