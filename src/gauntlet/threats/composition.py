"""Compositions: several changes in sequence, as one threat model.

Laidlaw & Feizi, "Functional adversarial attacks", NeurIPS 2019, §5: colour, then flow, then an additive change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from gauntlet.data import Batch
from gauntlet.noise import Noise
from gauntlet.threats.parts import UNIT, bound_of, clamp_straight_through, flat, parts_of, streams, within
from gauntlet.threats.region import ForwardPass, Region, SearchableThreatModel


@dataclass(frozen=True)
class Composition:
    """All images of the parts in sequence: each part is a region around the image of the part before.

    The zero image is that of all parts in sequence; x itself belongs to T(x) in any case.

    Args:
        parts: threat models in the order in which they are applied; a mapping, as a YAML holds it, in its order.
    """

    identity: ClassVar[str] = "composition/1"
    parts: Sequence[SearchableThreatModel] | Mapping[str, SearchableThreatModel]
    unit: ClassVar[str] = UNIT

    def __post_init__(self) -> None:
        object.__setattr__(self, "parts", parts_of("a composition", self.parts))

    @property
    def _parts(self) -> tuple[SearchableThreatModel, ...]:
        assert isinstance(self.parts, tuple)
        return self.parts

    @property
    def name(self) -> str:
        """The names of the parts, such as `recoloradv+linf`."""
        return "+".join(part.name for part in self._parts)

    @property
    def bound(self) -> float:
        """1: every part at its own bound. 0 where all of those are 0."""
        return bound_of(self._parts)

    def around(self, batch: Batch, classifier: nn.Module | None = None) -> CompositionRegion:
        """The first part's region around a batch; those of the other parts depend on the params."""
        images, labels, ids, codes = batch
        first = self._parts[0].around(batch, classifier)
        empty = images.new_zeros(0)
        region = CompositionRegion(
            images, self.bound, labels, ids, codes, self._parts, classifier, first, (), empty, empty
        )
        with torch.no_grad():
            regions, origin = zip(*region.walk(lambda _, step: step.zero()), strict=True)
        reach = [torch.ones_like(part) * step.extent(part) for step, part in zip(regions, origin, strict=True)]
        shapes = tuple(part.shape[1:] for part in origin)
        return replace(region, shapes=shapes, origin=_joined(origin), reach=_joined(reach))


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """The params of all parts, `[N, P]`."""
    return torch.cat([flat(part) for part in parts], 1)


@dataclass(frozen=True)
class CompositionRegion(Region):
    """The compositions around one batch. The params are those of the parts, flat and in order, `[N, P]`."""

    labels: Tensor
    ids: Tensor
    codes: Tensor | None
    """As in the batch: every part gets those of the clean images."""
    parts: tuple[SearchableThreatModel, ...]
    classifier: nn.Module | None
    first: Region
    """The first part's region: it does not depend on the params."""
    shapes: tuple[torch.Size, ...]
    """Of each part's params, without N."""
    origin: Tensor
    """The params of the zero image, `[N, P]`."""
    reach: Tensor
    """The extent of the params of each part, `[N, P]`."""

    def walk(self, choose: Callable[[int, Region], Tensor]) -> Iterator[tuple[Region, Tensor]]:
        """Each part's region around the image of the parts before it, and the params chosen in it.

        Args:
            choose: maps the index of a part and its region to its params, `[N, …]`.
        """
        region, params = self.first, choose(0, self.first)
        yield region, params
        for index in range(1, len(self.parts)):
            changed = Batch(clamp_straight_through(region.perturb(params)), self.labels, self.ids, self.codes)
            region = self.parts[index].around(changed, self.classifier)
            params = choose(index, region)
            yield region, params

    def at(self, params: Tensor) -> list[tuple[Region, Tensor]]:
        """Each part's region and params, from the params of all; the regions carry the graph of the parts before."""
        pieces = self.pieces(params)
        return list(self.walk(lambda index, _: pieces[index]))

    def pieces(self, params: Tensor) -> list[Tensor]:
        """Each part's params `[N, …]` out of `[N, P]`."""
        cut = params.split([shape.numel() for shape in self.shapes], 1)
        return [piece.reshape(len(params), *shape) for piece, shape in zip(cut, self.shapes, strict=True)]

    def extent(self, params: Tensor) -> Tensor:
        """The extent of every part."""
        return self.reach

    def zero(self) -> Tensor:
        """The zero params of every part."""
        return self.origin.clone()

    @torch.no_grad()
    def start(self, noise: Noise) -> Tensor:
        """The start of every part, each with its own stream."""
        own = streams(noise, len(self.parts))
        return _joined([part for _, part in self.walk(lambda index, region: region.start(own[index]))])

    def perturb(self, params: Tensor) -> Tensor:
        """The image of the last part, with the graph of all.

        With several parts it is clamped to [0, 1]: the last bit of an earlier part's image may differ, with the size of
        the batch, from the image that the params of a later part were projected around.
        """
        region, part = self.at(params)[-1]
        images = region.perturb(part)
        return images if len(self.parts) == 1 else clamp_straight_through(images)

    @torch.no_grad()
    def project(self, params: Tensor) -> Tensor:
        """Project part by part, each around the image of the projected parts before it."""
        pieces = self.pieces(params)
        return _joined([part for _, part in self.walk(lambda index, region: region.project(pieces[index]))])

    @torch.no_grad()
    def ascend(self, params: Tensor, gradient: Tensor, step: float) -> Tensor:
        """Ascend in every part's own geometry, by `step` of its own bounds."""
        gradients = self.pieces(gradient)
        pairs = zip(self.at(params), gradients, strict=True)
        return _joined([region.ascend(part, own, step) for (region, part), own in pairs])

    def size(self, params: Tensor) -> Tensor:
        """The largest size of any part, `[N]`."""
        return torch.stack([region.size(part) for region, part in self.at(params)]).amax(0)

    def penalty(self, params: Tensor) -> Tensor:
        """The sum of the parts' penalties, `[N]`."""
        return torch.stack([region.penalty(part) for region, part in self.at(params)]).sum(0)

    def inside(self, params: Tensor, output: ForwardPass) -> Tensor:
        """Where every part is inside its bound and the images are in [0, 1], `[n]`."""
        return within(self, params)

    def rows(self, keep: Tensor) -> CompositionRegion:
        """The regions of some of the examples; `keep` is a mask or indices over N."""
        images, labels, ids, codes = Batch(self.images, self.labels, self.ids, self.codes).rows(keep)
        return replace(
            self, images=images, labels=labels, ids=ids, codes=codes,
            first=self.first.rows(keep), origin=self.origin[keep], reach=self.reach[keep],
        )  # fmt: skip
