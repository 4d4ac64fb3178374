"""Threat models: what an adversary may show instead of an image. One file each."""

from gauntlet.threats.colour import LUV, RGB
from gauntlet.threats.flow import StAdv
from gauntlet.threats.l2 import L2
from gauntlet.threats.linf import Linf
from gauntlet.threats.perceptual import NeuralPerceptual
from gauntlet.threats.recolor import ReColorAdv
from gauntlet.threats.region import Look, Region, ThreatModel
from gauntlet.threats.unchanged import Unchanged

__all__ = [
    "L2",
    "LUV",
    "RGB",
    "Linf",
    "Look",
    "NeuralPerceptual",
    "ReColorAdv",
    "Region",
    "StAdv",
    "ThreatModel",
    "Unchanged",
]
