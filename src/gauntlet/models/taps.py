"""Classifiers of a normalisation and a network, with taps: submodules whose outputs are the feature maps for φ."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from gauntlet.models.capabilities import surrogate_of

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@runtime_checkable
class Tapped(Protocol):
    """A classifier with readable feature maps, from which φ, the embedding of a perceptual distance, is computed."""

    def features(self, images: Tensor) -> tuple[Tensor, ...]:
        """The feature maps, `[N, C_l, H_l, W_l]` each."""

    def tap(self, images: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """The feature maps and the logits `[N, K]` from one forward."""


class Normalise(nn.Module):
    """(images − mean) / std per channel, inside the classifier, so that all images outside are in [0, 1]."""

    identity: ClassVar[str] = "normalise/1"
    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        if len(mean) != len(std) or not all(deviation > 0 for deviation in std):
            raise ValueError(f"mean {list(mean)}, std {list(std)}: expected one of each per channel, std above 0")
        if not all(0 <= value <= 1 for value in (*mean, *std)):
            raise ValueError(f"mean {list(mean)}, std {list(std)}: images are in [0, 1], so are these; divide by 255")
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).reshape(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).reshape(-1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """`[N, C, H, W]` in [0, 1] to the network's own units."""
        if images.shape[1] != len(self.mean):
            raise ValueError(f"images have {images.shape[1]} channels, this network expects {len(self.mean)}")
        return (images - self.mean) / self.std


class Classifier(nn.Module):
    """Normalise, then a network.

    Args:
        normalise: images in [0, 1] to the network's input.
        network: to logits `[N, K]`; its tensors keep their names, with the prefix `network.`.
    """

    identity: ClassVar[str] = "classifier/1"

    def __init__(self, normalise: nn.Module, network: nn.Module) -> None:
        super().__init__()
        self.normalise, self.network = normalise, network

    def forward(self, images: Tensor) -> Tensor:
        """`[N, C, H, W]` in [0, 1] to logits `[N, K]`."""
        logits: Tensor = self.network(self.normalise(images))
        return logits

    @property
    def surrogate(self) -> Callable[[Tensor], Tensor] | None:
        """The network's own, if it has one, for images in [0, 1]; see `HasSurrogate`."""
        own = surrogate_of(self.network)
        return None if own is None else lambda images: own(self.normalise(images))


class TappedClassifier(Classifier):
    """A classifier that returns the outputs of some of its submodules.

    A layer that would overwrite such an output is switched to work out of place. All other in-place layers stay so,
    which saves a tenth of a forward on a CPU.

    Args:
        normalise: see `Classifier`.
        network: see `Classifier`.
        taps: names of submodules of `network`, such as `layer1`, in the order in which φ stacks them.

    Raises:
        ValueError: there is no such submodule.
    """

    identity: ClassVar[str] = "tapped_classifier/1"

    def __init__(self, normalise: nn.Module, network: nn.Module, taps: Sequence[str]) -> None:
        super().__init__(normalise, network)
        self.taps = tuple(taps)
        parts = dict(network.named_modules())
        unknown = [name for name in self.taps if not name or name not in parts]
        if unknown or not self.taps or len(set(self.taps)) < len(self.taps):
            first = ", ".join(name for name in parts if name and name.count(".") < 2)[:200]
            raise ValueError(f"taps {list(self.taps)}: expected different names of its submodules, such as {first}")
        self._recorder = _Recorder(self.taps)
        for part in _in_place(network):
            part.register_forward_pre_hook(_KeepRecorded(self._recorder))
        for name in self.taps:
            parts[name].register_forward_hook(_Tap(self._recorder, name))

    def features(self, images: Tensor) -> tuple[Tensor, ...]:
        """The feature maps; the forward stops at the last of them."""
        with self._recorder.recording(complete=False):
            with suppress(_StopForwardError):
                self.network(self.normalise(images))
            return self._recorder.maps()

    def tap(self, images: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """The feature maps and the logits `[N, K]` from one forward."""
        with self._recorder.recording(complete=True):
            logits = self(images)
            return self._recorder.maps(), logits

    def extra_repr(self) -> str:
        """The taps."""
        return f"taps={list(self.taps)}"


def classifier(network: nn.Module, mean: Sequence[float], std: Sequence[float], taps: Sequence[str] = ()) -> Classifier:
    """Make a classifier from any network, with taps if given.

    Args:
        network: normalised images to logits `[N, K]`.
        mean: per channel, in [0, 1].
        std: per channel, in [0, 1].
        taps: names of submodules whose outputs `[N, C, H, W]` are the feature maps for φ.
    """
    normalise = Normalise(mean, std)
    return TappedClassifier(normalise, network, taps) if taps else Classifier(normalise, network)


class _StopForwardError(Exception):
    """Raised once the last map is recorded, to skip the rest of the forward."""


class _Recorder:
    """Records the outputs of a classifier's taps during one forward; inactive at any other time."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names
        self.recorded: dict[str, tuple[Tensor, int]] = {}
        self.active = False
        self.complete = False

    @contextmanager
    def recording(self, complete: bool) -> Iterator[None]:
        self.active, self.complete = True, complete
        try:
            yield
        finally:
            self.recorded, self.active = {}, False

    def record(self, name: str, output: Any) -> None:
        if name in self.recorded:
            raise ValueError(
                f"tap {name} runs more than once per forward, so it is not one feature map: choose another"
            )
        if not isinstance(output, Tensor) or output.ndim != 4:
            kind = list(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise ValueError(f"tap {name} returns {kind}: φ needs feature maps [N, C, H, W]; choose another")
        self.recorded[name] = output, _version(output)
        if not self.complete and len(self.recorded) == len(self.names):
            raise _StopForwardError

    def maps(self) -> tuple[Tensor, ...]:
        """The maps in the order of the names."""
        for name in self.names:
            if name not in self.recorded:
                raise ValueError(f"tap {name} does not run in this network's forward: choose another")
            output, version = self.recorded[name]
            if _version(output) != version:
                raise ValueError(f"the output of tap {name} is overwritten in place by a later layer: tap that layer")
        return tuple(self.recorded[name][0] for name in self.names)


class _Tap:
    """The forward hook of one submodule; an object, so that copies and pickles of a classifier have their own."""

    def __init__(self, recorder: _Recorder, name: str) -> None:
        self.recorder, self.name = recorder, name

    def __call__(self, module: nn.Module, inputs: Any, output: Any) -> None:
        if self.recorder.active:
            self.recorder.record(self.name, output)


class _KeepRecorded:
    """The pre-forward hook of an in-place layer, which must not overwrite what the taps have recorded."""

    def __init__(self, recorder: _Recorder) -> None:
        self.recorder = recorder

    def __call__(self, module: Any, inputs: Sequence[Any]) -> None:
        recorded = [_base_of(output) for output, _ in self.recorder.recorded.values()]
        for tensor in inputs:
            if isinstance(tensor, Tensor) and any(_base_of(tensor) is output for output in recorded):
                module.inplace = False


def _base_of(tensor: Tensor) -> Tensor:
    """The tensor that a tensor is a view of, or the tensor itself."""
    return tensor if tensor._base is None else tensor._base


def _in_place(network: nn.Module) -> list[Any]:
    """The layers that overwrite their input."""
    return [part for part in network.modules() if getattr(part, "inplace", False) is True]


def _version(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version
