"""Calls of classifiers: the input is not changed, and the output is float logits in one form.

Foreign networks return tuples, mappings or other dtypes, and some normalise their input in place. What a network needs
is determined in its first forward; every later one costs two comparisons.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from gauntlet.errors import UserError
from gauntlet.models.capabilities import needs_gradients, surrogate_of
from gauntlet.models.taps import Tapped
from gauntlet.task import CLASSIFICATION, Task

_FORWARD = "__call__"


class LogitsAndSurrogate(NamedTuple):
    """The outputs of a classifier for `[N, C, H, W]` images."""

    logits: Tensor
    """`[N, K]`, of the prediction."""
    surrogate: Tensor | None
    """`[N, K]`, to ascend; None for the logits themselves."""


def logits_of(classifier: nn.Module, images: Tensor) -> Tensor:
    """The logits `[N, K]` of `[N, C, H, W]` images, in their dtype and in float32 at least.

    Of a tuple or a list they are the first element, of a named tuple or a mapping the entry `logits`. −∞ marks a class
    that does not exist.

    Raises:
        UserError: the classifier returns anything else, or changes its input in place only sometimes.
    """
    return _logits(_call(classifier, _FORWARD, images), images)


def outputs_for(task: Task, network: nn.Module, images: Tensor) -> Tensor:
    """The outputs `[N, …]` of a network in the form of its task, read as `logits_of` reads logits.

    Raises:
        UserError: as in `logits_of`.
    """
    return _read(task, _call(network, _FORWARD, images), images)


def raw_output(classifier: nn.Module, images: Tensor) -> Any:
    """The raw output of a classifier, in train mode as well; the images are not changed."""
    return _call(classifier, _FORWARD, images)


def logits_and_surrogate(classifier: nn.Module, images: Tensor) -> LogitsAndSurrogate:
    """The logits of images, and those of the classifier's surrogate if it has one; see `logits_of`."""
    if surrogate_of(classifier) is None:
        return LogitsAndSurrogate(logits_of(classifier, images), None)
    with torch.no_grad():
        logits = logits_of(classifier, images)
    return LogitsAndSurrogate(logits, _logits(_call(classifier, "surrogate", images), images))


def ascent_logits(classifier: nn.Module, images: Tensor) -> Tensor:
    """The logits `[N, K]` to ascend: the surrogate's, or the classifier's own."""
    method = _FORWARD if surrogate_of(classifier) is None else "surrogate"
    return _logits(_call(classifier, method, images), images)


def features_of(network: Tapped, images: Tensor) -> tuple[Tensor, ...]:
    """The feature maps of a tapped network."""
    maps: tuple[Tensor, ...] = _call(cast(nn.Module, network), "features", images)
    return maps


def tap_of(network: Tapped, images: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
    """The feature maps of a tapped network and its logits, from one forward; see `logits_of`."""
    maps, output = _call(cast(nn.Module, network), "tap", images)
    return maps, _logits(output, images)


@dataclass(frozen=True)
class _InputHandling:
    """How to pass images to a network, determined in its first forward."""

    copy: bool
    """Whether it changes its input in place, so that it needs a copy."""
    dtype: torch.dtype | None
    """The dtype of its weights, if it differs from that of the images and the network does not convert them."""


_INPUT_HANDLING: WeakKeyDictionary[nn.Module, dict[tuple[str, torch.dtype], _InputHandling]] = WeakKeyDictionary()


def _call(network: nn.Module, method: str, images: Tensor) -> Any:
    """Call a method of the network without changing the images."""
    call = network if method == _FORWARD else getattr(network, method)
    if torch.is_inference_mode_enabled() and needs_gradients(network):
        raise UserError(
            f"{type(network).__name__} optimises inside its forward, which inference mode forbids: use torch.no_grad(),"
            f" or Trainer(inference_mode=False)"
        )
    known = _INPUT_HANDLING.setdefault(network, {})
    handling = known.get((method, images.dtype))
    if handling is None:
        return _first_call(network, method, images, known)
    if handling.dtype is not None:
        return call(images.to(handling.dtype))
    if handling.copy:
        return call(images.clone())
    before = _version(images)
    output = call(images)
    if _version(images) != before:
        known[method, images.dtype] = _InputHandling(copy=True, dtype=None)
        raise UserError(
            f"{type(network).__name__} changed its input in place, but not in its first forward: write x = (x - mean) /"
            f" std in its forward, not x.sub_(mean).div_(std)"
        )
    return output


def _first_call(
    network: nn.Module, method: str, images: Tensor, known: dict[tuple[str, torch.dtype], _InputHandling]
) -> Any:
    """Call a method on a copy of the images, and record what happens to the copy."""
    call = network if method == _FORWARD else getattr(network, method)
    copy = images.clone()
    dtype = None
    try:
        output = call(copy)
    except RuntimeError:
        dtype = _dtype_of(network)
        if dtype in (None, images.dtype):
            raise
        copy = images.to(dtype)
        output = call(copy)
    if len(images):
        changed = dtype is None and (_version(copy) != 0 or not copy.equal(images))
        known[method, images.dtype] = _InputHandling(copy=changed, dtype=dtype)
    return output


def _dtype_of(network: nn.Module) -> torch.dtype | None:
    """The dtype of all weights, if they have the same."""
    dtypes = {parameter.dtype for parameter in network.parameters() if parameter.is_floating_point()}
    return dtypes.pop() if len(dtypes) == 1 else None


def _version(tensor: Tensor) -> int:
    """The number of in-place changes of the tensor, or of the tensor it is a view of."""
    return 0 if tensor.is_inference() else tensor._version


def _logits(output: Any, images: Tensor) -> Tensor:
    return _read(CLASSIFICATION, output, images)


def _read(task: Task, output: Any, images: Tensor) -> Tensor:
    outputs = _logits_in(output)
    if not isinstance(outputs, Tensor):
        raise UserError(
            f"the classifier answered {_describe(output)}: expected {task.form('N', 'K')}, a tuple that begins with"
            f" them, or a mapping with logits; wrap it in a module whose forward returns them"
        )
    if not (task.takes(outputs) and len(outputs) == len(images) and outputs.is_floating_point()):
        raise UserError(
            f"the classifier answered {outputs.dtype} {list(outputs.shape)} for {len(images)} images: expected float"
            f" {task.form(len(images), 'K')}; wrap it in a module whose forward returns them"
        )
    if outputs.requires_grad and not torch.is_grad_enabled():  # the forward enabled gradients itself
        outputs = outputs.detach()
    return outputs.to(torch.promote_types(images.dtype, torch.float32))


def _logits_in(output: Any) -> Any:
    if isinstance(output, Tensor):
        return output
    if isinstance(output, Mapping):
        return output.get("logits")
    if hasattr(output, "logits"):
        return output.logits
    return output[0] if isinstance(output, tuple | list) and output else None


def _describe(output: Any) -> str:
    if isinstance(output, Mapping):
        return f"a {type(output).__name__} of {sorted(map(str, output))}"
    if isinstance(output, tuple | list) and output:
        return f"a {type(output).__name__} that begins with {type(output[0]).__name__}"
    return "nothing" if output is None else f"a {type(output).__name__}"
