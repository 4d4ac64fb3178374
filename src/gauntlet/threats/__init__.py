"""Threat models: the sets of images an adversary may choose from. One file each; see `gauntlet.threat_names`."""

from gauntlet.threats.any_of import AnyOf
from gauntlet.threats.colour import LUV, RGB
from gauntlet.threats.composition import Composition
from gauntlet.threats.flow import StAdv
from gauntlet.threats.imagenet_ua import (
    UAJPEG,
    UAElastic,
    UAGabor,
    UAGlitch,
    UAKaleidoscope,
    UAPixel,
    UASnow,
    UAWood,
)
from gauntlet.threats.jpeg import AdversarialJPEG
from gauntlet.threats.l0 import L0
from gauntlet.threats.l1 import L1
from gauntlet.threats.l2 import L2
from gauntlet.threats.linf import Linf
from gauntlet.threats.perceptual import NeuralPerceptual
from gauntlet.threats.pixels import ChangedPixels
from gauntlet.threats.recolor import ReColorAdv
from gauntlet.threats.region import ForwardPass, Region, SearchableThreatModel, ThreatModel

__all__ = [
    "L0",
    "L1",
    "L2",
    "LUV",
    "RGB",
    "UAJPEG",
    "AdversarialJPEG",
    "AnyOf",
    "ChangedPixels",
    "Composition",
    "ForwardPass",
    "Linf",
    "NeuralPerceptual",
    "ReColorAdv",
    "Region",
    "SearchableThreatModel",
    "StAdv",
    "ThreatModel",
    "UAElastic",
    "UAGabor",
    "UAGlitch",
    "UAKaleidoscope",
    "UAPixel",
    "UASnow",
    "UAWood",
]
