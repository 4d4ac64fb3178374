"""Products with J, the derivative of φ at a point: how φ moves when the image does, and back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from gauntlet.attacks.gradient import defined
from gauntlet.distances import Embedding
from gauntlet.scopes import exact
from gauntlet.threats.l2 import direction, norm, per_image

Embed = Callable[[Tensor], Embedding]
Product = Callable[[Tensor], Embedding]
"""v ↦ J v: how fast φ changes along v, `[n, C, H, W]` of any length; no graph."""


class Jacobian(Protocol):
    """J v at a point, without J."""

    def at(self, embed: Embed, params: Tensor, embedding: Embedding) -> Product:
        """The product at one point.

        Args:
            embed: φ.
            params: where, `[n, C, H, W]`; it wants a gradient.
            embedding: φ there, with its graph, which is kept.
        """


@dataclass(frozen=True)
class DoubleBackward:
    """Exact: w ↦ Jᵀ w is linear, and what is backward of it is J (Townsend 2017).

    One backward for a point; a product costs about 1.6 forwards on AlexNet, 3.6 on a ResNet whose batch norms are
    folded. The same product by forward-mode differentiation costs 4.7 and 7.7.
    """

    identity: ClassVar[str] = "double_backward/1"

    def at(self, embed: Embed, params: Tensor, embedding: Embedding) -> Product:
        """As in `Jacobian`."""
        weights = tuple(torch.zeros_like(layer, requires_grad=True) for layer in embedding)
        with torch.enable_grad():
            (pulled,) = torch.autograd.grad(embedding, params, weights, create_graph=True)

        def product(along: Tensor) -> Embedding:
            pushed = torch.autograd.grad(pulled, weights, along, retain_graph=True, materialize_grads=True)
            return tuple(defined(layer) for layer in pushed)

        return product


@dataclass(frozen=True)
class CentralDifference:
    """(φ(x + h v̂) − φ(x − h v̂)) / 2h · ‖v‖ with v̂ of unit length: two forwards a product.

    For networks that cannot be differentiated twice. In float32 it is 0.3 % from the exact product in the median on
    AlexNet and CIFAR-10, 1 % on photographs and on a ResNet.

    Args:
        reach: h, in L2 pixel units. Shorter ones than 0.001 drown in rounding, longer ones cross more of the ReLUs'
            kinks.
    """

    identity: ClassVar[str] = "central_difference/1"
    reach: float = 0.001

    def __post_init__(self) -> None:
        if not self.reach > 0:
            raise ValueError(f"a central difference over {self.reach}: expected a pixel length above 0, such as 0.001")

    def at(self, embed: Embed, params: Tensor, embedding: Embedding) -> Product:
        """As in `Jacobian`."""
        here = params.detach()

        @torch.no_grad()
        def product(along: Tensor) -> Embedding:
            step, scale = self.reach * direction(along), norm(along) / (2 * self.reach)
            with exact():  # half precision would leave nothing of the difference
                ahead, behind = embed(here + step), embed(here - step)
            return tuple(per_image(scale, a) * (a - b) for a, b in zip(ahead, behind, strict=True))

        return product


def pulled_back(embedding: Embedding, params: Tensor, weights: Embedding) -> Tensor:
    """Jᵀ w, `[n, C, H, W]`: one backward through the graph of an embedding, which is kept. 0 where it is undefined."""
    (gradient,) = torch.autograd.grad(embedding, params, weights, retain_graph=True)
    return defined(gradient)
