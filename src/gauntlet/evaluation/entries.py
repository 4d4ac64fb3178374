"""What a suite is made of."""

from __future__ import annotations

from gauntlet.attacks import Attack
from gauntlet.certificates import Certificate
from gauntlet.transforms import Transform

Entry = Attack | Certificate | Transform
"""Each has a `kind` and a `threat_model`: a name, a bound, a unit."""
