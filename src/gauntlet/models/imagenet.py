"""Perceptual networks: torchvision's with ImageNet weights, without the head that φ never runs."""

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
        name: as in torchvision: `alexnet`, `vgg16`, `squeezenet1_1`.
        taps: names of the submodules that φ reads, such as `features.1`.
        weights: a file of torchvision's weights (.pth, .safetensors, .npz), whole or of the features alone, or one
            that `gauntlet.models.convert` made. None: torch's hub folder, and if it is not there the download.

    Raises:
        UserError: there are no weights, or those of another network.
    """
    with torch.device("meta"):  # a head of up to 124 million weights is never made
        network = get_model(name, weights=None)
    network.classifier = nn.Identity()
    network.to_empty(device="cpu")
    found = TappedClassifier(Normalise(IMAGENET_MEAN, IMAGENET_STD), network, taps)
    file = _downloaded(name) if weights is None else Path(weights)
    load_weights(network, _of_features(read_weights(file)), file)
    return found


def _of_features(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    bare = {name.removeprefix("network."): tensor for name, tensor in tensors.items()}
    return {name: tensor for name, tensor in bare.items() if not name.startswith(("classifier.", "normalise."))}


def _downloaded(name: str) -> Path:
    """Torchvision's file in torch's hub folder, fetched if need be."""
    url = get_model_weights(name).DEFAULT.url
    file = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[1]
    if not file.exists():
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(file), hash_prefix=file.stem.rsplit("-", 1)[1], progress=False)
        except (OSError, RuntimeError) as error:  # URLError is an OSError; a wrong digest a RuntimeError
            raise UserError(
                f"ImageNet weights of {name} are not here and {url} cannot be downloaded ({error}): put the file at"
                f" {file}, or name one you have: dataset.reference.network.weights=<file>, or"
                f" distance.network.weights=<file>"
            ) from None
    return file
