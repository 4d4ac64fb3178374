"""A common corruption in the grid: a threat model that nobody searches, and the attack of nobody that shows it.

Every example gets one image, drawn from its seed. The seed is all there is to the params, so that the grid can make
the very same image again and see that it is no other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from gauntlet.attacks import Adversarial
from gauntlet.checks import check_batch
from gauntlet.corruptions.digital import JPEGCompression
from gauntlet.corruptions.operation import Operation, as_levels
from gauntlet.data.examples import unit
from gauntlet.noise import Noise, fresh_seeds
from gauntlet.threats import Region, ThreatModel

TYPES = (
    *("gaussian_noise", "shot_noise", "impulse_noise"),
    *("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    *("snow", "frost", "fog", "brightness"),
    *("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
)
"""The fifteen of the benchmark, in its order."""
SEVERITIES = (1, 2, 3, 4, 5)
_DIGITS = 4  # numbers of 16 bits that an integer of 64 has; a float32 holds each of them exactly


@runtime_checkable
class Corruption(ThreatModel, Protocol):
    """A threat model that is one type of corruption at one severity."""

    @property
    def type(self) -> str:
        """One of `TYPES`."""

    @property
    def severity(self) -> int:
        """From 1 to 5."""

    @property
    def source(self) -> str:
        """Where its images come from: `generated`, or the name of a collection of files."""


@dataclass(frozen=True)
class Generated:
    """Images corrupted here and now.

    Args:
        type: one of `TYPES`.
        severity: from 1 to 5.
        operation: what is done.
        jpeg: quality at which the corrupted picture is saved, as those of ImageNet-C were (85); None for not at all.
    """

    identity: ClassVar[str] = "generated_corruption/1"
    type: str
    severity: int
    operation: Operation
    jpeg: int | None = None
    bound: ClassVar[float] = 0.0
    source: ClassVar[str] = "generated"

    def __post_init__(self) -> None:
        check_place(self.type, self.severity)

    @property
    def name(self) -> str:
        """The type."""
        return self.type

    def around(self, images: Tensor, classifier: nn.Module | None = None) -> GeneratedRegion:
        """What the corruption may make of the images."""
        return GeneratedRegion(images, 0.0, self.operation, self.jpeg)


def check_place(kind: str, severity: int) -> None:
    """Raise ValueError unless the benchmark has such a type and severity."""
    if kind not in TYPES or severity not in SEVERITIES:
        raise ValueError(f"corruption {kind} at severity {severity}: expected 1 to 5 of {', '.join(TYPES)}")


@dataclass(frozen=True)
class Unsearched(Region):
    """Images that no search chooses among: a region whose params are integers, in 16-bit digits `[N, 4]`.

    The clean image is not among them; 0 stands for the zero image.
    """

    def identity(self) -> Tensor:
        """The params 0."""
        return self.images.new_zeros(len(self.images), _DIGITS)

    def start(self, noise: Noise) -> Tensor:
        """The noise's own seeds."""
        return as_params(noise.seeds).to(self.images)

    def project(self, params: Tensor) -> Tensor:
        """They are inside."""
        return params

    def ascend(self, params: Tensor, gradient: Tensor, step: float) -> Tensor:
        """There is nowhere to go."""
        return params

    def size(self, params: Tensor) -> Tensor:
        """Nothing, `[N]`: a severity is no bound."""
        return self.images.new_zeros(len(params))


@dataclass(frozen=True)
class GeneratedRegion(Unsearched):
    """The images that a corruption may make of a batch."""

    operation: Operation
    jpeg: int | None

    @torch.no_grad()
    def perturb(self, params: Tensor) -> Tensor:
        """The images of the seeds in the params, whole 255ths. Clean images that are none are rounded first."""
        clean = (self.images.detach().cpu().double() * 255).round() / 255
        noise = Noise(as_integers(params.cpu()))
        corrupted = as_levels(self.operation(clean, noise))
        if self.jpeg is not None:
            corrupted = as_levels(JPEGCompression(self.jpeg)(corrupted.double() / 255, noise))
        return unit(corrupted).to(self.images)


def as_params(integers: Tensor) -> Tensor:
    """`[N]` int64 as `[N, 4]` float32 numbers of 16 bits."""
    shifts = torch.arange(0, 16 * _DIGITS, 16, device=integers.device)
    return ((integers[:, None] >> shifts) & 0xFFFF).float()


def as_integers(params: Tensor) -> Tensor:
    """`[N, 4]` numbers of 16 bits as `[N]` int64."""
    digits = params.double().long()
    return digits[:, 0] | digits[:, 1] << 16 | digits[:, 2] << 32 | digits[:, 3] << 48


@dataclass(frozen=True)
class Corrupted:
    """Shows each example its corrupted image, whatever the classifier says.

    Args:
        threat_model: which corruption.
    """

    identity: ClassVar[str] = "apply_transform/1"
    threat_model: Generated

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
        """`[N, C, H, W]` corrupted images, each a function of its own clean image and seed."""
        check_batch(images, labels)
        seeds = fresh_seeds(len(images), images.device) if seeds is None else seeds
        return shown(self.threat_model.around(images), seeds)


def shown(region: Unsearched, seeds: Tensor) -> Adversarial:
    """What the seeds stand for, `[N]`."""
    params = region.start(Noise(seeds))
    return Adversarial(region.perturb(params), params, region.size(params))
