"""The union of threat models. A search stays in the member it started in.

Tramèr & Boneh, "Adversarial training and robustness for multiple perturbations", NeurIPS 2019, §2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gauntlet.data import Batch
from gauntlet.noise import Noise
from gauntlet.threats.l2 import per_image
from gauntlet.threats.parts import UNIT, bound_of, flat, parts_of, streams, within
from gauntlet.threats.region import ForwardPass, Region, SearchableThreatModel


@dataclass(frozen=True)
class AnyOf:
    """T(x) = ∪ Tᵢ(x).

    Args:
        members: threat models; a mapping, as a YAML holds it, in its order.
    """

    identity: ClassVar[str] = "any_of/1"
    members: Sequence[SearchableThreatModel] | Mapping[str, SearchableThreatModel]
    unit: ClassVar[str] = UNIT

    def __post_init__(self) -> None:
        object.__setattr__(self, "members", parts_of("a union", self.members))

    @property
    def _members(self) -> tuple[SearchableThreatModel, ...]:
        assert isinstance(self.members, tuple)
        return self.members

    @property
    def name(self) -> str:
        """The names of the members, such as `linf|l2`."""
        return "|".join(member.name for member in self._members)

    @property
    def bound(self) -> float:
        """1: every member at its own bound. 0 where all of those are 0."""
        return bound_of(self._members)

    def around(self, batch: Batch, classifier: nn.Module | None = None) -> UnionRegion:
        """All members' regions around a batch."""
        regions = tuple(member.around(batch, classifier) for member in self._members)
        return UnionRegion(batch.images, self.bound, regions)


@dataclass(frozen=True)
class UnionRegion(Region):
    """The unions around one batch. The params are `[N, 1 + P]`: the index of the member, then its params, flat.

    P is the largest number of params of a member; unused params are 0. Every member computes the whole batch, with its
    zero params where another member is chosen, so that an image is bit-identical to that of the member alone.
    """

    members: tuple[Region, ...]

    def pack(self, index: int, params: Tensor) -> Tensor:
        """The union's `[n, 1 + P]` params from a member's own.

        Args:
            index: of the member.
            params: its params, `[n, …]`, of some of the examples or all.

        Raises:
            ValueError: there is no such member, or the params do not have its shape.
        """
        count = len(self.members)
        if not 0 <= index < count:
            raise ValueError(f"member {index} of a union of {count}: expected 0 to {count - 1}")
        expected = self.members[index].zero().shape[1:]
        if params.shape[1:] != expected:
            raise ValueError(f"params {list(params.shape)} of member {index}: expected {[len(params), *expected]}")
        row = F.pad(flat(params), (1, self._max_params() - expected.numel()))
        return torch.cat((torch.full_like(row[:, :1], index), row[:, 1:]), 1)

    def rows(self, keep: Tensor) -> UnionRegion:
        """The regions of some of the examples; `keep` is a mask or indices over N."""
        return replace(self, images=self.images[keep], members=tuple(member.rows(keep) for member in self.members))

    def chosen(self, params: Tensor) -> Tensor:
        """The index of each example's member, `[N]`."""
        return params[:, 0].detach().nan_to_num().round().clamp(0, len(self.members) - 1).long()

    def zero(self) -> Tensor:
        """The zero params of the first member."""
        return self.pack(0, self.members[0].zero())

    def start(self, noise: Noise) -> Tensor:
        """A member, uniformly at random, and its start."""
        index = noise.uniform((len(self.images),), draw=-1) * len(self.members)
        own = streams(noise, len(self.members))
        starts = [self.pack(i, member.start(own[i])) for i, member in enumerate(self.members)]
        return _select(index.long(), starts)

    def perturb(self, params: Tensor) -> Tensor:
        """The image of each example's member."""
        return _select(self.chosen(params), [member.perturb(own) for member, own in self._own(params)])

    def project(self, params: Tensor) -> Tensor:
        """Project onto each example's member."""
        own = [self.pack(i, member.project(part)) for i, (member, part) in enumerate(self._own(params))]
        return _select(self.chosen(params), own)

    def ascend(self, params: Tensor, gradient: Tensor, step: float) -> Tensor:
        """Ascend in the geometry of each example's member, which stays the same."""
        pairs = zip(self._own(params), self.members, strict=True)
        own = [
            self.pack(i, member.ascend(part, self._member_params(gradient, member), step))
            for i, ((_, part), member) in enumerate(pairs)
        ]
        return _select(self.chosen(params), own)

    def size(self, params: Tensor) -> Tensor:
        """The size in each example's member, `[N]`."""
        return _select(self.chosen(params), [member.size(own) for member, own in self._own(params)])

    def penalty(self, params: Tensor) -> Tensor:
        """The penalty of each example's member, `[N]`."""
        return _select(self.chosen(params), [member.penalty(own) for member, own in self._own(params)])

    def inside(self, params: Tensor, output: ForwardPass) -> Tensor:
        """Where the params are inside the bound of their member and the images in [0, 1], `[n]`."""
        return within(self, params)

    def extent(self, params: Tensor) -> Tensor:
        """The extent in each example's member; 0 for the index of the member."""
        own = [torch.ones_like(part) * member.extent(part) for member, part in self._own(params)]
        extent = _select(self.chosen(params), [self.pack(i, part) for i, part in enumerate(own)])
        return torch.cat((torch.zeros_like(extent[:, :1]), extent[:, 1:]), 1)

    def _max_params(self) -> int:
        return max(member.zero().shape[1:].numel() for member in self.members)

    def _member_params(self, params: Tensor, member: Region) -> Tensor:
        """The params of a member out of `[N, 1 + P]`, in its shape."""
        shape = member.zero().shape
        return params[:, 1 : 1 + shape[1:].numel()].reshape(shape)

    def _own(self, params: Tensor) -> list[tuple[Region, Tensor]]:
        """Each member with params for the whole batch: its own, or zero params where another member is chosen."""
        chosen = self.chosen(params)
        pairs = []
        for i, member in enumerate(self.members):
            zero = member.zero()
            own = torch.where(per_image(chosen == i, zero), self._member_params(params, member), zero)
            pairs.append((member, own))
        return pairs


def _select(chosen: Tensor, each: Sequence[Tensor]) -> Tensor:
    """Row by row, the tensor of the chosen index."""
    selected = each[0]
    for i, other in enumerate(each[1:], 1):
        selected = torch.where(per_image(chosen == i, other), other, selected)
    return selected
