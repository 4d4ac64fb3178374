"""`bounds=[0.25,0.5,1,2]`: one suite at several shares of the dataset's bounds, for curves."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig, OmegaConf

from gauntlet.config.command_line import shown
from gauntlet.config.compose import plain
from gauntlet.errors import UserError


def shares(given: Any) -> list[float | None]:
    """Return the requested shares in ascending order, without repetitions; `[None]` for None.

    Raises:
        UserError: a share is no finite number ≥ 0.
    """
    if given is None:
        return [None]
    values = given if isinstance(given, list) else [given]
    if not values or not all(_is_share(value) for value in values):
        raise UserError(f"bounds={given}: expected shares of the dataset's bounds, such as bounds=[0.25,0.5,1,2]")
    return [*sorted({float(value) for value in values})]


def _is_share(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf")


def at_bounds(config: DictConfig, share: float | None) -> dict[str, Any]:
    """Return the resolved config with every bound of its dataset multiplied by `share`; unchanged for None.

    Raises:
        UserError: the dataset has no bounds, or one is no number.
    """
    if share is None:
        return plain(config)
    bounds = config.dataset.get("bounds")
    if not bounds:
        raise UserError("bounds=… are shares of the dataset's bounds, and this dataset has none: give it bounds")
    scaled = OmegaConf.create(OmegaConf.to_container(config, resolve=False))
    assert isinstance(scaled, DictConfig)
    for name, bound in dict(bounds).items():
        if not isinstance(bound, int | float) or isinstance(bound, bool):
            raise UserError(f"dataset.bounds.{name} is {shown(bound)}: expected a number")
        scaled.dataset.bounds[name] = share * float(bound)
    return plain(scaled)
