"""Several attacks in one: the worst of them for every example, or one at random.

All search the same threat model, or each a member of a union, so that the returned params and sizes have one meaning.
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
    """A batch, parts of which the attacks of a combination are run on."""

    def __init__(self, combination: Combination, classifier: nn.Module, batch: Batch, noise: Noise) -> None:
        self._combination, self._classifier = combination, classifier
        self._batch, self._noise = batch, noise
        with self._inference():
            self._region = combination.threat_model.around(batch, classifier)

    def unchanged(self) -> Adversarial:
        """The zero image of every example."""
        with self._inference():
            params = self._region.zero()
            size = self._region.size(params) if len(params) else self._batch.images.new_zeros(0)
            return Adversarial(self._region.perturb(params).clone(), params.clone(), size.clone())

    def run(self, index: int, attack: Attack, rows: Tensor) -> Adversarial:
        """Run attack number `index` on some of the examples."""
        noise = self._noise.stream(1 + index).rows(rows)
        adversarial = attack.run(self._classifier, self._batch.rows(rows), noise)
        member = self._combination.members[index]
        if member is None:
            return adversarial
        assert isinstance(self._region, UnionRegion)
        return adversarial._replace(params=self._region.pack(member, adversarial.params))

    def margins(self, images: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """The margin of the labels and where they are predicted, `[n]` each, in full precision."""
        labels = self._batch.labels[rows]
        with self._inference():
            logits = logits_of(self._classifier, images)
        check_labels(labels, logits.shape[1])
        check_answers(logits.isnan().any(1))
        return margin(logits, labels), logits.argmax(1) == labels

    @contextmanager
    def _inference(self) -> Iterator[None]:
        with torch.no_grad(), frozen(self._classifier), evaluating(self._classifier), exact():
            yield


@dataclass(frozen=True, kw_only=True)
class Combination(Attack):
    """Attacks under one threat model.

    Args:
        threat_model: the images to search; where it is an `AnyOf`, each attack may search one of its members instead.
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
                f"{nearest} are minimum-distance attacks, whose images may be outside the bound: expected attacks at"
                f" the bound; make minimum-distance attacks entries of the suite beside this one"
            )
        assert len(self.members) == len(self.attacks)

    @cached_property
    def members(self) -> tuple[int | None, ...]:
        """For each attack the index of the member of the union that it searches, or None for the whole threat model.

        Raises:
            ValueError: an attack searches something else.
        """
        return tuple(_member(self.threat_model, name, attack.threat_model) for name, attack in self.attacks.items())

    @final
    def __call__(
        self, classifier: nn.Module, images: Tensor, labels: Tensor, *, seeds: Tensor | None = None
    ) -> Adversarial:
        """Attack a batch without ids and codes; see `Search.__call__`."""
        noise = Noise(fresh_seeds(len(images), images.device) if seeds is None else seeds)
        return self.run(classifier, unidentified(images, labels), noise)

    @final
    def run(self, classifier: nn.Module, batch: Batch, noise: Noise) -> Adversarial:
        """Attack a batch as `__call__` does, with given ids, codes and random numbers."""
        check_batch(batch.images, batch.labels)
        batch = batch._replace(images=at_least_float32(batch.images.detach()), labels=batch.labels.long())
        attack_batch = AttackBatch(self, classifier, batch, noise)
        adversarial = attack_batch.unchanged()
        if len(batch.images):
            self.combine(attack_batch, adversarial, noise)
        return adversarial

    @abstractmethod
    def combine(self, attack_batch: AttackBatch, adversarial: Adversarial, noise: Noise) -> None:
        """Run attacks on a batch of at least 1 example and write their results over its zero images."""


