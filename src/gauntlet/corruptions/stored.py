"""Corrupted images out of published files, looked up by example."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

import torch
from torch import Tensor, nn

from gauntlet.attacks import Adversarial
from gauntlet.checks import check_batch
from gauntlet.corruptions.common import Unsearched, as_integers, check_place, shown
from gauntlet.data.examples import unit
from gauntlet.errors import UserError
from gauntlet.identity import PLACE


class Collection(Protocol):
    """Published files."""

    name: ClassVar[str]

    @property
    def types(self) -> Sequence[str]:
        """Those that are there, whole."""

    def images(self, kind: str, severity: int, ids: Tensor) -> Tensor:
        """`[N, C, H, W]` uint8, of the examples with these ids.

        Raises:
            UserError: an example has none, or a file is damaged.
        """

    def labels(self, ids: Tensor) -> Tensor | None:
        """`[N]`, if the files have labels of their own."""

    def content(self, kind: str, severity: int) -> str:
        """A digest of what is there of one type."""


@dataclass(frozen=True)
class Stored:
    """Images from published files.

    Args:
        type: one of `TYPES`.
        severity: from 1 to 5.
        files: where they are looked up.
    """

    identity: ClassVar[str] = "stored_corruption/1"
    type: str
    severity: int
    files: Collection = field(metadata=PLACE)
    content: str = field(init=False)
    """A digest of the files."""
    bound: ClassVar[float] = 0.0

    def __post_init__(self) -> None:
        check_place(self.type, self.severity)
        object.__setattr__(self, "content", self.files.content(self.type, self.severity))

    @property
    def name(self) -> str:
        """The type."""
        return self.type

    @property
    def source(self) -> str:
        """`CIFAR-10-C`, `ImageNet-C`."""
        return self.files.name

    def around(self, images: Tensor, classifier: nn.Module | None = None) -> StoredRegion:
        """The published images, one per id."""
        return StoredRegion(images, 0.0, self)


@dataclass(frozen=True)
class StoredRegion(Unsearched):
    """The published images of a batch; the integers of the params are ids."""

    threat: Stored

    @torch.no_grad()
    def perturb(self, params: Tensor) -> Tensor:
        """The images in the files.

        Raises:
            UserError: they are of another size.
        """
        found = unit(self.threat.files.images(self.threat.type, self.threat.severity, as_integers(params.cpu())))
        if len(found) and found.shape != self.images.shape:
            raise UserError(
                f"{self.threat.source} has images of {list(found.shape[1:])}, the dataset of"
                f" {list(self.images.shape[1:])}: leave attack_suite.published out to generate them"
            )
        return found.reshape(self.images.shape).to(self.images)


@dataclass(frozen=True)
class LookedUp:
    """Shows each example its published corrupted image. What other attacks take for seeds are the examples' ids here.

    Args:
        threat_model: which corruption, from which files.
    """

    identity: ClassVar[str] = "stored_transform/1"
    threat_model: Stored

    @property
    def stays_inside(self) -> bool:
        """True."""
        return True

    def __call__(
        self,
        classifier: nn.Module,
        images: Tensor,
        labels: Tensor,
        *,
        seeds: Tensor | None = None,
    ) -> Adversarial:
        """`[N, C, H, W]` published images.

        Args:
            classifier: plays no part.
            images: `[N, C, H, W]`, the clean ones.
            labels: `[N]`, compared with those of the files.
            seeds: `[N]`, the ids of the examples.

        Raises:
            UserError: an example has no image in the files, or has another label there.
            ValueError: no ids.
        """
        check_batch(images, labels)
        if seeds is None:
            raise ValueError("published corruptions are looked up by example: give seeds=<ids of the examples>")
        theirs = self.threat_model.files.labels(seeds)
        if theirs is not None and not theirs.equal(labels.cpu()):
            raise UserError(f"{self.threat_model.source} has other labels for these examples: fetch labels.npy again")
        return shown(self.threat_model.around(images), seeds)
