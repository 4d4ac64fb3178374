"""Classifiers and their networks. All take images in [0, 1] and normalise inside."""

from gauntlet.models.alexnet import alexnet, alexnet_cifar
from gauntlet.models.border import (
    LogitsAndSurrogate,
    ascent_logits,
    features_of,
    logits_and_surrogate,
    logits_of,
    outputs_for,
    tap_of,
)
from gauntlet.models.capabilities import Foldable, HasSurrogate, NeedsGradients, foldable, needs_gradients, surrogate_of
from gauntlet.models.imagenet import imagenet_features
from gauntlet.models.libraries import timm, torchvision
from gauntlet.models.linear import linear
from gauntlet.models.preact_resnet import preact_resnet18
from gauntlet.models.resnet import (
    resnet18,
    resnet18_imagenet,
    resnet20,
    resnet32,
    resnet34,
    resnet34_imagenet,
    resnet50,
    resnet50_imagenet,
    small_resnet,
)
from gauntlet.models.taps import Classifier, Normalise, Tapped, TappedClassifier, classifier
from gauntlet.models.tiles import Tiled
from gauntlet.models.weights import with_weights
from gauntlet.models.wide_resnet import wide_resnet

__all__ = [
    "Classifier",
    "Foldable",
    "HasSurrogate",
    "LogitsAndSurrogate",
    "NeedsGradients",
    "Normalise",
    "Tapped",
    "TappedClassifier",
    "Tiled",
    "alexnet",
    "alexnet_cifar",
    "ascent_logits",
    "classifier",
    "features_of",
    "foldable",
    "imagenet_features",
    "linear",
    "logits_and_surrogate",
    "logits_of",
    "needs_gradients",
    "outputs_for",
    "preact_resnet18",
    "resnet18",
    "resnet18_imagenet",
    "resnet20",
    "resnet32",
    "resnet34",
    "resnet34_imagenet",
    "resnet50",
    "resnet50_imagenet",
    "small_resnet",
    "surrogate_of",
    "tap_of",
    "timm",
    "torchvision",
    "wide_resnet",
    "with_weights",
]
