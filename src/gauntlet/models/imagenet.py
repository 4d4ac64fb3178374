"""Perceptual networks: torchvision's with ImageNet weights, without the head, which φ does not use."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.models import get_model, get_model_weights

from gauntlet.errors import UserError
from gauntlet.models.taps import IMAGENET_MEAN, IMAGENET_STD, Normalise, TappedClassifier
from gauntlet.models.weights import load_weights, read_weights


def imagenet_features(name: str, taps: Sequence[str], weights: str | Path | None = None) -> TappedClassifier:
    """The `features` of AlexNet, VGG or SqueezeNet, trained on ImageNet.

    Args:
        name: torchvision's: `alexnet`, `vgg16`, `squeezenet1_1`.
        taps: names of the submodules that φ reads, such as `features.1`.
        weights: a file of torchvision's weights (.pth, .safetensors, .npz), whole or of the features alone, or one
            that `gauntlet.models.convert` made. None for torchvision's own, downloaded to torch's hub if missing.

    Raises:
        UserError: the weights are missing, or belong to another network.
    """
    with torch.device("meta"):  # does not allocate the head of up to 124 million weights
        network = get_model(name, weights=None)
    network.classifier = nn.Identity()
    network.to_empty(device="cpu")
    perceptual_network = TappedClassifier(Normalise(IMAGENET_MEAN, IMAGENET_STD), network, taps)
    file = _download(name) if weights is None else Path(weights)
    load_weights(network, _of_features(read_weights(file)), file)
    return perceptual_network


def _of_features(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    bare = {name.removeprefix("network."): tensor for name, tensor in tensors.items()}
    return {name: tensor for name, tensor in bare.items() if not name.startswith(("classifier.", "normalise."))}


def _download(name: str) -> Path:
    """Torchvision's file in torch's hub folder, downloaded if missing."""
    url = get_model_weights(name).DEFAULT.url
    file = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[1]
    if not file.exists():
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(file), hash_prefix=file.stem.rsplit("-", 1)[1], progress=False)
        except (OSError, RuntimeError) as error:  # URLError is an OSError; a wrong digest a RuntimeError
            raise UserError(
                f"ImageNet weights of {name} are not here and {url} cannot be downloaded ({error}): put the file at"
                f" {file}, or give another file: dataset.reference.network.weights=<file>, or"
                f" distance.network.weights=<file>"
            ) from None
    return file
