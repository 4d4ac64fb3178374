"""Models of torchvision and timm by name, without pretrained weights."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

from torch import nn
from torchvision import models as torchvision_models
from torchvision.models import get_model, list_models

from gauntlet.errors import UserError
from gauntlet.models.taps import Classifier, classifier


def torchvision(
    name: str, classes: int, mean: Sequence[float], std: Sequence[float], taps: Sequence[str] = ()
) -> Classifier:
    """A classifier of torchvision, untrained.

    Args:
        name: as in `torchvision.models.list_models()`.
        classes: number of logits, K.
        mean: per channel, in [0, 1].
        std: per channel, in [0, 1].
        taps: names of its submodules whose outputs are the feature maps for φ; none: no perceptual distance.

    Raises:
        ValueError: there is no such model or submodule, or it takes another number of channels than there are means.
    """
    known = list_models(module=torchvision_models)
    if name not in known:
        raise ValueError(f"torchvision has no classifier {name}{_like(name, known)}")
    network: nn.Module = get_model(name, weights=None, num_classes=classes)
    channels = next(part.in_channels for part in network.modules() if isinstance(part, nn.Conv2d))
    if channels != len(mean):
        raise ValueError(f"{name} takes images of {channels} channels, and the normalisation is of {len(mean)}")
    return classifier(network, mean, std, taps)


def timm(name: str, classes: int, mean: Sequence[float], std: Sequence[float], taps: Sequence[str] = ()) -> Classifier:
    """A classifier of timm, untrained; arguments and errors as for `torchvision`.

    Raises:
        UserError: the extra `models` is not installed.
    """
    try:
        from timm import create_model
        from timm import list_models as timm_models
    except ModuleNotFoundError:
        raise UserError(f"the model {name} is timm's: pip install 'gauntlet-robustness[models]'") from None
    if name.split(".")[0] not in (known := timm_models()):
        raise ValueError(f"timm has no model {name}{_like(name, known)}")
    network = create_model(name, pretrained=False, num_classes=classes, in_chans=len(mean))
    return classifier(network, mean, std, taps)


def _like(name: str, known: Sequence[str]) -> str:
    similar = get_close_matches(name, known, 3)
    return f": did you mean {' or '.join(similar)}?" if similar else ""
