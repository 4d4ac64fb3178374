"""State changes that undo themselves: modes, gradients of parameters, precision and determinism."""

from __future__ import annotations

import os
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


# cuBLAS is deterministic with a workspace of fixed size only, and torch reads it from here when it first multiplies.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
_MEMORY: Any = torch.utils.deterministic
_WARN = 1  # torch's debug mode: deterministic where there is a kernel, a warning where there is none
_BACKENDS: Any = torch.backends  # whose newer switches have no type stubs, as above
_PRECISIONS = (
    _BACKENDS.cuda.matmul,
    _BACKENDS.cudnn.conv,
    _BACKENDS.mkldnn.matmul,
    _BACKENDS.mkldnn.conv,
)


@contextmanager
def exact() -> Iterator[None]:
    """Full float32, the same bits every time: no TF32, no autocast, deterministic kernels.

    On CUDA the sums of many threads come in any order unless torch is told otherwise: the gradient of a gather
    (ReColorAdv's table), a cumulative sum (the projection onto the L1 ball), convolutions. A few operations that a
    classifier may have, such as pooling to several cells or bilinear resizing, have no other kernel: torch warns, and
    the last bits may differ from one run to the next. Where the user has asked torch to refuse those, it does.
    """
    cudnn, mode = torch.backends.cudnn, torch.get_deterministic_debug_mode()
    before = [backend.fp32_precision for backend in _PRECISIONS], cudnn.deterministic, cudnn.benchmark
    fills = _MEMORY.fill_uninitialized_memory
    for backend in _PRECISIONS:
        backend.fp32_precision = "ieee"
    cudnn.deterministic, cudnn.benchmark = True, False
    torch.set_deterministic_debug_mode(max(mode, _WARN))
    _MEMORY.fill_uninitialized_memory = fills and mode > 0  # which costs time and finds other bugs than ours
    try:
        with torch.autocast("cuda", enabled=False), torch.autocast("cpu", enabled=False):
            yield
    finally:
        precisions, cudnn.deterministic, cudnn.benchmark = before
        torch.set_deterministic_debug_mode(mode)
        _MEMORY.fill_uninitialized_memory = fills
        for backend, precision in zip(_PRECISIONS, precisions, strict=True):
            backend.fp32_precision = precision
