"""What a composition and a union share: several threat models in one frozen dataclass, their params in one row."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from gauntlet.noise import Noise
from gauntlet.threats.region import Region, SearchableThreatModel, ThreatModel, contained

UNIT = "share of the bounds"
"""Of what is measured by the bounds of several threat models."""


def parts_of(
    what: str, given: Sequence[SearchableThreatModel] | Mapping[str, SearchableThreatModel]
) -> tuple[SearchableThreatModel, ...]:
    """The threat models in order, from a list or from the mapping that a YAML holds.

    Raises:
        ValueError: there are none.
        TypeError: one of them is something else.
    """
    parts = tuple(given.values() if isinstance(given, Mapping) else given)
    if not parts:
        raise ValueError(f"{what} of no threat models: name at least one")
    for part in parts:
        if not isinstance(part, SearchableThreatModel):
            raise TypeError(
                f"{what} has a part that is a {type(part).__name__}: expected threat models, such as Linf, which have a"
                f" name, a bound, a unit and around()"
            )
    return parts


def bound_of(parts: Sequence[ThreatModel]) -> float:
    """1: everyone at its own bound. 0 where every bound is 0."""
    return 1.0 if any(part.bound > 0 for part in parts) else 0.0


def streams(noise: Noise, count: int) -> list[Noise]:
    """Independent noise for each part; one alone has the noise that it would have anyway."""
    return [noise] if count == 1 else [noise.stream(-1 - index) for index in range(count)]


def flat(params: Tensor) -> Tensor:
    """`[N, …]` as `[N, P]`, a batch of 0 included."""
    return params.reshape(len(params), math.prod(params.shape[1:]))


def boxed(images: Tensor) -> Tensor:
    """The images clamped to [0, 1], with the gradient as if they were not.

    A pixel at 0 or 1 must not lose its gradient, for it would never move again; torch's clamp gives it none there.
    """
    return images + (images.clamp(0, 1) - images).detach()


def within(region: Region, params: Tensor) -> Tensor:
    """Where the params are inside the bound and their images in [0, 1], measured by the region itself, `[N]`."""
    with torch.no_grad():
        return contained(region.perturb(params), region.size(params))
