"""Several attacks in one: the worst of them for every example, or one of them by chance.

All search the same threat model, or each its own member of a union of them, so that the params and the size that come
back mean one thing.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass
from functools import cached_property
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn

from gauntlet.attacks.attack import Adversarial, Attack
from gauntlet.checks import at_least_float32, check_answers, check_batch, check_labels
from gauntlet.data import Batch, unidentified
from gauntlet.identity import describe, weights_of
from gauntlet.kinds import Kind
from gauntlet.losses import margin
from gauntlet.models import logits_of
from gauntlet.noise import Noise, fresh_seeds
from gauntlet.scopes import evaluating, exact, frozen
from gauntlet.threats import AnyOf, SearchableThreatModel, ThreatModel
from gauntlet.threats.any_of import UnionRegion


class AttackBatch:
    """A batch, and the attacks that may be sent at some of it."""

    def __init__(self, combination: Combination, classifier: nn.Module, batch: Batch, noise: Noise) -> None:
        self._combination, self._classifier = combination, classifier
        self._batch, self._noise = batch, noise
        with self._looking():
            self._region = combination.threat_model.around(batch, classifier)

    def unchanged(self) -> Adversarial:
        """The zero image of every example."""
        with self._looking():
            params = self._region.zero()
            size = self._region.size(params) if len(params) else self._batch.images.new_zeros(0)
            return Adversarial(self._region.perturb(params).clone(), params.clone(), size.clone())

    def sent(self, index: int, attack: Attack, rows: Tensor) -> Adversarial:
        """What attack number `index` finds for some of the examples."""
        found = attack.run(self._classifier, self._batch.rows(rows), self._noise.stream(1 + index).rows(rows))
        member = self._combination.members[index]
        if member is None:
            return found
        assert isinstance(self._region, UnionRegion)
        return found._replace(params=self._region.pack(member, found.params))

    def lead(self, images: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """The margin of the labels and where they are predicted, `[n]` each, by a full-precision forward."""
        labels = self._batch.labels[rows]
        with self._looking():
            logits = logits_of(self._classifier, images)
        check_labels(labels, logits.shape[1])
        check_answers(logits.isnan().any(1))
        return margin(logits, labels), logits.argmax(1) == labels

    @contextmanager
    def _looking(self) -> Iterator[None]:
        with torch.no_grad(), frozen(self._classifier), evaluating(self._classifier), exact():
            yield


@dataclass(frozen=True, kw_only=True)
class Combination(Attack):
    """Attacks under one threat model.

    Args:
        threat_model: what all attacks search; where it is an `AnyOf`, each may search one of its members instead.
        attacks: by name.
    """

    threat_model: SearchableThreatModel
    attacks: Mapping[str, Attack]

    def __post_init__(self) -> None:
        if not self.attacks:
            raise ValueError("a combination of no attacks: expected at least one, by name")
        nearest = [name for name, attack in self.attacks.items() if attack.kind is Kind.MINIMUM_DISTANCE]
        if nearest:
            raise ValueError(
                f"{nearest} search for the nearest image, which may be outside the bound: expected attacks that search"
                f" at the bound; make minimum-distance attacks entries of the suite beside this one"
            )
        assert len(self.members) == len(self.attacks)

    @cached_property
    def members(self) -> tuple[int | None, ...]:
        """For each attack the number of the member of the union that it searches, or None: all there is.

        Raises:
            ValueError: an attack searches something else.
        """
        return tuple(_member(self.threat_model, name, attack.threat_model) for name, attack in self.attacks.items())

    @final
    def __call__(
        self, classifier: nn.Module, images: Tensor, labels: Tensor, *, seeds: Tensor | None = None
    ) -> Adversarial:
        """Attack a batch of which ids and codes are unknown; as `Search.__call__`."""
        noise = Noise(fresh_seeds(len(images), images.device) if seeds is None else seeds)
        return self.run(classifier, unidentified(images, labels), noise)

    @final
    def run(self, classifier: nn.Module, batch: Batch, noise: Noise) -> Adversarial:
        """Attack a batch as `__call__` does, with random numbers of its own; each attack is given its part of it."""
        check_batch(batch.images, batch.labels)
        batch = batch._replace(images=at_least_float32(batch.images.detach()), labels=batch.labels.long())
        attack_batch = AttackBatch(self, classifier, batch, noise)
        found = attack_batch.unchanged()
        if len(batch.images):
            self.combine(attack_batch, found, noise)
        return found

    @abstractmethod
    def combine(self, attack_batch: AttackBatch, found: Adversarial, noise: Noise) -> None:
        """Send attacks, and write over the zero images of a batch of at least 1 what they find."""


@dataclass(frozen=True, kw_only=True)
class WorstCase(Combination):
    """The attacks in turn, each on the examples that still stand: that were right at x and whatever came back so far.

    An example's image is the zero image (x, where a threat model has no other) if it was wrong there, else that of the
    first success, else that with the lowest margin of the label. What counts as right is a full-precision forward,
    never an attack's word. Under an `AnyOf` its size is a share of the bound of the member that it belongs to.

    Args:
        threat_model: what all attacks search; where it is an `AnyOf`, each may search one of its members instead.
        attacks: by name, in the order in which they run.
    """

    identity: ClassVar[str] = "worst_case/1"

    def __post_init__(self) -> None:
        super().__post_init__()
        free = [name for name, attack in self.attacks.items() if not attack.stays_inside]
        if free:
            raise ValueError(
                f"{free} do not promise to stay inside their threat model, so that their success is none: give them a"
                f" projection"
            )

    def combine(self, attack_batch: AttackBatch, found: Adversarial, noise: Noise) -> None:
        """As above."""
        everyone = torch.arange(len(found.images), device=found.images.device)
        lead, standing = attack_batch.lead(found.images, everyone)
        for index, attack in enumerate(self.attacks.values()):
            if not standing.any():
                return
            rows = everyone[standing]
            part = attack_batch.sent(index, attack, rows)
            now, right = attack_batch.lead(part.images, rows)
            better = (now < lead[rows]) | ~right
            _put(found, rows[better], Adversarial(*(tensor[better] for tensor in part)))
            lead[rows[better]] = now[better]
            standing[rows[~right]] = False


@dataclass(frozen=True, kw_only=True)
class RandomChoice(Combination):
    """One of the attacks for each example, drawn from its seed; all are equally likely.

    Args:
        threat_model: what all attacks search; where it is an `AnyOf`, each may search one of its members instead.
        attacks: by name.
    """

    identity: ClassVar[str] = "random_choice/1"

    @property
    def stays_inside(self) -> bool:
        """Whether every attack promises it."""
        return all(attack.stays_inside for attack in self.attacks.values())

    def combine(self, attack_batch: AttackBatch, found: Adversarial, noise: Noise) -> None:
        """An attack that nobody drew costs nothing."""
        drawn = (noise.uniform((len(found.images),)) * len(self.attacks)).long()
        for index, attack in enumerate(self.attacks.values()):
            rows = (drawn == index).nonzero()[:, 0]
            if len(rows):
                _put(found, rows, attack_batch.sent(index, attack, rows))


def _member(threat_model: ThreatModel, name: str, searched: ThreatModel) -> int | None:
    """Which member of a union an attack searches, or None for the whole; networks count by their weights."""
    members = threat_model.members if isinstance(threat_model, AnyOf) else ()
    for index, candidate in enumerate((threat_model, *members)):
        if _allowed(candidate) == _allowed(searched) and weights_of(candidate) == weights_of(searched):
            return index - 1 if index else None
    expected = "the union or a member of it" if members else "one threat model for all, or an AnyOf of theirs"
    raise ValueError(
        f"{name} searches {_short(searched)} and the combination {_short(threat_model)}: expected {expected}; in YAML"
        f" write threat_model: ${{...threat_model}}{'.members.…' if members else ''} in each of the attacks"
    )


def _allowed(thing: Any) -> Any:
    """What a threat model allows: its description without the fields that only guide a search (`compare=False`)."""
    if is_dataclass(thing) and not isinstance(thing, type):
        return [type(thing), *(_allowed(getattr(thing, f.name)) for f in fields(thing) if f.compare)]
    if isinstance(thing, Sequence) and not isinstance(thing, str):
        return [_allowed(value) for value in thing]
    return describe(thing)


def _short(threat_model: ThreatModel) -> str:
    return f"{threat_model.name} of bound {threat_model.bound:g}"


def _put(whole: Adversarial, rows: Tensor, part: Adversarial) -> None:
    """Write what was found for some of the examples."""
    for to, what in zip(whole, part, strict=True):
        to[rows] = what.to(to.dtype)
