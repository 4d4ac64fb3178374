"""Choose the batch size of an attack: the whole chunk, or as much of it as fits into memory."""

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
    """The largest batch size that fits, by attack.

    If a batch does not fit, it is started again from its first example with half the size. So the sizes of the parts
    depend on the device alone, not on when memory ran out. The same attack never tries a larger size again.
    """

    _largest: dict[str, int] = field(default_factory=dict)

    def run(self, attack: str, count: int, measure: Callable[[slice], Part]) -> list[Part]:
        """Return the results of `measure` for the parts of a batch, in order.

        Args:
            attack: digest of the attack.
            count: number of examples in the batch.
            measure: called with the slice of each part.

        Raises:
            AttackFailed: a single example does not fit into memory.
        """
        while True:
            size = min(self._largest.get(attack, count), count)
            try:
                starts = range(0, max(1, count), max(1, size))  # an empty batch is one empty part
                return [measure(slice(start, min(start + size, count))) for start in starts]
            except torch.OutOfMemoryError as error:
                if size <= 1:
                    raise AttackFailed(f"no memory for a single example ({first_line(error)})") from None
            self._largest[attack] = size // 2
            gc.collect()  # outside the handler, because its traceback keeps the attack's tensors alive
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            print(f"no memory for {size} examples at once: from now on {size // 2}", flush=True)
