"""Attacks: algorithms that search threat models. One file each."""

from gauntlet.attacks.clean import Clean
from gauntlet.attacks.fast_lpa import FastLagrangianPerceptualAttack
from gauntlet.attacks.iterates import Best, Last
from gauntlet.attacks.pgd import PGD
from gauntlet.attacks.projections import NoProjection, OntoRegion
from gauntlet.attacks.search import Adversarial, Attack, Search
from gauntlet.attacks.steps import Adam, Constant, Geometric, Normalised, Sign, Steepest

__all__ = [
    "PGD",
    "Adam",
    "Adversarial",
    "Attack",
    "Best",
    "Clean",
    "Constant",
    "FastLagrangianPerceptualAttack",
    "Geometric",
    "Last",
    "NoProjection",
    "Normalised",
    "OntoRegion",
    "Search",
    "Sign",
    "Steepest",
]
