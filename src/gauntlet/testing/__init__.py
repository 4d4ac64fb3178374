"""Contract checks of attacks, threat models, certificates and defenses, in one line each.

>>> from gauntlet.testing import check_threat_model
>>> from gauntlet.threats import Linf
>>> check_threat_model(Linf(bound=8 / 255))

Each check runs the object on a few small images and raises AssertionError with the property that does not hold.
"""

from gauntlet.testing.attack import check_attack
from gauntlet.testing.certificate import check_certificate
from gauntlet.testing.defense import check_defense
from gauntlet.testing.threat_model import check_threat_model

__all__ = ["check_attack", "check_certificate", "check_defense", "check_threat_model"]
