"""The calibrated LPIPS of the `lpips` package: a reported column, never a threat model.

Zhang et al., "The unreasonable effectiveness of deep features as a perceptual metric", CVPR 2018.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

_WEIGHTS = "alexnet-owt-7be5be79.pth"  # torchvision's ImageNet AlexNet, 244 MB


class CalibratedLPIPS:
    """LPIPS v0.1 on torchvision's ImageNet AlexNet. Nothing is downloaded: a missing file is a reason to say so."""

    def __init__(self) -> None:
        self.file = Path(torch.hub.get_dir()) / "checkpoints" / _WEIGHTS
        self._network: nn.Module | None = None

    def missing(self, size: tuple[int, int]) -> str | None:
        """Why it cannot be measured on images of this height and width; None where it can."""
        if min(size) < 31:
            return f"images of {size[0]}×{size[1]} are smaller than its network's 31×31"
        if not self.file.exists():
            return f"{_WEIGHTS} is not in torch's hub folder"
        return None

    @torch.no_grad()
    def __call__(self, images: Tensor, others: Tensor) -> Tensor:
        """LPIPS between `[N, 3, H, W]` images in [0, 1], `[N]`."""
        if self._network is None:
            import lpips

            with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
                warnings.simplefilter("ignore")
                self._network = lpips.LPIPS(net="alex").eval().requires_grad_(False)
        network = self._network.to(images.device)
        distance: Tensor = network(images, others, normalize=True)
        return distance.reshape(len(images))
