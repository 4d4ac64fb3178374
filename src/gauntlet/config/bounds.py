"""`bounds=[0.25,0.5,1,2]`: the same suite at shares of the dataset's bounds, for curves."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig, OmegaConf

from gauntlet.config.compose import plain
from gauntlet.errors import UserError


def shares(given: Any) -> list[float | None]:
    """The shares asked for, from the smallest; one that is None where nobody asked.

    Raises:
        UserError: something else than numbers from 0 on.
    """
    if given is None:
        return [None]
    several = given if isinstance(given, list) else [given]
    numbers = [float(one) for one in several if isinstance(one, int | float) and not isinstance(one, bool)]
    if not numbers or len(numbers) < len(several) or not all(0 <= number < float("inf") for number in numbers):
        raise UserError(f"bounds={given}: expected shares of the dataset's bounds, such as bounds=[0.25,0.5,1,2]")
    return [*sorted(set(numbers))]


def at_bounds(config: DictConfig, share: float | None) -> dict[str, Any]:
    """The resolved config with every bound of its dataset multiplied; as it is for None.

    Raises:
        UserError: the dataset has no bounds.
    """
    if share is None:
        return plain(config)
    known = OmegaConf.to_container(config, resolve=False)
    other = OmegaConf.create(known)
    assert isinstance(other, DictConfig)
    if not (bounds := config.dataset.get("bounds")):
        raise UserError("bounds=… are shares of the dataset's bounds, and this dataset has none: give it bounds")
    for name, bound in dict(bounds).items():
        other.dataset.bounds[name] = share * float(bound)
    return plain(other)
