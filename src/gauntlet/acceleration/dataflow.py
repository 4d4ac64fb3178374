"""What goes where in a network: seen in one forward, by its modules and by the operations that it ends in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Joint(NamedTuple):
    """Where one tensor goes, by names: a network that is remembered by its own parts would never be forgotten."""

    producers: tuple[str, ...]
    """The modules that put it out, the innermost first …"""
    consumers: tuple[str, ...]
    """… and those that are given it, the innermost last."""


class Flow(TorchDispatchMode):
    """Which modules give and take each tensor in a forward, and how many operations read it."""

    supports_higher_order_operators = True

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self._parts = dict(network.named_modules())
        self._runs: Counter[str] = Counter()
        self._reads: Counter[int] = Counter()
        self._producers: dict[int, list[str]] = {}
        self._consumers: dict[int, list[str]] = {}
        self._alive: list[Any] = []  # all that was seen, so that no two have the same id

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Every module and every operation."""
        handles = []
        try:
            for name, part in self._parts.items():
                handles.append(part.register_forward_pre_hook(partial(self._enter, name)))
                handles.append(part.register_forward_hook(partial(self._leave, name)))
            with self:
                yield
        finally:
            for handle in handles:
                handle.remove()

    def joints(self, answers: Sequence[Tensor]) -> list[Joint]:
        """Where a tensor that is none of the answers goes from modules to modules, all run once, to be read once."""
        given_away, found = {id(answer) for answer in answers}, []
        for tensor, producers in self._producers.items():
            consumers = self._consumers.get(tensor, [])
            once = all(self._runs[name] == 1 for name in (*producers, *consumers))
            if consumers and once and self._reads[tensor] == 1 and tensor not in given_away:
                found.append(Joint(tuple(producers), tuple(consumers)))
        return found

    def _enter(self, name: str, _module: nn.Module, given: Any) -> None:
        self._runs[name] += 1
        self._note(self._consumers, name, given)

    def _leave(self, name: str, _module: nn.Module, _given: Any, output: Any) -> None:
        self._note(self._producers, name, output)

    def _note(self, who: dict[int, list[str]], name: str, tensors: Any) -> None:
        for leaf in tree_leaves(tensors):
            who.setdefault(id(leaf), []).append(name)
            self._alive.append(leaf)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        read = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        self._reads.update({id(leaf) for leaf in read})
        self._alive += read
        return func(*args, **(kwargs or {}))
