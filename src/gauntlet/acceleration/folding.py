"""Batch norms folded into the convolutions before them during a search: in eval mode the two are one convolution.

bn(conv(x)) = conv'(x) with w' = w·γ/√(σ² + ε) and b' = β + (b − μ)·γ/√(σ² + ε) per output channel. That saves a pass
over every map, forwards and backwards, and the memory for batch norm's input, which its backward needs.
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
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torch.utils._pytree import tree_leaves

from gauntlet.acceleration.dataflow import Flow, Joint
from gauntlet.models import Tapped, foldable
from gauntlet.scopes import exact

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


@dataclass(frozen=True)
class Pair:
    """A convolution whose output is read by a batch norm only."""

    producers: Sequence[nn.Module]
    """The modules that return the map, the convolution first …"""
    consumers: Sequence[nn.Module]
    """… and the modules that receive it, the norm last."""

    @property
    def convolution(self) -> Any:
        """The innermost producer."""
        return self.producers[0]

    @property
    def norm(self) -> Any:
        """The innermost consumer."""
        return self.consumers[-1]

    def convolves(self) -> bool:
        """Whether both are torch's own classes, not subclasses."""
        return type(self.convolution) in _CONVOLUTIONS and type(self.norm) in _NORMS

    def foldable(self) -> bool:
        """Whether both are unmodified torch modules with fixed statistics, and no hook sees the map."""
        if not self.convolves():
            return False
        altered = "forward" in vars(self.convolution) | vars(self.norm) or self.convolution._forward_pre_hooks
        hooked = any(m._forward_hooks or m._backward_hooks or m._backward_pre_hooks for m in self.producers)
        hooked |= any(m._forward_hooks or m._backward_hooks or m._forward_pre_hooks for m in self.consumers)
        fixed = not self.norm.training and self.norm.running_mean is not None
        return bool(fixed and not altered and not hooked)

    @torch.no_grad()
    def folded_parameters(self) -> dict[str, Tensor]:
        """Weight and bias of the one convolution that replaces both."""
        convolution, norm = self.convolution, self.norm
        statistics = (norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias)
        weight, bias = fuse_conv_bn_weights(convolution.weight, convolution.bias, *statistics)
        return {"weight": weight.detach(), "bias": bias.detach()}


class Folding:
    """Pairs that can be folded and unfolded. Parameters and buffers are not changed."""

    def __init__(self, pairs: Sequence[Pair], rounding: float = 0.0) -> None:
        self._pairs = [(pair, pair.folded_parameters()) for pair in pairs]
        self._rounding = rounding

    def __len__(self) -> int:
        """The number of pairs."""
        return len(self._pairs)

    def fold(self) -> None:
        """Compute both in each convolution, and make each norm the identity."""
        for pair, parameters in self._pairs:
            pair.convolution.forward = partial(pair.convolution._conv_forward, **parameters)
            pair.norm.forward = _identity

    def unfold(self) -> None:
        """Restore the network."""
        for pair, _ in self._pairs:
            for part in (pair.convolution, pair.norm):
                vars(part).pop("forward", None)

    @contextmanager
    def unfolded(self) -> Iterator[None]:
        """The network unfolded in a context, then folded again."""
        try:
            self.unfold()
            yield
        finally:
            self.fold()

    def low_margin(self, logits: Tensor) -> Tensor:
        """Where the top two of `[N, K]` logits are so close that the prediction may differ unfolded, `[N]`.

        Their difference is below half of the digits; the rounding error of folding is about a hundred times smaller.
        """
        first, second = logits.topk(2, 1).values.unbind(1)
        return first - second <= self.relative_tolerance(logits) * _finite(logits).abs().amax(1)

    def relative_tolerance(self, numbers: Tensor) -> float:
        """The tolerance relative to the largest number: half of the digits of the outputs."""
        return max(_half_of_the_digits(numbers), self._rounding)


Probe = Callable[[], Sequence[Tensor]]
"""Computes the outputs of the network that will be used, for one image."""


