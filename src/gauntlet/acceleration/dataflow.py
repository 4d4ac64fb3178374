"""The data flow of a network: which modules produce and consume each tensor, recorded in one forward."""

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
    """Producers and consumers of one tensor, by name: a cache that held the modules would keep their network alive."""

    producers: tuple[str, ...]
    """The modules that return it, the innermost first …"""
    consumers: tuple[str, ...]
    """… and the modules that receive it, the innermost last."""


class Flow(TorchDispatchMode):
    """Records which modules return and receive each tensor in a forward, and how many operations read it."""

    supports_higher_order_operators = True

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self._parts = dict(network.named_modules())
        self._runs: Counter[str] = Counter()
        self._reads: Counter[int] = Counter()
        self._producers: dict[int, list[str]] = {}
        self._consumers: dict[int, list[str]] = {}
        self._alive: list[Any] = []  # keeps every recorded tensor alive, so that ids stay unique

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Record every module and every operation."""
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

    def joints(self, outputs: Sequence[Tensor]) -> list[Joint]:
        """The tensors read once, by and from modules that ran once, except the network's outputs."""
        output_ids = {id(output) for output in outputs}
        joints = []
        for tensor, producers in self._producers.items():
            consumers = self._consumers.get(tensor, [])
            once = all(self._runs[name] == 1 for name in (*producers, *consumers))
            if consumers and once and self._reads[tensor] == 1 and tensor not in output_ids:
                joints.append(Joint(tuple(producers), tuple(consumers)))
        return joints

    def _enter(self, name: str, _module: nn.Module, args: Any) -> None:
        self._runs[name] += 1
        self._record(self._consumers, name, args)

    def _leave(self, name: str, _module: nn.Module, _args: Any, output: Any) -> None:
        self._record(self._producers, name, output)

    def _record(self, modules: dict[int, list[str]], name: str, tensors: Any) -> None:
        for leaf in tree_leaves(tensors):
            modules.setdefault(id(leaf), []).append(name)
            self._alive.append(leaf)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        read = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        self._reads.update({id(leaf) for leaf in read})
        self._alive += read
        return func(*args, **(kwargs or {}))
