"""Attacks: algorithms that search threat models. One file each."""

from gauntlet.attacks.clean import Clean
from gauntlet.attacks.fast_lpa import FastLagrangianPerceptualAttack
from gauntlet.attacks.iterates import Best, Last
from gauntlet.attacks.pgd import PGD
from gauntlet.attacks.projections import NoProjection, OntoRegion
from gauntlet.attacks.search import Adversarial, Attack, Search

__all__ = [
    "PGD",
    "Adversarial",
    "Attack",
    "Best",
    "Clean",
    "FastLagrangianPerceptualAttack",
    "Last",
    "NoProjection",
    "OntoRegion",
    "Search",
]
