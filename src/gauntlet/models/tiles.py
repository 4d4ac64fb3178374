"""Evaluation of expensive classifiers in padded tiles of a fixed size."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from gauntlet.models.border import logits_of
from gauntlet.models.capabilities import surrogate_of


class Tiled(nn.Module):
    """A classifier evaluated on exactly `size` images at a time.

    Without gradients, memory is bounded by the tile. The last tile is padded with its last image, so that every forward
    has `size` images. With a size of 1 an example's logits are bit-identical in every batch. With more they are as long
    as its position in the tile is the same: some matrix products round the rows of a batch differently.

    Args:
        classifier: images to logits `[N, K]`; in eval mode, its logits of an example do not depend on other examples.
        size: images per tile.
    """

    def __init__(self, classifier: nn.Module, size: int) -> None:
        super().__init__()
        if size < 1:
            raise ValueError(f"tiles of {size} images: expected at least 1")
        self.classifier, self.size = classifier, size

    def forward(self, images: Tensor) -> Tensor:
        """`[N, C, H, W]` in [0, 1] to logits `[N, K]`."""
        return self._tiled(lambda tile: logits_of(self.classifier, tile), images)

    @property
    def surrogate(self) -> Callable[[Tensor], Tensor] | None:
        """The classifier's own surrogate in tiles, if it has one."""
        own = surrogate_of(self.classifier)
        return None if own is None else lambda images: self._tiled(own, images)

    def extra_repr(self) -> str:
        """The size, on which the last bits may depend."""
        return f"size={self.size}"

    def _tiled(self, function: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        tiles = images.split(self.size) if len(images) else (images,)
        return torch.cat([function(self._padded(tile))[: len(tile)] for tile in tiles])

    def _padded(self, tile: Tensor) -> Tensor:
        missing = self.size - len(tile)
        if not missing:
            return tile
        padding = tile[-1:].detach() if len(tile) else tile.new_zeros(1, *tile.shape[1:])
        return torch.cat((tile, padding.expand(missing, *tile.shape[1:])))
