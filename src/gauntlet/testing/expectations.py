"""Assertions of the contract checks, with messages for their users."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from gauntlet.checks import in_box
from gauntlet.descriptions import digest
from gauntlet.errors import UserError
from gauntlet.identity import describe


def expect(condition: bool | Tensor, message: str) -> None:
    """Raise AssertionError with the message unless the condition holds."""
    if not condition:
        raise AssertionError(message)


def name_of(thing: Any) -> str:
    """The name of an object's class, with which messages begin."""
    return type(thing).__name__


def is_frozen(thing: Any) -> bool:
    """Whether an object is an instance of a frozen dataclass."""
    params = getattr(type(thing), "__dataclass_params__", None)
    return params is not None and bool(params.frozen)


def first_row(rows: Tensor) -> int:
    """The index of the first true row of a mask `[N]`; −1 if there is none."""
    indices = rows.nonzero().flatten().tolist()
    return indices[0] if indices else -1


def tolerance_of(images: Tensor) -> float:
    """The tolerance for the rounding of equal sums in different batches, by the dtype of images."""
    return 1e-9 if images.dtype == torch.float64 else 1e-4


def expect_alike(actual: Tensor, expected: Tensor, tolerance: float, what: str) -> None:
    """Raise AssertionError if two tensors differ by more than a tolerance, with the row and the difference."""
    expect(actual.shape == expected.shape, f"{what}: shape {list(actual.shape)}, expected {list(expected.shape)}")
    expect(actual.dtype == expected.dtype, f"{what}: {actual.dtype}, expected {expected.dtype}")
    if not len(actual):
        return
    same = (actual == expected) | (actual.isnan() & expected.isnan())  # equal infinities as well
    difference = torch.where(same, 0, (actual.double() - expected.double()).abs()).flatten(1 if actual.ndim > 1 else 0)
    worst = difference.amax(1) if difference.ndim > 1 else difference
    expect(
        bool((worst <= tolerance).all()),
        f"{what}: they differ by {worst.max().item():.3g} in row {int(worst.argmax())}, expected at most"
        f" {tolerance:.0e}",
    )


def expect_images(images: Tensor, like: Tensor, what: str) -> None:
    """Raise AssertionError unless images are finite, in [0, 1], and of the shape and dtype of `like`."""
    expect(images.shape == like.shape, f"{what}: images {list(images.shape)} for {list(like.shape)}")
    expect(images.dtype == like.dtype, f"{what}: images of {images.dtype} for {like.dtype}")
    finite = images.isfinite().flatten(1).all(1)
    expect(finite.all(), f"{what}: pixels are NaN or infinite in row {first_row(~finite)}")
    in_range = in_box(images)
    if not in_range.all():
        low, high = images.min().item(), images.max().item()
        raise AssertionError(
            f"{what}: pixels from {low:.4g} to {high:.4g} in row {first_row(~in_range)}, expected [0, 1]"
        )


def expect_identity(thing: Any) -> None:
    """Raise AssertionError unless an object is an instance of a frozen dataclass with an identity."""
    kind = name_of(thing)
    advice = "its identity is read off its fields; write @dataclass(frozen=True)"
    expect(is_frozen(thing), f"{kind} is no frozen dataclass: {advice}")
    expect(
        "__dataclass_params__" in vars(type(thing)),
        f"{kind} is no dataclass itself, only a base class of it is: fields of its own would be missing from its"
        f" identity; write @dataclass(frozen=True)",
    )
    try:
        first, second = digest(describe(thing)), digest(describe(thing))
    except (TypeError, UserError) as error:
        raise AssertionError(f"{kind} has no identity: {error}") from error
    expect(first == second, f"{kind} has two identities: {first[:8]} and {second[:8]}")


@contextmanager
def expect_unchanged(owner: str, **tensors: Tensor) -> Iterator[None]:
    """Raise AssertionError if tensors of the caller were changed."""
    before = {name: (tensor.clone(), tensor._version) for name, tensor in tensors.items()}
    yield
    for name, tensor in tensors.items():
        copy, version = before[name]
        expect(
            tensor._version == version and tensor.equal(copy), f"{owner} writes on the caller's {name}: copy them first"
        )


@contextmanager
def expect_restored(owner: str, classifier: nn.Module) -> Iterator[None]:
    """Raise AssertionError unless a classifier's modes, tensors, gradients and hooks are as they were."""
    modes = {name: part.training for name, part in classifier.named_modules()}
    requires_grad = {name: tensor.requires_grad for name, tensor in classifier.named_parameters()}
    gradients = {name: _copy(tensor.grad) for name, tensor in classifier.named_parameters()}
    state = {name: tensor.clone() for name, tensor in classifier.state_dict().items()}
    hooks = {name: _hooks(part) for name, part in classifier.named_modules()}
    yield
    for name, part in classifier.named_modules():
        expect(part.training == modes[name], f"{owner} leaves {name or 'the classifier'} in another mode: restore it")
        expect(_hooks(part) == hooks[name], f"{owner} leaves hooks on {name or 'the classifier'}: remove them")
    for name, tensor in classifier.state_dict().items():
        expect(tensor.equal(state[name]), f"{owner} changes {name} of the classifier: it may only read it")
    for name, tensor in classifier.named_parameters():
        expect(
            tensor.requires_grad == requires_grad[name], f"{owner} leaves requires_grad of {name} changed: restore it"
        )
        expect(_same(tensor.grad, gradients[name]), f"{owner} fills the gradient of {name}: use torch.autograd.grad")


def _hooks(part: nn.Module) -> int:
    return len(part._forward_hooks) + len(part._forward_pre_hooks) + len(part._backward_hooks)


def _copy(gradient: Tensor | None) -> Tensor | None:
    return None if gradient is None else gradient.clone()


def _same(gradient: Tensor | None, before: Tensor | None) -> bool:
    if gradient is None or before is None:
        return gradient is before
    return gradient.equal(before)
