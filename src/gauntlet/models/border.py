"""How a classifier is asked: its input is left as it was, and its answer is float logits in one form.

Networks of other people answer with tuples, mappings or other dtypes, and some normalise their input in place. What a
network needs is found out in its first forward; every later one costs two comparisons.
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


class Answers(NamedTuple):
    """What a classifier says about `[N, C, H, W]` images."""

    logits: Tensor
    """`[N, K]`, which decide what is predicted."""
    surrogate: Tensor | None
    """`[N, K]`, which gradients climb; None: the logits themselves."""


def logits_of(classifier: nn.Module, images: Tensor) -> Tensor:
    """The logits `[N, K]` of `[N, C, H, W]` images, in their dtype and in float32 at least.

    Of a tuple or a list they are the first element, of a named tuple or a mapping what is called `logits`.
    −∞ marks a class that does not exist.

    Raises:
        UserError: the classifier answers anything else, or changes its input in place at some times only.
    """
    return _logits(_ask(classifier, _FORWARD, images), images)


def outputs_for(task: Task, network: nn.Module, images: Tensor) -> Tensor:
    """The outputs `[N, …]` of a network in the form of its task, read as `logits_of` reads logits.

    Raises:
        UserError: as in `logits_of`.
    """
    return _read(task, _ask(network, _FORWARD, images), images)


def answer_of(classifier: nn.Module, images: Tensor) -> Any:
    """Whatever a classifier answers, in train mode as well; the images stay what they are."""
    return _ask(classifier, _FORWARD, images)


def answers_of(classifier: nn.Module, images: Tensor) -> Answers:
    """The logits of images, and those of the classifier's surrogate where it has one; as `logits_of`."""
    if surrogate_of(classifier) is None:
        return Answers(logits_of(classifier, images), None)
    with torch.no_grad():
        logits = logits_of(classifier, images)
    return Answers(logits, _logits(_ask(classifier, "surrogate", images), images))


def climbed_of(classifier: nn.Module, images: Tensor) -> Tensor:
    """The logits `[N, K]` that gradients climb: the surrogate's, or the classifier's own."""
    return _logits(_ask(classifier, _FORWARD if surrogate_of(classifier) is None else "surrogate", images), images)


def features_of(network: Tapped, images: Tensor) -> tuple[Tensor, ...]:
    """The feature maps of a tapped network."""
    maps: tuple[Tensor, ...] = _ask(cast(nn.Module, network), "features", images)
    return maps


def tap_of(network: Tapped, images: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
    """The feature maps of a tapped network and its logits, as `logits_of`, from one forward."""
    maps, answer = _ask(cast(nn.Module, network), "tap", images)
    return maps, _logits(answer, images)


@dataclass(frozen=True)
class _Needs:
    """What the first forward has shown."""

    copy: bool
    """It changes its input in place."""
    dtype: torch.dtype | None
    """Its weights have another dtype than the images, and it does not convert them."""


_NEEDS: WeakKeyDictionary[nn.Module, dict[tuple[str, torch.dtype], _Needs]] = WeakKeyDictionary()


def _ask(network: nn.Module, method: str, images: Tensor) -> Any:
    """Call a method of the network so that the images stay what they are."""
    call = network if method == _FORWARD else getattr(network, method)
    if torch.is_inference_mode_enabled() and needs_gradients(network):
        raise UserError(
            f"{type(network).__name__} optimises inside its forward, which inference mode forbids: use torch.no_grad(),"
            f" or Trainer(inference_mode=False)"
        )
    known = _NEEDS.setdefault(network, {})
    needs = known.get((method, images.dtype))
    if needs is None:
        return _ask_first(network, method, images, known)
    if needs.dtype is not None:
        return call(images.to(needs.dtype))
    if needs.copy:
        return call(images.clone())
    before = _version(images)
    answer = call(images)
    if _version(images) != before:
        known[method, images.dtype] = _Needs(copy=True, dtype=None)
        raise UserError(
            f"{type(network).__name__} changed its input in place, and did not the first time: write x = (x - mean) /"
            f" std in its forward, not x.sub_(mean).div_(std)"
        )
    return answer


def _ask_first(network: nn.Module, method: str, images: Tensor, known: dict[tuple[str, torch.dtype], _Needs]) -> Any:
    """Call it on a copy, and see what becomes of that."""
    call = network if method == _FORWARD else getattr(network, method)
    own, dtype = images.clone(), None
    try:
        answer = call(own)
    except RuntimeError:
        dtype = _dtype_of(network)
        if dtype in (None, images.dtype):
            raise
        own = images.to(dtype)
        answer = call(own)
    if len(images):
        changed = dtype is None and (_version(own) != 0 or not own.equal(images))
        known[method, images.dtype] = _Needs(copy=changed, dtype=dtype)
    return answer


def _dtype_of(network: nn.Module) -> torch.dtype | None:
    """The dtype of all its weights, if they have one dtype."""
    kinds = {parameter.dtype for parameter in network.parameters() if parameter.is_floating_point()}
    return kinds.pop() if len(kinds) == 1 else None


def _version(tensor: Tensor) -> int:
    """How often the tensor, or what it is a view of, was changed in place."""
    return 0 if tensor.is_inference() else tensor._version


def _logits(answer: Any, images: Tensor) -> Tensor:
    return _read(CLASSIFICATION, answer, images)


def _read(task: Task, answer: Any, images: Tensor) -> Tensor:
    outputs = _main(answer)
    if not isinstance(outputs, Tensor):
        raise UserError(
            f"the classifier answered {_named(answer)}: expected {task.form('N', 'K')}, a tuple that begins with them,"
            f" or a mapping with logits; wrap it in a module whose forward returns them"
        )
    if not (task.takes(outputs) and len(outputs) == len(images) and outputs.is_floating_point()):
        raise UserError(
            f"the classifier answered {outputs.dtype} {list(outputs.shape)} for {len(images)} images: expected float"
            f" {task.form(len(images), 'K')}; wrap it in a module whose forward returns them"
        )
    if outputs.requires_grad and not torch.is_grad_enabled():  # of a forward that enables gradients itself
        outputs = outputs.detach()
    return outputs.to(torch.promote_types(images.dtype, torch.float32))


def _main(answer: Any) -> Any:
    if isinstance(answer, Tensor):
        return answer
    if isinstance(answer, Mapping):
        return answer.get("logits")
    if hasattr(answer, "logits"):
        return answer.logits
    return answer[0] if isinstance(answer, tuple | list) and answer else None


def _named(answer: Any) -> str:
    if isinstance(answer, Mapping):
        return f"a {type(answer).__name__} of {sorted(map(str, answer))}"
    if isinstance(answer, tuple | list) and answer:
        return f"a {type(answer).__name__} that begins with {type(answer[0]).__name__}"
    return "nothing" if answer is None else f"a {type(answer).__name__}"