@contextmanager
def folded(network: nn.Module, images: Tensor, probe: Probe | None = None) -> Iterator[Folding]:
    """Fold the network in a context, and restore it afterwards. Not thread-safe.

    Args:
        network: in eval mode. Its data flow must be the same for all images.
        images: `[N, C, H, W]`; the first is used to record the data flow of a network not analysed before.
        probe: called with and without folding; if its outputs differ, nothing is folded. By default the logits, and
            the feature maps where there are any.
    """
    image = images[:1]
    allowed = foldable(network)
    folding = _checked_folding(network, image, probe or partial(_outputs, network, image)) if allowed else Folding(())
    try:
        folding.fold()
        yield folding
    finally:
        folding.unfold()


def _checked_folding(network: nn.Module, image: Tensor, probe: Probe) -> Folding:
    for _ in range(2):  # the second time without the cached analysis: the network may have changed since
        pairs = [pair for pair in _pairs_of(network, image) if pair.foldable()]
        folding = Folding(pairs, _ANALYSES[network].rounding if pairs else 0.0)
        if not folding or _is_harmless(folding, image, probe):
            return folding
        del _ANALYSES[network]
    _ANALYSES[network] = _Analysis([], 0.0)
    return Folding(())


def _is_harmless(folding: Folding, image: Tensor, probe: Probe) -> bool:
    with _reproducible(image):
        unfolded_outputs = probe()
    try:
        folding.fold()
        with _reproducible(image):
            folded_outputs = probe()
    finally:
        folding.unfold()
    for unfolded, after in zip(unfolded_outputs, folded_outputs, strict=True):
        change = (_finite(unfolded) - _finite(after)).abs().max()
        close = change <= folding.relative_tolerance(unfolded) * _finite(unfolded).abs().max()
        if not close or not unfolded.isfinite().equal(after.isfinite()):
            return False
    return True


@contextmanager
def _reproducible(image: Tensor) -> Iterator[None]:
    """Run in full precision, and restore torch's generators."""
    with exact(), torch.random.fork_rng([image.device] if image.device.type == "cuda" else []):
        yield


def _finite(numbers: Tensor) -> Tensor:
    """The numbers with 0 for infinities, which mark classes that do not exist; NaN stays."""
    return torch.where(numbers.isinf(), 0, numbers)


def _identity(maps: Tensor) -> Tensor:
    return maps


def _half_of_the_digits(numbers: Tensor) -> float:
    return float(torch.finfo(numbers.dtype).eps ** 0.5)


class _Analysis(NamedTuple):
    """What one recorded forward of a network shows."""

    joints: list[Joint]
    """Between a convolution and a norm."""
    rounding: float
    """Half of the digits of its least precise output: logits returned as float32 may have been computed in less."""


_ANALYSES: WeakKeyDictionary[nn.Module, _Analysis] = WeakKeyDictionary()


def _pairs_of(network: nn.Module, image: Tensor) -> list[Pair]:
    """The pairs of a network, from its cached analysis if there is one; replaced modules must have the same class."""
    parts = dict(network.named_modules())
    kinds = {type(part) for part in parts.values()}
    if kinds.isdisjoint(_CONVOLUTIONS) or kinds.isdisjoint(_NORMS) or nn.DataParallel in kinds or not len(image):
        return []
    if network not in _ANALYSES:
        if any(
            "forward" in vars(part) for part in parts.values()
        ):  # folded by another caller: nothing can be recorded now
            return []
        flow = Flow(network)
        try:
            with _reproducible(image), flow.recording():
                outputs = _outputs(network, image)
        except Exception:  # of the network itself; the attack will raise it too, unless only the recording does
            return []
        joints = [joint for joint in flow.joints(outputs) if _pair(joint, parts).convolves()]
        _ANALYSES[network] = _Analysis(joints, max(map(_half_of_the_digits, outputs), default=0.0))
    present = [joint for joint in _ANALYSES[network].joints if parts.keys() >= {*joint.producers, *joint.consumers}]
    return [_pair(joint, parts) for joint in present]


def _pair(joint: Joint, parts: Mapping[str, nn.Module]) -> Pair:
    return Pair([parts[name] for name in joint.producers], [parts[name] for name in joint.consumers])


def _outputs(network: nn.Module, image: Tensor) -> list[Tensor]:
    """All outputs of the network: logits, and feature maps where there are any."""
    copy = image.clone()  # the network may change its input in place
    outputs = network.tap(copy) if isinstance(network, Tapped) else network(copy)
    return [leaf for leaf in tree_leaves(outputs) if isinstance(leaf, Tensor) and leaf.is_floating_point()]
