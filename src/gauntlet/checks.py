"""The promises around an attack, checked where it begins and where it ends."""

from __future__ import annotations

import torch
from torch import Tensor

from gauntlet.errors import NotFiniteError, ThreatModelViolation

TOLERANCE = 1e-4  # of the bound: φ is a long sum, and float32 adds it up in another order in another batch


def in_box(images: Tensor) -> Tensor:
    """Where every pixel of `[N, C, H, W]` images is in [0, 1], `[N]`; NaN is not."""
    return ((images >= 0) & (images <= 1)).flatten(1).all(1)


def at_least_float32(images: Tensor) -> Tensor:
    """The images as a search needs them: half precision would round their changes away."""
    return images.to(torch.promote_types(images.dtype, torch.float32))


def check_batch(images: Tensor, labels: Tensor) -> None:
    """Raise ValueError unless the images are `[N, C, H, W]` floats in [0, 1] with one integer label each."""
    if torch.is_inference_mode_enabled():
        raise RuntimeError("attacks need gradients: inference_mode is on; use Trainer(inference_mode=False)")
    if images.ndim != 4 or not images.is_floating_point():
        raise ValueError(f"images are {images.dtype} {list(images.shape)}: expected floats [N, C, H, W] in [0, 1]")
    if labels.shape != images.shape[:1] or labels.is_floating_point() or labels.dtype is torch.bool:
        raise ValueError(
            f"labels are {labels.dtype} {list(labels.shape)}: expected {len(images)} integers, one per image"
        )
    off = ~in_box(images)
    if off.any():
        low, high = images.amin().item(), images.amax().item()
        raise ValueError(
            f"images run from {low:.4g} to {high:.4g}, {_where(off)}: expected [0, 1];"
            f" normalisation is the classifier's"
        )


def check_labels(labels: Tensor, classes: int) -> None:
    """Raise ValueError unless every label is one of at least two classes."""
    if classes < 2:
        raise ValueError(f"the classifier has {classes} class: an attack needs at least 2")
    off = (labels < 0) | (labels >= classes)
    if off.any():
        raise ValueError(
            f"label {int(labels[off][0])} of {_where(off)}: the classifier's {classes} classes are 0 to {classes - 1}"
        )


def check_answers(nan: Tensor) -> None:
    """Raise NotFiniteError where the classifier answered NaN, `[N]` booleans."""
    if nan.any():
        raise NotFiniteError(
            f"the classifier answered NaN for {_where(nan)}: such examples are neither right nor robust"
        )


def guard(images: Tensor, size: Tensor, attack: str, stays_inside: bool) -> None:
    """Raise ThreatModelViolation where images left [0, 1], are not finite, or left a region they promised to keep."""
    if not images.numel():
        return
    broken = ~images.isfinite().flatten(1).all(1)
    if broken.any():
        raise ThreatModelViolation(
            f"{attack} made NaN or infinite pixels, {_where(broken)}: its gradient is not finite"
        )
    off = ~in_box(images)
    if off.any():
        raise ThreatModelViolation(f"{attack} left [0, 1], {_where(off)}")
    beyond = size > 1 + TOLERANCE
    if stays_inside and beyond.any():
        raise ThreatModelViolation(
            f"{attack} left its region, size {size.max().item():.6g} of the bound, {_where(beyond)}"
        )


def _where(rows: Tensor) -> str:
    return f"example {int(rows.nonzero()[0])} of the batch and {int(rows.sum()) - 1} more"
