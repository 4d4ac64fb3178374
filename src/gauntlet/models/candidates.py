"""The state dicts that a checkpoint holds: one, or several of which somebody has to say which is meant."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from gauntlet.errors import UserError

WHOLE = "."
"""What the file itself is called, where tensors lie in it beside everything else."""

_DEPTH = 3  # folds of mappings that are looked into


def candidates_in(content: Any) -> dict[str, dict[str, Tensor]]:
    """The state dicts in a checkpoint by where they are, such as `state_dict_ema` or `ema.shadow`.

    Weights beside an exponential moving average of them, or a student beside its teacher, are several. What holds less
    than half as many matrices as the largest (a confusion matrix, a loss with centres) is none.
    """
    found = dict(_state_dicts(content, "", _DEPTH))
    if matrices := {path: count for path, state in found.items() if (count := _matrices(state))}:
        return {path: found[path] for path, count in matrices.items() if 2 * count >= max(matrices.values())}
    return found


def refuse_several(candidates: Mapping[str, Any], what: object, way: str) -> None:
    """Raise where there is more than one.

    Raises:
        UserError: naming them.
    """
    if len(candidates) > 1:
        *some, last = candidates
        raise UserError(f"{what} holds several networks, {', '.join(some)} and {last}: {way}")


def _state_dicts(content: Any, path: str, depth: int) -> Iterator[tuple[str, dict[str, Tensor]]]:
    if not isinstance(content, Mapping):
        return
    named = {name: value for name, value in content.items() if isinstance(name, str)}
    if tensors := {name: value for name, value in named.items() if isinstance(value, Tensor)}:
        yield path or WHOLE, tensors
    for name, value in named.items() if depth else ():
        place = f"{path}.{name}".lstrip(".")
        if isinstance(value, list | tuple):  # an average of parameters by their order, which can be named, not taken
            yield from _state_dicts(
                {str(i): part for i, part in enumerate(value) if isinstance(part, Tensor)}, place, 0
            )
        yield from _state_dicts(value, place, depth - 1)


def _matrices(state: Mapping[str, Tensor]) -> int:
    """How many tensors of two dimensions or more there are: every network has some."""
    return sum(tensor.ndim > 1 for tensor in state.values())
