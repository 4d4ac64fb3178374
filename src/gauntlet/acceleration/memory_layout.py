"""How a network's weights lie in memory."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

_BLOCK = 16  # channels that oneDNN works on at once: with AVX-512; with AVX2 they are 8


def channels_last(network: nn.Module) -> nn.Module:
    """The network itself, its weights as convolutions want them: results are equal to float32 rounding.

    But for 1×1 convolutions with a stride and less than 16 channels, such as the shortcuts of a very narrow ResNet: in
    this layout oneDNN's gradient of their weights writes past its buffer, which gives wrong gradients, a crash or a
    process that hangs (uxlfoundation/oneDNN#6035, in torch 2.15). They are trained in PyTorch's own layout.
    """
    network.to(memory_format=torch.channels_last)
    for part in network.modules():
        if isinstance(part, nn.Conv2d) and _overflows(part):
            part.weight.data = _plain(part.weight.detach())
            part.register_forward_pre_hook(_spare)
    return network


def _overflows(part: nn.Conv2d) -> bool:
    return part.kernel_size == (1, 1) and max(part.stride) > 1 and part.in_channels // part.groups < _BLOCK


def _spare(part: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
    if given and torch.is_grad_enabled() and cast(nn.Conv2d, part).weight.requires_grad:
        return (_plain(given[0]), *given[1:])
    return given


def _plain(tensor: Tensor) -> Tensor:
    """A copy, since `.contiguous()` leaves the strides of axes of length 1 as they are, by which layouts are told."""
    return tensor.clone(memory_format=torch.contiguous_format)
