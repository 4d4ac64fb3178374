"""Attacks: algorithms that search threat models. One file each."""

from gauntlet.attacks.apgd import APGD
from gauntlet.attacks.clean import Clean
from gauntlet.attacks.combined import RandomChoice, WorstCase
from gauntlet.attacks.fab import FAB
from gauntlet.attacks.fast_lpa import FastLagrangianPerceptualAttack
from gauntlet.attacks.iterates import Best, Last
from gauntlet.attacks.pgd import PGD
from gauntlet.attacks.projections import NoProjection, OntoRegion
from gauntlet.attacks.search import Adversarial, Attack, Search
from gauntlet.attacks.sparse_apgd import SparseAPGD
from gauntlet.attacks.square import Square
from gauntlet.attacks.steps import Adam, Constant, Geometric, Normalised, Sign, Steepest

__all__ = [
    "APGD",
    "FAB",
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
    "RandomChoice",
    "Search",
    "Sign",
    "SparseAPGD",
    "Square",
    "Steepest",
    "WorstCase",
]
