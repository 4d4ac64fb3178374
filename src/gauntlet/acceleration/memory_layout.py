"""The channels-last memory layout of a network's weights."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

_BLOCK = 16  # channels that oneDNN processes at once with AVX-512; 8 with AVX2


def channels_last(network: nn.Module) -> nn.Module:
    """Convert the weights in place to the layout that convolutions are fastest in; return the network.

    Results are equal up to float32 rounding. 1×1 convolutions with a stride and less than 16 channels, such as the
    shortcuts of a very narrow ResNet, keep PyTorch's own layout: in this one oneDNN's gradient of their weights writes
    past its buffer, which gives wrong gradients, a crash or a hanging process (uxlfoundation/oneDNN#6035, in torch
    2.15).
    """
    network.to(memory_format=torch.channels_last)
    for part in network.modules():
        if isinstance(part, nn.Conv2d) and _overflows(part):
            part.weight.data = _contiguous(part.weight.detach())
            part.register_forward_pre_hook(_use_contiguous_input)
    return network


def _overflows(part: nn.Conv2d) -> bool:
    return part.kernel_size == (1, 1) and max(part.stride) > 1 and part.in_channels // part.groups < _BLOCK


def _use_contiguous_input(part: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    if args and torch.is_grad_enabled() and cast(nn.Conv2d, part).weight.requires_grad:
        return (_contiguous(args[0]), *args[1:])
    return args


def _contiguous(tensor: Tensor) -> Tensor:
    """Copy: `.contiguous()` would keep the strides of axes of length 1, from which the layout is inferred."""
    return tensor.clone(memory_format=torch.contiguous_format)
