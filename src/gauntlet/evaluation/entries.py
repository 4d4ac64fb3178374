"""The entries of an attack suite."""

from __future__ import annotations

from gauntlet.attacks import Attack
from gauntlet.certificates import Certificate
from gauntlet.transforms import Transform

Entry = Attack | Certificate | Transform
"""Each has a `kind` and a `threat_model` with a name, a bound and a unit."""
