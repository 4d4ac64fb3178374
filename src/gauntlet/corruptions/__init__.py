"""Common corruptions: fifteen types at five severities, generated or stored, their suites, errors and report.

The package `imagecorruptions-imaug` is what tests compare with: it draws from numpy's global generator, has ImageNet's
constants only, and departs from the published operations in places.
"""

from gauntlet.corruptions.aggregate import CorruptionError
from gauntlet.corruptions.blurs import DefocusBlur, GlassBlur, MotionBlur, ZoomBlur
from gauntlet.corruptions.cifar10_c_files import CIFAR10C
from gauntlet.corruptions.common import SEVERITIES, TYPES, GeneratedCorruption
from gauntlet.corruptions.digital import Contrast, ElasticTransform, JPEGCompression, Pixelate
from gauntlet.corruptions.errors import Errors, Relative, errors_of, read_errors, relative_to
from gauntlet.corruptions.frost import Frost
from gauntlet.corruptions.imagenet_c_files import ImageNetC
from gauntlet.corruptions.noises import GaussianNoise, ImpulseNoise, ShotNoise
from gauntlet.corruptions.operation import Operation
from gauntlet.corruptions.stored import Collection, StoredCorruption
from gauntlet.corruptions.suite import cifar10_c, corruption_suite, imagenet_c
from gauntlet.corruptions.weather import Brightness, Fog, Snow

__all__ = [
    "CIFAR10C",
    "SEVERITIES",
    "TYPES",
    "Brightness",
    "Collection",
    "Contrast",
    "CorruptionError",
    "DefocusBlur",
    "ElasticTransform",
    "Errors",
    "Fog",
    "Frost",
    "GaussianNoise",
    "GeneratedCorruption",
    "GlassBlur",
    "ImageNetC",
    "ImpulseNoise",
    "JPEGCompression",
    "MotionBlur",
    "Operation",
    "Pixelate",
    "Relative",
    "ShotNoise",
    "Snow",
    "StoredCorruption",
    "ZoomBlur",
    "cifar10_c",
    "corruption_suite",
    "errors_of",
    "imagenet_c",
    "read_errors",
    "relative_to",
]
