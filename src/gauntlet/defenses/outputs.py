"""Outputs of a network in train mode: logits, and those of auxiliary classifiers where it has some."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gauntlet.errors import UserError
from gauntlet.task import CLASSIFICATION, Task

_AUXILIARY = "aux_logits"
_WEIGHT_OF_ONE, _WEIGHT_OF_SEVERAL = 0.4, 0.3


@dataclass(frozen=True)
class Outputs:
    """Outputs of N images.

    Args:
        logits: `[N, K]`, or the outputs of the task.
        auxiliary: logits of each auxiliary classifier, likewise.
    """

    logits: Tensor
    auxiliary: tuple[Tensor, ...] = ()

    @property
    def weight(self) -> float:
        """Weight of the loss of each auxiliary classifier.

        0.3 for GoogLeNet's two (Szegedy et al., "Going deeper with convolutions", CVPR 2015, §5), 0.4 for the one of
        Inception v3, as in its authors' code and torchvision's recipe.
        """
        return _WEIGHT_OF_ONE if len(self.auxiliary) == 1 else _WEIGHT_OF_SEVERAL

    def rows(self, keep: slice) -> Outputs:
        """Return the outputs of some of the images."""
        return Outputs(self.logits[keep], tuple(logits[keep] for logits in self.auxiliary))


def outputs_of(answer: Any, task: Task = CLASSIFICATION) -> Outputs:
    """Read what a network returns in train mode.

    In a named tuple or a mapping, `logits` are the logits and `aux_logits…` those of auxiliary classifiers, as in
    torchvision's GoogLeNet and Inception v3. In a plain tuple the first element is the logits; the rest is ignored.

    Raises:
        UserError: it holds no outputs of the task's form, such as logits `[N, K]`.
    """
    parts = _by_name(answer)
    others = [part for name, part in parts.items() if name.startswith(_AUXILIARY) and part is not None]
    checked = []
    for part in (parts.get("logits"), *others):
        if not isinstance(part, Tensor) or not task.takes(part):
            given = list(part.shape) if isinstance(part, Tensor) else type(part).__name__
            raise UserError(
                f"the classifier answers {type(answer).__name__} in train mode, with {given} for {task.form('N', 'K')}:"
                f" return the logits, a tuple that begins with them, or a named tuple of logits and aux_logits"
            )
        checked.append(part.to(torch.promote_types(part.dtype, torch.float32)))
    return Outputs(checked[0], tuple(checked[1:]))


def _by_name(answer: Any) -> Mapping[str, Any]:
    if isinstance(answer, Tensor):
        return {"logits": answer}
    if isinstance(answer, Mapping):
        return answer
    if fields := getattr(answer, "_fields", None):
        return dict(zip(fields, answer, strict=True))
    if isinstance(answer, tuple | list) and answer:
        return {"logits": answer[0]}
    return {"logits": getattr(answer, "logits", None)}
