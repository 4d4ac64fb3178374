"""The state dicts in a checkpoint: one, or several to choose from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from gauntlet.errors import UserError

WHOLE = "."
"""The path of the file's top level, if tensors are stored there beside other entries."""

_DEPTH = 3  # levels of nested mappings to search


def candidates_in(content: Any) -> dict[str, dict[str, Tensor]]:
    """The state dicts in a checkpoint by their path, such as `state_dict_ema` or `ema.shadow`.

    Weights and their exponential moving average, or a student and its teacher, are separate. A mapping with less than
    half as many matrices as the largest (a confusion matrix, a loss with centres) is not a state dict.
    """
    candidates = dict(_state_dicts(content, "", _DEPTH))
    matrices = {path: _matrices(state) for path, state in candidates.items()}
    most = max(matrices.values(), default=0)
    if not most:
        return candidates
    return {path: candidates[path] for path, count in matrices.items() if 2 * count >= most}


def refuse_several(candidates: Mapping[str, Any], file: object, remedy: str) -> None:
    """Check that there is at most one candidate.

    Raises:
        UserError: there are several; it names them.
    """
    if len(candidates) > 1:
        *some, last = candidates
        raise UserError(f"{file} holds several networks, {', '.join(some)} and {last}: {remedy}")


def _state_dicts(content: Any, path: str, depth: int) -> Iterator[tuple[str, dict[str, Tensor]]]:
    if not isinstance(content, Mapping):
        return
    named = {name: value for name, value in content.items() if isinstance(name, str)}
    if tensors := {name: value for name, value in named.items() if isinstance(value, Tensor)}:
        yield path or WHOLE, tensors
    for name, value in named.items() if depth else ():
        inner_path = f"{path}.{name}".lstrip(".")
        # A list of parameters, such as an average, has no names: it is listed as a candidate but cannot be loaded.
        if isinstance(value, list | tuple):
            numbered = {str(i): part for i, part in enumerate(value) if isinstance(part, Tensor)}
            yield from _state_dicts(numbered, inner_path, 0)
        yield from _state_dicts(value, inner_path, depth - 1)


def _matrices(state: Mapping[str, Tensor]) -> int:
    """The number of tensors of two dimensions or more, which every network has."""
    return sum(tensor.ndim > 1 for tensor in state.values())
