"""State changes that undo themselves: modes, gradients of parameters, matrix precision."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Every submodule in eval mode, then each back in the mode it had."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """No parameter asks for a gradient, so a backward pass computes the images' alone and fills no `.grad`."""
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


_BACKENDS: Any = torch.backends  # whose newer switches have no type stubs
_PRECISIONS = (
    _BACKENDS.cuda.matmul,
    _BACKENDS.cudnn.conv,
    _BACKENDS.mkldnn.matmul,
    _BACKENDS.mkldnn.conv,
)


@contextmanager
def exact() -> Iterator[None]:
    """Full float32, the same bits every time: no TF32, no autocast, cuDNN's deterministic kernels."""
    cudnn = torch.backends.cudnn
    before = [backend.fp32_precision for backend in _PRECISIONS], cudnn.deterministic, cudnn.benchmark
    for backend in _PRECISIONS:
        backend.fp32_precision = "ieee"
    cudnn.deterministic, cudnn.benchmark = True, False
    try:
        with torch.autocast("cuda", enabled=False), torch.autocast("cpu", enabled=False):
            yield
    finally:
        precisions, cudnn.deterministic, cudnn.benchmark = before
        for backend, precision in zip(_PRECISIONS, precisions, strict=True):
            backend.fp32_precision = precision
