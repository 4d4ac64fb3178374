"""Optional capabilities of classifiers: a surrogate for gradients, no folding, optimisation inside the forward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from torch import Tensor, nn


class HasSurrogate(Protocol):
    """A classifier whose forward has no useful gradient, such as a vote, with a differentiable surrogate.

    A search takes its gain from the surrogate and its success from the forward. The surrogate of a vote returns the
    logarithm of the mean probabilities as logits.
    """

    @property
    def surrogate(self) -> Callable[[Tensor], Tensor] | None:
        """A method or a module: images to differentiable logits `[N, K]`. None: the forward itself."""


class Foldable(Protocol):
    """A module that declares whether batch norms may be folded in a classifier that contains it."""

    foldable: bool
    """False: nothing is folded. Without the attribute, folding decides by a comparison of outputs."""


class NeedsGradients(Protocol):
    """A module that declares whether it optimises inside its forward.

    Such a forward enables gradients itself, computes them only for its own latents, since parameters may be frozen, and
    continues with detached latents.
    """

    needs_gradients: bool
    """True: the classifier is not folded, and inference mode, which a forward cannot leave, is an error."""


def surrogate_of(classifier: nn.Module) -> Callable[[Tensor], Tensor] | None:
    """The classifier's surrogate, or None."""
    surrogate: Callable[[Tensor], Tensor] | None = getattr(classifier, "surrogate", None)
    return surrogate


def needs_gradients(classifier: nn.Module) -> bool:
    """Whether any submodule optimises inside its forward."""
    return any(getattr(part, "needs_gradients", False) for part in classifier.modules())


def foldable(classifier: nn.Module) -> bool:
    """Whether no submodule forbids folding."""
    forbidden = not all(getattr(part, "foldable", True) for part in classifier.modules())
    return not forbidden and not needs_gradients(classifier)
