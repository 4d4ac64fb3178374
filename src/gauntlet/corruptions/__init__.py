"""Common corruptions: fifteen ways in which pictures get worse that nobody means harm by, five severities each."""

from gauntlet.corruptions.blurs import DefocusBlur, GlassBlur, MotionBlur, ZoomBlur
from gauntlet.corruptions.cifar10_c import CIFAR10C
from gauntlet.corruptions.common import SEVERITIES, TYPES, Corrupted, Corruption, Generated
from gauntlet.corruptions.digital import Contrast, ElasticTransform, JPEGCompression, Pixelate
from gauntlet.corruptions.frost import Frost
from gauntlet.corruptions.imagenet_c import ImageNetC
from gauntlet.corruptions.noises import GaussianNoise, ImpulseNoise, ShotNoise
from gauntlet.corruptions.operation import Operation
from gauntlet.corruptions.stored import Collection, LookedUp, Stored
from gauntlet.corruptions.weather import Brightness, Fog, Snow

__all__ = [
    "CIFAR10C",
    "SEVERITIES",
    "TYPES",
    "Brightness",
    "Collection",
    "Contrast",
    "Corrupted",
    "Corruption",
    "DefocusBlur",
    "ElasticTransform",
    "Fog",
    "Frost",
    "GaussianNoise",
    "Generated",
    "GlassBlur",
    "ImageNetC",
    "ImpulseNoise",
    "JPEGCompression",
    "LookedUp",
    "MotionBlur",
    "Operation",
    "Pixelate",
    "ShotNoise",
    "Snow",
    "Stored",
    "ZoomBlur",
]
