"""What a classifier may declare beside its forward: a stand-in for gradients, or that it optimises inside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from torch import Tensor, nn


class HasSurrogate(Protocol):
    """A classifier whose forward has no useful gradient, such as a vote, and what gradients climb instead.

    A search takes its gain from the surrogate and its success from the forward. A surrogate of votes answers with the
    logarithm of the mean probabilities; log-probabilities are logits like others.
    """

    @property
    def surrogate(self) -> Callable[[Tensor], Tensor] | None:
        """A method or a module: images to differentiable logits `[N, K]`. None: the forward itself is climbed."""


class Foldable(Protocol):
    """A module that says whether batch norms may be folded in a classifier that it is, or is a part of."""

    foldable: bool
    """False: nothing is folded. Without the attribute folding finds out for itself."""


class NeedsGradients(Protocol):
    """A module that says whether it optimises inside its forward.

    Such a forward enables gradients itself, also where the caller has them off, takes them of its own latents alone,
    since parameters may be frozen, and goes on with detached latents.
    """

    needs_gradients: bool
    """True: folding leaves the classifier alone, and inference mode, which no forward can leave, is refused."""


def surrogate_of(classifier: nn.Module) -> Callable[[Tensor], Tensor] | None:
    """What gradients climb instead of the forward, if anything."""
    surrogate: Callable[[Tensor], Tensor] | None = getattr(classifier, "surrogate", None)
    return surrogate


def needs_gradients(classifier: nn.Module) -> bool:
    """Whether a part of it optimises inside its forward."""
    return any(getattr(part, "needs_gradients", False) for part in classifier.modules())


def foldable(classifier: nn.Module) -> bool:
    """Whether no part of it forbids folding."""
    forbidden = not all(getattr(part, "foldable", True) for part in classifier.modules())
    return not forbidden and not needs_gradients(classifier)
