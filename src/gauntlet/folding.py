"""Batch norm folded into the convolution before it, while a search lasts: in eval mode the two are one convolution.

bn(conv(x)) = conv'(x) with w' = w·γ/√(σ² + ε) and b' = β + (b − μ)·γ/√(σ² + ε) per output channel. That saves a pass
over every map, forwards and backwards, and what batch norm keeps for the way back: all of its input.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gauntlet.models import Tapped

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


@dataclass(frozen=True)
class Pair:
    """A convolution whose output goes into a batch norm, and nowhere else."""

    convolution: Any
    norm: Any
    sources: tuple[nn.Module, ...]
    """The modules that give out that output, the convolution among them: hooks there are shown it."""

    def foldable(self) -> bool:
        """Whether nobody looks in between, and both are as torch made them, with fixed statistics."""
        looked_at = any(module._forward_hooks or module._backward_hooks for module in self.sources)
        looked_at = looked_at or self.norm._forward_pre_hooks or self.norm._backward_hooks
        altered = self.convolution._forward_pre_hooks or "forward" in vars(self.convolution) | vars(self.norm)
        fixed = not self.norm.training and self.norm.running_mean is not None
        return bool(fixed and not looked_at and not altered)

    @torch.no_grad()
    def as_one(self) -> dict[str, Tensor]:
        """Weight and bias of the convolution that does both."""
        norm, plain = self.norm, self.convolution
        scale = (norm.running_var + norm.eps).rsqrt()
        scale = scale if norm.weight is None else scale * norm.weight
        shift = -norm.running_mean if plain.bias is None else plain.bias - norm.running_mean
        bias = shift * scale if norm.bias is None else shift * scale + norm.bias
        weight = plain.weight * scale.reshape(-1, *[1] * (plain.weight.ndim - 1))
        return {"weight": weight, "bias": bias}


class Folding:
    """Pairs that are folded, until they are unfolded."""

    def __init__(self, pairs: Sequence[Pair]) -> None:
        self._pairs = [(pair, dict(pair.convolution._parameters), pair.as_one()) for pair in pairs]

    def fold(self) -> None:
        """Put one convolution in the place of each pair."""
        for pair, _, one in self._pairs:
            pair.convolution._parameters.update(one)
            pair.norm.forward = _identity

    def unfold(self) -> None:
        """The network as it was, its own parameters in it."""
        for pair, plain, _ in self._pairs:
            pair.convolution._parameters.update(plain)
            del pair.norm.forward

    @contextmanager
    def undone(self) -> Iterator[None]:
        """Unfolded, for a while."""
        self.unfold()
        try:
            yield
        finally:
            self.fold()

    def doubtful(self, logits: Tensor) -> Tensor:
        """Where the prediction of `[N, K]` logits leads by so little that it may be otherwise unfolded, `[N]`.

        By less than half of its digits; what folding rounds differently is about a hundred times less.
        """
        if not self._pairs:
            return torch.zeros(len(logits), dtype=torch.bool, device=logits.device)
        first, second = logits.topk(2, 1).values.unbind(1)
        return first - second <= torch.finfo(logits.dtype).eps ** 0.5 * logits.abs().amax(1)


@contextmanager
def folded(network: nn.Module, images: Tensor) -> Iterator[Folding]:
    """The network with what can be folded folded, then as it was found: parameters, buffers and hooks are its own.

    Args:
        network: in eval mode.
        images: `[N, C, H, W]`; the first is sent through a network that is new here, to see what goes where.
    """
    folding = Folding([pair for pair in _pairs_of(network, images[:1]) if pair.foldable()])
    folding.fold()
    try:
        yield folding
    finally:
        folding.unfold()


def _identity(maps: Tensor) -> Tensor:
    return maps


_KNOWN: WeakKeyDictionary[nn.Module, list[Pair]] = WeakKeyDictionary()


def _pairs_of(network: nn.Module, images: Tensor) -> list[Pair]:
    """Of a network seen before: what was seen; it is not expected to be built anew."""
    kinds = {type(part) for part in network.modules()}
    if kinds.isdisjoint(_CONVOLUTIONS) or kinds.isdisjoint(_NORMS) or not len(images):
        return []
    if network not in _KNOWN:
        _KNOWN[network] = _seen(network, images)
    return _KNOWN[network]


def _seen(network: nn.Module, images: Tensor) -> list[Pair]:
    """The pairs that one forward shows."""
    runs: Counter[nn.Module] = Counter()
    sources: dict[int, list[nn.Module]] = {}
    norms: list[tuple[nn.Module, Any]] = []
    made: list[Any] = []  # everything that was made lives to the end, so that no two have the same id

    def entered(module: nn.Module, given: tuple[Any, ...]) -> None:
        runs[module] += 1
        if type(module) in _NORMS and given:
            norms.append((module, given[0]))

    def left(module: nn.Module, _given: Any, output: Any) -> None:
        made.append(output)
        sources.setdefault(id(output), []).append(module)

    parts = list(network.modules())
    handles = [part.register_forward_pre_hook(entered) for part in parts]
    handles += [part.register_forward_hook(left) for part in parts]
    devices = [images.device] if images.device.type == "cuda" else []
    try:
        with torch.no_grad(), torch.random.fork_rng(devices), _Readers() as readers:
            network.tap(images) if isinstance(network, Tapped) else network(images)
    finally:
        for handle in handles:
            handle.remove()
    pairs = []
    for norm, maps in norms:
        given_by = tuple(sources.get(id(maps), ()))
        once = all(runs[module] == 1 for module in (norm, *given_by))
        if given_by and type(given_by[0]) in _CONVOLUTIONS and once and readers.count[id(maps)] == 1:
            pairs.append(Pair(given_by[0], norm, given_by))
    return pairs


class _Readers(TorchDispatchMode):
    """How many operations read each tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter[int] = Counter()
        self._alive: list[Any] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        read = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        self.count.update({id(leaf) for leaf in read})
        self._alive += read  # as above
        return func(*args, **(kwargs or {}))
