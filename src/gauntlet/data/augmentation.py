"""Augmentation: batched, on the device of the images, each draw a function of (run seed, epoch, example id).

Laidlaw et al. 2021, as in their code: on CIFAR-10 crop, flip, colour jitter, rotation; on ImageNet-100 a random
resized crop (`gauntlet.data.views`), flip, colour jitter, lighting. Images stay in [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor
from torch.utils.data import Dataset

from gauntlet.data.examples import Batch, Split, Step
from gauntlet.noise import Noise, mix


class Augmentation(Protocol):
    """A change of `[N, C, H, W]` images in [0, 1], each independent of the others in its batch."""

    def __call__(self, images: Tensor, noise: Noise) -> Tensor:
        """Return the changed images; the noise of each decides how."""


_AUGMENTATION = 0x617567  # separates these random numbers from those of the attacks


@dataclass(frozen=True)
class TrainingExamples(Dataset[Batch]):
    """A split with augmentation, for training.

    Args:
        split: of clean examples.
        augmentation: applied in order.
        seed: of the run.
    """

    split: Split
    augmentation: Sequence[Augmentation]
    seed: int

    def __len__(self) -> int:
        return len(self.split)

    def __getitems__(self, step: Step) -> Batch:
        """Return the batch of a step, a function of the seed, the epoch and the ids."""
        rows = torch.as_tensor(step.rows, dtype=torch.int64)
        noise = Noise(mix(_AUGMENTATION, self.seed, step.epoch, self.split.ids[rows]))
        batch = self.split.draw(rows, noise.stream(0))
        images = batch.images
        for number, change in enumerate(self.augmentation, start=1):  # stream 0 is the view's
            images = change(images, noise.stream(number))
        return batch._replace(images=images)


@dataclass(frozen=True)
class RandomCrop:
    """A random crop of the image's own size, after black padding.

    Args:
        padding: width of the padding in pixels.
    """

    identity: ClassVar[str] = "random_crop/1"
    padding: int = 4

    def __call__(self, images: Tensor, noise: Noise) -> Tensor:
        """Shift each image by whole pixels, at most the padding in each direction."""
        count, _, height, width = images.shape
        offsets = 2 * self.padding + 1
        shift = (noise.uniform([count, 2]) * offsets).long().clamp(max=offsets - 1) - self.padding
        rows = torch.arange(height, device=images.device) + shift[:, :1]
        columns = torch.arange(width, device=images.device) + shift[:, 1:]
        return pixels_at(images, rows[:, :, None], columns[:, None, :])


@dataclass(frozen=True)
class RandomFlip:
    """A random horizontal flip.

    Args:
        chance: its probability.
    """

    identity: ClassVar[str] = "random_flip/1"
    chance: float = 0.5

    def __call__(self, images: Tensor, noise: Noise) -> Tensor:
        """Flip some of the images."""
        flipped = noise.uniform([len(images)]) < self.chance
        return torch.where(flipped[:, None, None, None], images.flip(-1), images)


@dataclass(frozen=True)
class RandomRotation:
    """A rotation about the centre, with nearest-neighbour sampling and black outside.

    Args:
        degrees: largest angle in either direction.
    """

    identity: ClassVar[str] = "random_rotation/1"
    degrees: float = 2.0

    def __call__(self, images: Tensor, noise: Noise) -> Tensor:
        """Rotate each image by its own angle."""
        return rotated(images, noise.uniform([len(images)], -self.degrees, self.degrees))


def rotated(images: Tensor, degrees: Tensor) -> Tensor:
    """Rotate each image counter-clockwise by its own angle, `[N]` degrees."""
    height, width = images.shape[2:]
    angle = degrees.double()[:, None, None] * (math.pi / 180)  # double: the last bit must not decide a rounding tie
    y = torch.arange(height, device=images.device)[:, None] - (height - 1) / 2
    x = torch.arange(width, device=images.device)[None, :] - (width - 1) / 2
    rows = angle.sin() * x + angle.cos() * y + (height - 1) / 2
    columns = angle.cos() * x - angle.sin() * y + (width - 1) / 2
    return pixels_at(images, rows.round().long(), columns.round().long())


def pixels_at(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return the pixels at `rows` and `columns`, which broadcast to `[N, H', W']`; black outside of the image."""
    count, channels, height, width = images.shape
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    index = rows.clamp(0, height - 1) * width + columns.clamp(0, width - 1)
    pixels = images.flatten(2).gather(2, index.flatten(1)[:, None].expand(-1, channels, -1))
    return pixels.reshape(count, channels, *inside.shape[1:]) * inside[:, None]


