"""Batch norm folded into the convolution before it, while a search lasts: in eval mode the two are one convolution.

bn(conv(x)) = conv'(x) with w' = w·γ/√(σ² + ε) and b' = β + (b − μ)·γ/√(σ² + ε) per output channel. That saves a pass
over every map, forwards and backwards, and what batch norm keeps for the way back: all of its input.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from gauntlet.acceleration.dataflow import Flow, Joint
from gauntlet.models import Tapped, foldable
from gauntlet.scopes import exact

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


@dataclass(frozen=True)
class Pair:
    """A convolution whose map goes into a batch norm, and nowhere else."""

    producers: Sequence[nn.Module]
    """The modules that put the map out, the convolution first …"""
    consumers: Sequence[nn.Module]
    """… and those that are given it, the norm last."""

    @property
    def convolution(self) -> Any:
        """The innermost of the givers."""
        return self.producers[0]

    @property
    def norm(self) -> Any:
        """The innermost of the takers."""
        return self.consumers[-1]

    def convolves(self) -> bool:
        """Whether both are torch's own, and not something derived from them."""
        return type(self.convolution) in _CONVOLUTIONS and type(self.norm) in _NORMS

    def foldable(self) -> bool:
        """Whether both are as torch made them, with fixed statistics, and no hook is shown the map."""
        if not self.convolves():
            return False
        altered = "forward" in vars(self.convolution) | vars(self.norm) or self.convolution._forward_pre_hooks
        shown = any(m._forward_hooks or m._backward_hooks or m._backward_pre_hooks for m in self.producers)
        shown |= any(m._forward_hooks or m._backward_hooks or m._forward_pre_hooks for m in self.consumers)
        fixed = not self.norm.training and self.norm.running_mean is not None
        return bool(fixed and not altered and not shown)

    @torch.no_grad()
    def as_one(self) -> dict[str, Tensor]:
        """Weight and bias of the convolution that does both."""
        norm, plain = self.norm, self.convolution
        scale = (norm.running_var + norm.eps).rsqrt()
        scale = scale if norm.weight is None else scale * norm.weight
        shift = -norm.running_mean if plain.bias is None else plain.bias - norm.running_mean
        bias = shift * scale if norm.bias is None else shift * scale + norm.bias
        weight = plain.weight * scale.reshape(-1, *[1] * (plain.weight.ndim - 1))
        return {"weight": weight.to(plain.weight.dtype), "bias": bias.to(plain.weight.dtype)}


class Folding:
    """Pairs that are folded, until they are unfolded. Parameters and buffers stay what they are."""

    def __init__(self, pairs: Sequence[Pair], rounding: float = 0.0) -> None:
        self._pairs = [(pair, pair.as_one()) for pair in pairs]
        self._rounding = rounding

    def __len__(self) -> int:
        """How many pairs."""
        return len(self._pairs)

    def fold(self) -> None:
        """Let each convolution do what the norm does, and the norm nothing."""
        for pair, one in self._pairs:
            pair.convolution.forward = partial(pair.convolution._conv_forward, **one)
            pair.norm.forward = _identity

    def unfold(self) -> None:
        """The network as it was."""
        for pair, _ in self._pairs:
            for part in (pair.convolution, pair.norm):
                vars(part).pop("forward", None)

    @contextmanager
    def unfolded(self) -> Iterator[None]:
        """Unfolded, for a while."""
        try:
            self.unfold()
            yield
        finally:
            self.fold()

    def low_margin(self, logits: Tensor) -> Tensor:
        """Where the prediction of `[N, K]` logits leads by so little that it may be otherwise unfolded, `[N]`.

        By less than half of its digits; what folding rounds differently is about a hundred times less.
        """
        first, second = logits.topk(2, 1).values.unbind(1)
        return first - second <= self.near(logits) * _finite(logits).abs().amax(1)

    def near(self, numbers: Tensor) -> float:
        """Which share of the largest number is little: half of the digits that the network answers in."""
        return max(_half_of_the_digits(numbers), self._rounding)


Probe = Callable[[], Sequence[Tensor]]
"""What is going to be seen of the network, of one image."""


