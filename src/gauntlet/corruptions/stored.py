"""Corrupted images from published files, looked up by example id."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from gauntlet.corruptions.common import check_type
from gauntlet.data import Batch
from gauntlet.data.examples import unit
from gauntlet.errors import UserError
from gauntlet.identity import PLACE
from gauntlet.noise import Noise
from gauntlet.transforms import Transform


class Collection(Protocol):
    """A collection of published files."""

    name: ClassVar[str]

    @property
    def types(self) -> Sequence[str]:
        """Types that are complete."""

    def images(self, kind: str, severity: int, ids: Tensor) -> Tensor:
        """Return the images `[N, C, H, W]` uint8 of the examples with these ids.

        Raises:
            UserError: an example has no image, or a file is damaged.
        """

    def labels(self, ids: Tensor) -> Tensor | None:
        """Return the labels `[N]` if the files have labels of their own."""

    def content(self, kind: str, severity: int) -> str:
        """Return a digest of the files of one type."""


@dataclass(frozen=True)
class StoredCorruption(Transform):
    """Images from published files, looked up by the ids of the examples.

    Args:
        type: one of `TYPES`.
        severity: from 1 to 5.
        files: the collection of files.
    """

    identity: ClassVar[str] = "stored_corruption/1"
    type: str
    severity: int
    files: Collection = field(metadata=PLACE)
    content: str = field(init=False)
    """A digest of the files."""

    def __post_init__(self) -> None:
        check_type(self.type, self.severity)
        object.__setattr__(self, "content", self.files.content(self.type, self.severity))

    @property
    def name(self) -> str:
        """The type."""
        return self.type

    @property
    def source(self) -> str:
        """`CIFAR-10-C`, `ImageNet-C`."""
        return self.files.name

    @torch.no_grad()
    def __call__(self, batch: Batch, noise: Noise) -> Tensor:
        """Return the published images `[N, C, H, W]` of the examples with the batch's ids.

        Raises:
            UserError: an example has no image in the files, or its label or size differs there.
        """
        ids = batch.ids.cpu()
        labels = self.files.labels(ids)
        if labels is not None and not labels.equal(batch.labels.cpu()):
            raise UserError(f"{self.source} has other labels for these examples: fetch labels.npy again")
        images = unit(self.files.images(self.type, self.severity, ids))
        if len(images) and images.shape != batch.images.shape:
            raise UserError(
                f"{self.source} has images of {list(images.shape[1:])}, the dataset of"
                f" {list(batch.images.shape[1:])}: leave attack_suite.published out to generate them"
            )
        return images.reshape(batch.images.shape).to(batch.images)
