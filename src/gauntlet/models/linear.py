"""Multinomial logistic regression on the pixels: a baseline with a closed-form worst case and no taps."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from gauntlet.models.taps import Classifier, Normalise


def linear(classes: int, shape: Sequence[int], mean: Sequence[float], std: Sequence[float]) -> Classifier:
    """Normalised pixels to logits.

    Args:
        classes: number of logits, K.
        shape: `[C, H, W]` of the images.
        mean: per channel, in [0, 1].
        std: per channel, in [0, 1].
    """
    channels, height, width = shape
    network = nn.Sequential(nn.Flatten(), nn.Linear(channels * height * width, classes))
    return Classifier(Normalise(mean, std), network)