@contextmanager
def folded(network: nn.Module, images: Tensor, probe: Probe | None = None) -> Iterator[Folding]:
    """The network with what can be folded folded, then as it was found. Not for two threads at once.

    Args:
        network: in eval mode. What goes where in it is the same for all images.
        images: `[N, C, H, W]`; the first is sent through a network that was not seen before, to see what goes where.
        probe: is asked with and without folding: where it tells the two apart, nothing is folded. By default the
            logits, and the feature maps where there are any.
    """
    image = images[:1]
    allowed = foldable(network)
    folding = _tried(network, image, probe or partial(_answers, network, image)) if allowed else Folding(())
    try:
        folding.fold()
        yield folding
    finally:
        folding.unfold()


def _tried(network: nn.Module, image: Tensor, probe: Probe) -> Folding:
    for _ in range(2):  # a network that was seen before may have changed since
        pairs = [pair for pair in _pairs_of(network, image) if pair.foldable()]
        folding = Folding(pairs, _KNOWN[network].rounding if pairs else 0.0)
        if not folding or _harmless(folding, image, probe):
            return folding
        del _KNOWN[network]
    _KNOWN[network] = Seen([], 0.0)
    return Folding(())


def _harmless(folding: Folding, image: Tensor, probe: Probe) -> bool:
    with _undisturbed(image):
        plain = probe()
    try:
        folding.fold()
        with _undisturbed(image):
            seen = probe()
    finally:
        folding.unfold()
    pairs = zip(plain, seen, strict=True)
    return all(
        bool((_finite(a) - _finite(b)).abs().max() <= folding.near(a) * _finite(a).abs().max())
        and a.isfinite().equal(b.isfinite())
        for a, b in pairs
    )


@contextmanager
def _undisturbed(image: Tensor) -> Iterator[None]:
    """In full precision, and torch's generators are left as they are."""
    with exact(), torch.random.fork_rng([image.device] if image.device.type == "cuda" else []):
        yield


def _finite(numbers: Tensor) -> Tensor:
    """Without infinities, which mark classes that do not exist; NaN stays."""
    return torch.where(numbers.isinf(), 0, numbers)


def _identity(maps: Tensor) -> Tensor:
    return maps


def _half_of_the_digits(numbers: Tensor) -> float:
    return float(torch.finfo(numbers.dtype).eps ** 0.5)


class Seen(NamedTuple):
    """What one forward of a network has shown."""

    joints: list[Joint]
    """Between a convolution and a norm."""
    rounding: float
    """Half of the digits of its least precise answer: logits that are float32 at the border may be worth less."""


_KNOWN: WeakKeyDictionary[nn.Module, Seen] = WeakKeyDictionary()


def _pairs_of(network: nn.Module, image: Tensor) -> list[Pair]:
    """Of a network seen before, what was seen then; parts that were replaced since have to be of the same kind."""
    parts = dict(network.named_modules())
    kinds = {type(part) for part in parts.values()}
    if kinds.isdisjoint(_CONVOLUTIONS) or kinds.isdisjoint(_NORMS) or nn.DataParallel in kinds or not len(image):
        return []
    if network not in _KNOWN:
        if any("forward" in vars(part) for part in parts.values()):  # others are at it: nothing is to be seen now
            return []
        flow = Flow(network)
        try:
            with _undisturbed(image), flow.watched():
                answers = _answers(network, image)
        except Exception:  # of the network's own, which the attack will meet as well if it concerns more than this
            return []
        joints = [joint for joint in flow.joints(answers) if _pair(joint, parts).convolves()]
        _KNOWN[network] = Seen(joints, max(map(_half_of_the_digits, answers), default=0.0))
    return [
        _pair(joint, parts) for joint in _KNOWN[network].joints if parts.keys() >= {*joint.producers, *joint.consumers}
    ]


def _pair(joint: Joint, parts: Mapping[str, nn.Module]) -> Pair:
    return Pair([parts[name] for name in joint.producers], [parts[name] for name in joint.consumers])


def _answers(network: nn.Module, image: Tensor) -> list[Tensor]:
    """All that the network hands out: logits, and feature maps where there are any."""
    own = image.clone()  # which it may change in place
    answers = network.tap(own) if isinstance(network, Tapped) else network(own)
    return [leaf for leaf in tree_leaves(answers) if isinstance(leaf, Tensor) and leaf.is_floating_point()]
