"""Classifiers, and the networks they are made of. All take images in [0, 1] and normalise inside."""

from gauntlet.models.alexnet import alexnet, alexnet_cifar
from gauntlet.models.linear import linear
from gauntlet.models.resnet import small_resnet
from gauntlet.models.staged import Normalise, Staged, Tapped
from gauntlet.models.weights import with_weights

__all__ = ["Normalise", "Staged", "Tapped", "alexnet", "alexnet_cifar", "linear", "small_resnet", "with_weights"]