@dataclass(frozen=True, kw_only=True)
class WorstCase(Combination):
    """The attacks in order, each on the examples still correct: at x, and on every image returned so far.

    The result of an example is the zero image (x, unless the threat model has another) if it is misclassified, else
    that of the first success, else that with the lowest margin. Predictions are those of a full-precision forward here,
    not of the attack. Under an `AnyOf` the size is a share of the bound of the member that the image belongs to.

    Args:
        threat_model: the images to search; where it is an `AnyOf`, each attack may search one of its members instead.
        attacks: by name, in the order in which they run.
    """

    identity: ClassVar[str] = "worst_case/1"

    def __post_init__(self) -> None:
        super().__post_init__()
        unprojected = [name for name, attack in self.attacks.items() if not attack.stays_inside]
        if unprojected:
            raise ValueError(
                f"{unprojected} may return images outside the threat model, which do not count: give them a projection"
            )

    def combine(self, attack_batch: AttackBatch, adversarial: Adversarial, noise: Noise) -> None:
        """As above."""
        indices = torch.arange(len(adversarial.images), device=adversarial.images.device)
        margins, still_correct = attack_batch.margins(adversarial.images, indices)
        for index, attack in enumerate(self.attacks.values()):
            if not still_correct.any():
                return
            rows = indices[still_correct]
            part = attack_batch.run(index, attack, rows)
            new_margins, correct = attack_batch.margins(part.images, rows)
            better = (new_margins < margins[rows]) | ~correct
            _write_rows(adversarial, rows[better], Adversarial(*(tensor[better] for tensor in part)))
            margins[rows[better]] = new_margins[better]
            still_correct[rows[~correct]] = False


@dataclass(frozen=True, kw_only=True)
class RandomChoice(Combination):
    """One of the attacks for each example, drawn from its seed; all are equally likely.

    Args:
        threat_model: the images to search; where it is an `AnyOf`, each attack may search one of its members instead.
        attacks: by name.
    """

    identity: ClassVar[str] = "random_choice/1"

    @property
    def stays_inside(self) -> bool:
        """Whether every attack does."""
        return all(attack.stays_inside for attack in self.attacks.values())

    def combine(self, attack_batch: AttackBatch, adversarial: Adversarial, noise: Noise) -> None:
        """As above. An attack that is drawn for no example costs nothing."""
        drawn = (noise.uniform((len(adversarial.images),)) * len(self.attacks)).long()
        for index, attack in enumerate(self.attacks.values()):
            rows = (drawn == index).nonzero()[:, 0]
            if len(rows):
                _write_rows(adversarial, rows, attack_batch.run(index, attack, rows))


def _member(threat_model: ThreatModel, name: str, searched: ThreatModel) -> int | None:
    """Which member of a union an attack searches, or None for the whole; networks count by their weights."""
    members = threat_model.members if isinstance(threat_model, AnyOf) else ()
    for index, candidate in enumerate((threat_model, *members)):
        if _images_of(candidate) == _images_of(searched) and weights_of(candidate) == weights_of(searched):
            return index - 1 if index else None
    expected = "the union or a member of it" if members else "one threat model for all, or an AnyOf of theirs"
    raise ValueError(
        f"{name} searches {_short(searched)} and the combination {_short(threat_model)}: expected {expected}; in YAML"
        f" write threat_model: ${{...threat_model}}{'.members.…' if members else ''} in each of the attacks"
    )


def _images_of(thing: Any) -> Any:
    """Describe the images of a threat model, without the fields that only guide a search (`compare=False`)."""
    if is_dataclass(thing) and not isinstance(thing, type):
        return [type(thing), *(_images_of(getattr(thing, f.name)) for f in fields(thing) if f.compare)]
    if isinstance(thing, Sequence) and not isinstance(thing, str):
        return [_images_of(value) for value in thing]
    return describe(thing)


def _short(threat_model: ThreatModel) -> str:
    return f"{threat_model.name} of bound {threat_model.bound:g}"


def _write_rows(whole: Adversarial, rows: Tensor, part: Adversarial) -> None:
    """Write the results of some of the examples."""
    for target, source in zip(whole, part, strict=True):
        target[rows] = source.to(target.dtype)
