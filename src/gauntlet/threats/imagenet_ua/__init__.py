"""The eight core attacks of ImageNet-UA as threat models.

Kaufmann et al., "Testing robustness against unforeseen adversaries", 2023 (arXiv:1908.08016v4). docs/imagenet_ua.md
states the settings, and what differs from the authors' code.
"""

from gauntlet.threats.imagenet_ua.elastic import UAElastic
from gauntlet.threats.imagenet_ua.gabor import UAGabor
from gauntlet.threats.imagenet_ua.glitch import UAGlitch
from gauntlet.threats.imagenet_ua.jpeg import UAJPEG
from gauntlet.threats.imagenet_ua.kaleidoscope import UAKaleidoscope
from gauntlet.threats.imagenet_ua.pixel import UAPixel
from gauntlet.threats.imagenet_ua.snow import UASnow
from gauntlet.threats.imagenet_ua.wood import UAWood

__all__ = ["UAJPEG", "UAElastic", "UAGabor", "UAGlitch", "UAKaleidoscope", "UAPixel", "UASnow", "UAWood"]
