"""Random numbers per example, independent of its position in a batch.

Every number is a hash of (seed of the example, draw, element): a counter-based generator in the manner of Salmon et
al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011, with the finaliser of SplitMix64 (Steele et al., OOPSLA
2014). An example gets the same numbers in any batch, order and process; between kinds of devices
only the last bit of a normal number may differ.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gauntlet.hashing import GOLDEN, finalise, mix_into, shift_right


def mix(*parts: Tensor | int) -> Tensor:
    """One int64 hash of several integers or integer tensors, broadcast against each other.

    >>> mix(0, 7, torch.tensor([3, 4])).shape
    torch.Size([2])
    """
    device = next((part.device for part in parts if isinstance(part, Tensor)), None)
    zero = torch.zeros((), dtype=torch.int64, device=device)
    return mix_into(zero, *(part.to(torch.int64) if isinstance(part, Tensor) else part for part in parts))


def fresh_seeds(count: int, device: torch.device) -> Tensor:
    """Draw `[count]` seeds from torch's global generator."""
    return torch.randint(1 << 62, (count,)).to(device)


@dataclass(frozen=True)
class Noise:
    """The random numbers of a batch.

    Args:
        seeds: `[N]` int64, one integer per example.
    """

    seeds: Tensor

    def uniform(self, shape: Sequence[int], low: float = 0.0, high: float = 1.0, draw: int = 0) -> Tensor:
        """`shape = [N, …]` float32 numbers in [low, high)."""
        words = self._words(shape, draw)
        return low + (high - low) * (shift_right(words, 40).to(torch.float32) * 2.0**-24)

    def normal(self, shape: Sequence[int], std: float = 1.0, draw: int = 0) -> Tensor:
        """`shape = [N, …]` float32 numbers from N(0, std²), by Box and Muller's transform."""
        words = self._words(shape, draw)
        radius = (-2 * (1 - shift_right(words, 40).to(torch.float32) * 2.0**-24).log()).sqrt()
        angle = (words & 0xFFFFFF).to(torch.float32) * (2 * math.pi * 2.0**-24)
        return std * radius * angle.cos()

    def stream(self, index: int) -> Noise:
        """An independent stream, such as for a part, a restart or another attack."""
        return Noise(mix(self.seeds, index))

    def rows(self, keep: Tensor) -> Noise:
        """The numbers of some of the examples; `keep` is a mask or indices over N."""
        return Noise(self.seeds[keep])

    def _words(self, shape: Sequence[int], draw: int) -> Tensor:
        if shape[0] != len(self.seeds):
            raise ValueError(
                f"noise of shape {list(shape)} for {len(self.seeds)} examples: expected one row per example"
            )
        key = mix(self.seeds, draw).reshape(-1, *([1] * (len(shape) - 1)))
        element = torch.arange(math.prod(shape[1:]), device=key.device).reshape(1, *shape[1:])
        return finalise(key + (element + 1) * GOLDEN)