@dataclass(frozen=True)
class ColourJitter:
    """Changes of brightness, contrast and saturation by factors from [1 − j, 1 + j], in random order.

    Each mixes the image with a reference: black, its mean grey level, its grey version.

    Args:
        brightness, contrast, saturation: j of each.
    """

    identity: ClassVar[str] = "colour_jitter/1"
    brightness: float
    contrast: float
    saturation: float

    def __post_init__(self) -> None:
        if min(self.brightness, self.contrast, self.saturation) < 0:
            raise ValueError(f"{self}: expected jitters of at least 0")

    def __call__(self, images: Tensor, noise: Noise) -> Tensor:
        """Change the colours of each image."""
        jitter = torch.tensor([self.brightness, self.contrast, self.saturation], device=images.device)
        factors = (1 + jitter * noise.uniform([len(images), 3], -1, 1)).clamp(min=0)
        order = noise.uniform([len(images), 3], draw=1).argsort(1)
        return jittered(images, factors, order)


def jittered(images: Tensor, factors: Tensor, order: Tensor) -> Tensor:
    """Change brightness (0), contrast (1) and saturation (2).

    Args:
        images: `[N, 3, H, W]`, or one channel, which has no saturation.
        factors: `[N, 3]` of brightness, contrast and saturation.
        order: `[N, 3]`, a permutation of 0, 1, 2 for each image.
    """
    for which in order.unbind(1):
        grey = luminance(images)
        change = which[:, None, None, None]
        reference = torch.where(change == 1, _mean(grey), 0.0)
        reference = torch.where(change == 2, grey, reference)
        factor = factors.gather(1, which[:, None])[:, :, None, None]
        images = (factor * images + (1 - factor) * reference).clamp(0, 1)
    return images


def luminance(images: Tensor) -> Tensor:
    """Return the ITU-R 601-2 luminance, `[N, 1, H, W]`; images of one channel are returned unchanged."""
    if images.shape[1] == 1:
        return images
    if images.shape[1] != 3:
        raise ValueError(f"images of {images.shape[1]} channels: colours are those of 1 or 3")
    red, green, blue = images.split(1, dim=1)
    return 0.2989 * red + 0.587 * green + 0.114 * blue


def _mean(grey: Tensor) -> Tensor:
    """Average over the pixels, in double: the order of the sum, which may depend on the batch, has no effect."""
    return grey.double().mean((1, 2, 3), keepdim=True).to(grey.dtype)


_EIGENVALUES = (0.2175, 0.0188, 0.0045)
_EIGENVECTORS = ((-0.5675, 0.7192, 0.4009), (-0.5808, -0.0045, -0.8140), (-0.5836, -0.6948, 0.4203))


@dataclass(frozen=True)
class PCALighting:
    """A shift of all pixels along the principal components of ImageNet's colours, clipped to [0, 1].

    Krizhevsky et al., "ImageNet classification with deep convolutional neural networks", NeurIPS 2012, §4.1.

    Args:
        std: of the weight of each component, in units of its eigenvalue.
    """

    identity: ClassVar[str] = "pca_lighting/1"
    std: float = 0.05

    def __call__(self, images: Tensor, noise: Noise) -> Tensor:
        """Shift the colour of each image."""
        if images.shape[1] != 3:
            raise ValueError(f"images of {images.shape[1]} channels: lighting is that of 3")
        return lit(images, noise.normal([len(images), 3], self.std))


def lit(images: Tensor, weights: Tensor) -> Tensor:
    """Shift the images by `weights` `[N, 3]` of the components."""
    vectors = torch.tensor(_EIGENVECTORS, device=images.device)  # a column each
    components = zip(weights.split(1, dim=1), _EIGENVALUES, vectors.unbind(1), strict=True)
    shift = sum(weight * value * vector for weight, value, vector in components)
    assert isinstance(shift, Tensor)
    return (images + shift[:, :, None, None]).clamp(0, 1)
