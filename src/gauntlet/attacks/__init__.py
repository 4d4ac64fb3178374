"""Attacks: algorithms that search threat models. One file each."""

from gauntlet.attacks.apgd import APGD
from gauntlet.attacks.attack import Adversarial, Attack, Verified
from gauntlet.attacks.combined import RandomChoice, WorstCase
from gauntlet.attacks.fab import FAB
from gauntlet.attacks.fast_lpa import FastLagrangianPerceptualAttack
from gauntlet.attacks.first_order import FirstOrderStep
from gauntlet.attacks.iterates import Best, FirstSuccess, Last
from gauntlet.attacks.jacobian import CentralDifference, DoubleBackward
from gauntlet.attacks.lpa import LagrangianPerceptualAttack
from gauntlet.attacks.minimum_distance import MinimumDistanceAttack
from gauntlet.attacks.multipliers import Bracketed, Tenfold
from gauntlet.attacks.nearest import DistanceSearch, NearestState
from gauntlet.attacks.pgd import PGD
from gauntlet.attacks.ppgd import PerceptualPGD
from gauntlet.attacks.projections import Bisection, Newton, NoProjection, OntoRegion, OvershootingNewton
from gauntlet.attacks.search import Search
from gauntlet.attacks.sparse_apgd import SparseAPGD
from gauntlet.attacks.square import Square
from gauntlet.attacks.steps import Adam, Constant, Geometric, Normalised, Redrawn, Sign, Steepest

__all__ = [
    "APGD",
    "FAB",
    "PGD",
    "Adam",
    "Adversarial",
    "Attack",
    "Best",
    "Bisection",
    "Bracketed",
    "CentralDifference",
    "Constant",
    "DistanceSearch",
    "DoubleBackward",
    "FastLagrangianPerceptualAttack",
    "FirstOrderStep",
    "FirstSuccess",
    "Geometric",
    "LagrangianPerceptualAttack",
    "Last",
    "MinimumDistanceAttack",
    "NearestState",
    "Newton",
    "NoProjection",
    "Normalised",
    "OntoRegion",
    "OvershootingNewton",
    "PerceptualPGD",
    "RandomChoice",
    "Redrawn",
    "Search",
    "Sign",
    "SparseAPGD",
    "Square",
    "Steepest",
    "Tenfold",
    "Verified",
    "WorstCase",
]
