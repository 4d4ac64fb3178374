"""Context managers that restore state: modes, gradients of parameters, precision and determinism."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Put every submodule in eval mode, and restore each mode afterwards."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Disable gradients of parameters: a backward pass computes only those of the images and fills no `.grad`."""
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


# cuBLAS is deterministic only with a workspace of fixed size; torch reads this variable at its first product.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
_MEMORY: Any = torch.utils.deterministic
_WARN = 1  # torch's debug mode: deterministic where there is a kernel, a warning where there is none
_BACKENDS: Any = torch.backends  # Any: its newer switches have no type stubs, nor has the module above
_PRECISIONS = (
    _BACKENDS.cuda.matmul,
    _BACKENDS.cudnn.conv,
    _BACKENDS.mkldnn.matmul,
    _BACKENDS.mkldnn.conv,
)


@contextmanager
def exact() -> Iterator[None]:
    """Compute in full float32, bit-reproducibly: no TF32, no autocast, deterministic kernels.

    On CUDA the order of sums over threads is otherwise undefined: the gradient of a gather (ReColorAdv's table), a
    cumulative sum (the projection onto the L1 ball), convolutions. A few operations of classifiers, such as pooling to
    several cells or bilinear resizing, have no deterministic kernel: torch warns, and the last bits may differ between
    runs. If the user has configured torch to refuse them, it does.
    """
    cudnn, mode = torch.backends.cudnn, torch.get_deterministic_debug_mode()
    precisions = [backend.fp32_precision for backend in _PRECISIONS]
    deterministic, benchmark = cudnn.deterministic, cudnn.benchmark
    fills = _MEMORY.fill_uninitialized_memory
    for backend in _PRECISIONS:
        backend.fp32_precision = "ieee"
    cudnn.deterministic, cudnn.benchmark = True, False
    torch.set_deterministic_debug_mode(max(mode, _WARN))
    _MEMORY.fill_uninitialized_memory = fills and mode > 0  # filling costs time and is for finding bugs
    try:
        with torch.autocast("cuda", enabled=False), torch.autocast("cpu", enabled=False):
            yield
    finally:
        cudnn.deterministic, cudnn.benchmark = deterministic, benchmark
        torch.set_deterministic_debug_mode(mode)
        _MEMORY.fill_uninitialized_memory = fills
        for backend, precision in zip(_PRECISIONS, precisions, strict=True):
            backend.fp32_precision = precision
