"""Checks of an attack's inputs, of the classifier's outputs and of the attack's result."""

from __future__ import annotations

import torch
from torch import Tensor

from gauntlet.errors import NotFiniteError, ThreatModelViolation
from gauntlet.tolerance import TOLERANCE


def in_box(images: Tensor) -> Tensor:
    """Where every pixel of `[N, C, H, W]` images is in [0, 1], `[N]`; NaN is not."""
    return ((images >= 0) & (images <= 1)).flatten(1).all(1)


def at_least_float32(images: Tensor) -> Tensor:
    """The images in float32 or wider: half precision would round small changes away."""
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
    outside = ~in_box(images)
    if outside.any():
        low, high = images.amin().item(), images.amax().item()
        raise ValueError(
            f"images run from {low:.4g} to {high:.4g}, {_where(outside)}: expected"
            f" [0, 1]; normalisation is the classifier's"
        )


def check_labels(labels: Tensor, classes: int) -> None:
    """Raise ValueError unless every label is one of at least two classes."""
    if classes < 2:
        raise ValueError(f"the classifier has {classes} class: an attack needs at least 2")
    invalid = (labels < 0) | (labels >= classes)
    if invalid.any():
        raise ValueError(
            f"label {int(labels[invalid][0])} of {_where(invalid)}:"
            f" the classifier's {classes} classes are 0 to {classes - 1}"
        )


def check_answers(nan: Tensor) -> None:
    """Raise NotFiniteError if the classifier returned NaN for any example, `[N]` booleans."""
    if nan.any():
        raise NotFiniteError(
            f"the classifier answered NaN for {_where(nan)}: such examples are neither right nor robust"
        )


def guard(images: Tensor, size: Tensor, attack: str, stays_inside: bool) -> None:
    """Raise ThreatModelViolation if images are outside [0, 1], not finite, or outside a region they must stay in."""
    if not images.numel():
        return
    broken = ~images.isfinite().flatten(1).all(1)
    if broken.any():
        raise ThreatModelViolation(
            f"{attack} made NaN or infinite pixels, {_where(broken)}: its gradient is not finite"
        )
    outside = ~in_box(images)
    if outside.any():
        raise ThreatModelViolation(f"{attack} left [0, 1], {_where(outside)}")
    beyond = size > 1 + TOLERANCE
    if stays_inside and beyond.any():
        raise ThreatModelViolation(
            f"{attack} left its region, size {size.max().item():.6g} of the bound, {_where(beyond)}"
        )


def _where(rows: Tensor) -> str:
    return f"example {int(rows.nonzero()[0])} of the batch and {int(rows.sum()) - 1} more"
