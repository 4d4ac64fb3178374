"""How many examples of a chunk are attacked at once: all of them, or as many as the device has memory for."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import torch

from gauntlet.errors import AttackFailed, first_line

Part = TypeVar("Part")


@dataclass
class BatchSizer:
    """What has turned out to fit, by attack.

    A batch for which there is no memory is begun anew in halves, all of it, so that the size of its parts depends on
    the device alone and not on when memory ran out; the same attack never asks for as much again.
    """

    _most: dict[str, int] = field(default_factory=dict)

    def run(self, attack: str, count: int, measure: Callable[[slice], Part]) -> list[Part]:
        """What `measure` says of the parts of a batch, in order.

        Args:
            attack: whose memory it is; a digest.
            count: how many examples there are.
            measure: of the examples of a slice.

        Raises:
            AttackFailed: there is no memory for a single example.
        """
        while True:
            size = min(self._most.get(attack, count), count)
            try:
                starts = range(0, max(1, count), max(1, size))  # one part, where there are no examples at all
                return [measure(slice(start, min(start + size, count))) for start in starts]
            except torch.OutOfMemoryError as error:
                if size <= 1:
                    raise AttackFailed(f"no memory for a single example ({first_line(error)})") from None
            self._most[attack] = size // 2
            gc.collect()  # outside of the handler, whose traceback holds what the attack had made
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            print(f"no memory for {size} examples at once: from now on {size // 2}", flush=True)
