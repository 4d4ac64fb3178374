"""Attacks: algorithms that search threat models. One file each."""

from gauntlet.attacks.clean import Clean
from gauntlet.attacks.fast_lpa import FastLagrangianPerceptualAttack
from gauntlet.attacks.first_order import FirstOrderStep
from gauntlet.attacks.iterates import Best, Last, Stopped
from gauntlet.attacks.jacobian import CentralDifference, ForwardMode
from gauntlet.attacks.lpa import LagrangianPerceptualAttack
from gauntlet.attacks.multipliers import Bracketed, Tenfold
from gauntlet.attacks.pgd import PGD
from gauntlet.attacks.ppgd import PerceptualPGD
from gauntlet.attacks.projections import Bisection, Newton, NoProjection, OntoRegion, OvershootingNewton
from gauntlet.attacks.search import Adversarial, Attack, Search
from gauntlet.attacks.steps import Adam, Constant, Geometric, Normalised, Sign, Steepest

__all__ = [
    "PGD",
    "Adam",
    "Adversarial",
    "Attack",
    "Best",
    "Bisection",
    "Bracketed",
    "CentralDifference",
    "Clean",
    "Constant",
    "FastLagrangianPerceptualAttack",
    "FirstOrderStep",
    "ForwardMode",
    "Geometric",
    "LagrangianPerceptualAttack",
    "Last",
    "Newton",
    "NoProjection",
    "Normalised",
    "OntoRegion",
    "OvershootingNewton",
    "PerceptualPGD",
    "Search",
    "Sign",
    "Steepest",
    "Stopped",
    "Tenfold",
]
