"""Helpers of compositions and unions: several threat models in one dataclass, their params in one row."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from gauntlet.noise import Noise
from gauntlet.threats.region import Region, SearchableThreatModel, ThreatModel, contained

UNIT = "share of the bounds"
"""The unit of sizes relative to the bounds of several threat models."""


def parts_of(
    owner: str, members: Sequence[SearchableThreatModel] | Mapping[str, SearchableThreatModel]
) -> tuple[SearchableThreatModel, ...]:
    """The threat models in order, from a list or from the mapping that a YAML holds.

    Raises:
        ValueError: there are none.
        TypeError: one of them is not a threat model.
    """
    parts = tuple(members.values() if isinstance(members, Mapping) else members)
    if not parts:
        raise ValueError(f"{owner} of no threat models: name at least one")
    for part in parts:
        if not isinstance(part, SearchableThreatModel):
            raise TypeError(
                f"{owner} has a part that is a {type(part).__name__}: expected threat models, such as Linf, which have"
                f" a name, a bound, a unit and around()"
            )
    return parts


def bound_of(parts: Sequence[ThreatModel]) -> float:
    """1: every part at its own bound; 0 if every bound is 0."""
    return 1.0 if any(part.bound > 0 for part in parts) else 0.0


def streams(noise: Noise, count: int) -> list[Noise]:
    """Independent noise for each part; a single part gets the given noise itself."""
    return [noise] if count == 1 else [noise.stream(-1 - index) for index in range(count)]


def flat(params: Tensor) -> Tensor:
    """`[N, …]` as `[N, P]`, a batch of 0 included."""
    return params.reshape(len(params), math.prod(params.shape[1:]))


def clamp_straight_through(images: Tensor) -> Tensor:
    """Clamp images to [0, 1] with the gradient of the identity.

    A pixel at 0 or 1 that loses its gradient, as by torch's clamp, would never move again.
    """
    return images + (images.clamp(0, 1) - images).detach()


def within(region: Region, params: Tensor) -> Tensor:
    """Where the params are inside the bound and their images in [0, 1], measured by the region itself, `[N]`."""
    with torch.no_grad():
        return contained(region.perturb(params), region.size(params))
