"""The calibrated LPIPS of the `lpips` package: a reported column, never a threat model.

Zhang et al., "The unreasonable effectiveness of deep features as a perceptual metric", CVPR 2018.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from gauntlet.errors import UserError
from gauntlet.models.weights import digest_of, read_weights

_WEIGHTS = "alexnet-owt-7be5be79.pth"  # torchvision's ImageNet AlexNet, 244 MB


class CalibratedLPIPS:
    """LPIPS v0.1 on torchvision's ImageNet AlexNet. Nothing is downloaded; `missing` reports an absent file.

    Args:
        file: AlexNet's weights under torchvision's names (.pth, .safetensors, .npz), whole or of the features alone;
            None for the path of torchvision's download.
    """

    def __init__(self, file: str | Path | None = None) -> None:
        hub = Path(torch.hub.get_dir()) / "checkpoints" / _WEIGHTS
        self.file = hub if file is None else Path(file)
        self._folder = "torch's hub folder" if file is None else str(self.file.parent)
        self._is_user_file = file is not None
        self._network: nn.Module | None = None

    @cached_property
    def digest(self) -> str | None:
        """SHA-256 of a given file; None for torchvision's own, which is always the same."""
        return digest_of(self.file) if self._is_user_file else None

    def missing(self, size: tuple[int, int]) -> str | None:
        """Why it cannot be measured on images of this height and width; None if it can."""
        if min(size) < 31:
            return f"images of {size[0]}×{size[1]} are smaller than its network's 31×31"
        if not self.file.exists():
            return f"{self.file.name} is not in {self._folder}"
        return None

    @torch.no_grad()
    def __call__(self, images: Tensor, others: Tensor) -> Tensor:
        """LPIPS between `[N, 3, H, W]` images in [0, 1], `[N]`."""
        if self._network is None:
            self._network = self._load()
        network = self._network.to(images.device)
        distance: Tensor = network(images, others, normalize=True)
        return distance.reshape(len(images))

    def _load(self) -> nn.Module:
        """Load the package's network and learned weights, and the features from the file."""
        import lpips

        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            whole = lpips.LPIPS(net="alex", pnet_rand=True).eval().requires_grad_(False)
        weights = read_weights(self.file)
        for part in whole.net.children():  # slices of AlexNet's `features`, named by their indices there
            file_names = {name: f"features.{name}" for name in part.state_dict()}
            if missing := sorted(set(file_names.values()) - weights.keys()):
                raise UserError(f"{self.file} is not a torchvision AlexNet: it has no {missing[0]}")
            part.load_state_dict({name: weights[file_name] for name, file_name in file_names.items()})
        assert isinstance(whole, nn.Module)
        return whole
