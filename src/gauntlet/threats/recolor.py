"""Colour maps: every colour of an image changes a little, equal colours by equal amounts.

Laidlaw and Feizi, "Functional adversarial attacks", NeurIPS 2019 (ReColorAdv).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import ClassVar

import torch
from torch import Tensor, nn

from gauntlet.data import Batch
from gauntlet.threats.colour import LUV, ColourSpace, clamp_inclusive
from gauntlet.threats.smoothness import FieldRegion, check_field
from gauntlet.varied import SPREAD


@dataclass(frozen=True)
class ReColorAdv:
    """All images whose colour c = colour(x) at each pixel became c + offset(c), every component of |offset| ≤ bound.

    The offsets of an image are a table over its colour space, multilinear between the vertices. The table spans all
    colours an image can have, so that no offset leaves every image as it is, saturated colours included. Colours that
    leave the gamut are clamped in RGB.

    Args:
        bound: largest change of any channel, in the unit of the colour space (0.06 in the paper: in LUV 6 of 100 in L,
            12 of 200 in u and v).
        space: the colour space; `LUV` as in the paper, or `RGB`.
        resolution: vertices of the table fractions each channel; images of fewer channels use the first.
        smoothness: weight of the penalty for rough tables, times bound: the penalty is smoothness / bound · S (0.06 · S
            at bound 0.06 in the paper). 0 is no penalty.
        spread: a search starts at offsets uniform within this share of the bound. The paper starts at the identity,
            0; with restarts use more, or they are all the same.
    """

    identity: ClassVar[str] = "recoloradv/1"
    bound: float
    space: ColourSpace = field(default_factory=LUV)
    resolution: Sequence[int] = (16, 32, 32)
    smoothness: float = field(default=0.0036, compare=False)  # both guide a search; the set of images is the same
    spread: float = field(default=0.0, compare=False, metadata=SPREAD)

    def __post_init__(self) -> None:
        if not 0 <= self.bound <= 1:
            raise ValueError(f"ReColorAdv bound {self.bound} is not in [0, 1], a colour's range: the paper's is 0.06")
        if not self.resolution or min(self.resolution) < 2:
            raise ValueError(f"ReColorAdv resolution {list(self.resolution)}: expected ≥ 2 vertices per channel")
        check_field(self.smoothness, self.spread)
        object.__setattr__(self, "resolution", tuple(self.resolution))  # YAML has lists only

    @property
    def name(self) -> str:
        """`recoloradv_luv`, `recoloradv_rgb`."""
        return f"recoloradv_{self.space.name}"

    @property
    def unit(self) -> str:
        """The colour space: `LUV`, `RGB`."""
        return self.space.name.upper()

    def around(self, batch: Batch, classifier: nn.Module | None = None) -> ColourRegion:
        """The colour maps of each image; the table cells of its colours are computed here, once."""
        images = batch.images
        channels = images.shape[1]
        self.space.check(channels)
        if channels > len(self.resolution):
            raise ValueError(
                f"images have {channels} channels, the table of ReColorAdv {len(self.resolution)}:"
                f" give resolution one number per channel"
            )
        colours = self.space.of(images)
        resolution = tuple(self.resolution[:channels])
        vertices, weights = _corners(colours, self.space.range(channels), resolution)
        return ColourRegion(
            images, self.bound, self.smoothness, self.spread,
            self.space, colours, self.space.images(colours), vertices, weights, resolution,
        )  # fmt: skip


@dataclass(frozen=True)
class ColourRegion(FieldRegion):
    """The recolourings of one batch. The params are tables of offsets, `[N, C, R₁, …, R_C]`."""

    space: ColourSpace
    colours: Tensor
    """`[N, C, H, W]`, the images in the colour space."""
    round_trip: Tensor
    """`[N, C, H, W]`, the images converted to the colour space and back, equal to the images up to rounding."""
    vertices: Tensor
    """`[N, 2^C, H·W]`, indices in a flat table of the corners of the cell around each pixel's colour."""
    weights: Tensor
    """`[N, 2^C, H·W]`, their multilinear weights, which add up to 1."""
    resolution: tuple[int, ...]

    def zero(self) -> Tensor:
        """No offset."""
        return self.images.new_zeros(len(self.images), len(self.resolution), *self.resolution)

    def perturb(self, params: Tensor) -> Tensor:
        """The recoloured images. The change of the round trip is added to x, so that zero offsets give x exactly."""
        recoloured = self.space.images(self.colours + self.offsets(params))
        return clamp_inclusive(self.images + (recoloured - self.round_trip), 0, 1)

    def offsets(self, params: Tensor) -> Tensor:
        """The change of each pixel's colour in the colour space, `[N, C, H, W]`."""
        channels = len(self.resolution)
        corners = params.flatten(2).gather(2, self.vertices.flatten(1)[:, None].expand(-1, channels, -1))
        corners = corners.reshape(len(params), channels, *self.vertices.shape[1:])
        return (corners * self.weights[:, None]).sum(2).reshape(self.colours.shape)


def _corners(
    colours: Tensor, limits: tuple[Sequence[float], Sequence[float]], resolution: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """The corners of each colour's cell in a flat table, `[N, 2^C, H·W]`, and their multilinear weights."""
    below: list[Tensor] = []
    fractions: list[Tensor] = []
    for channel, low, high, count in zip(colours.unbind(1), *limits, resolution, strict=True):
        position = (channel.flatten(1) - low) * ((count - 1) / (high - low))
        before = position.detach().floor().clamp(0, count - 2)
        below.append(before.long())
        fractions.append(position - before)
    vertices, weights = [], []
    for corner in product((0, 1), repeat=len(resolution)):
        vertex, weight = torch.zeros_like(below[0]), torch.ones_like(fractions[0])
        for side, start, fraction, count in zip(corner, below, fractions, resolution, strict=True):
            vertex = vertex * count + start + side
            weight = weight * (fraction if side else 1 - fraction)
        vertices.append(vertex)
        weights.append(weight)
    return torch.stack(vertices, 1), torch.stack(weights, 1)
