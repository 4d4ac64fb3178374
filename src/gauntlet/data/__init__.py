"""Datasets: every example has a stable id, every dataset a fingerprint."""

from gauntlet.data.augmentation import (
    Augmentation,
    ColourJitter,
    PCALighting,
    RandomCrop,
    RandomFlip,
    RandomRotation,
    TrainingExamples,
)
from gauntlet.data.cifar10 import CIFAR10
from gauntlet.data.digits import Digits
from gauntlet.data.examples import Batch, EpochBatches, Examples, Split, Step, unidentified
from gauntlet.data.extra import ArrayFile, PictureFolder, Source
from gauntlet.data.files import ImageFiles
from gauntlet.data.folder import ImageFolder
from gauntlet.data.imagenet100 import ImageNet100
from gauntlet.data.mixture import Joined, Mixed, MixedBatches
from gauntlet.data.mnist import MNIST, FashionMNIST
from gauntlet.data.module import ImageData, Splits
from gauntlet.data.views import CentreCrop, RandomResizedCrop, View

__all__ = [
    "CIFAR10",
    "MNIST",
    "ArrayFile",
    "Augmentation",
    "Batch",
    "CentreCrop",
    "ColourJitter",
    "Digits",
    "EpochBatches",
    "Examples",
    "FashionMNIST",
    "ImageData",
    "ImageFiles",
    "ImageFolder",
    "ImageNet100",
    "Joined",
    "Mixed",
    "MixedBatches",
    "PCALighting",
    "PictureFolder",
    "RandomCrop",
    "RandomFlip",
    "RandomResizedCrop",
    "RandomRotation",
    "Source",
    "Split",
    "Splits",
    "Step",
    "TrainingExamples",
    "View",
    "unidentified",
]
