"""What threat models are called in cards and tables: `trained_on` is made of these names."""

from __future__ import annotations

import re
from collections.abc import Iterable

from gauntlet.errors import UserError
from gauntlet.threats.colour import LUV, RGB
from gauntlet.threats.flow import StAdv
from gauntlet.threats.jpeg import AdversarialJPEG
from gauntlet.threats.l1 import L1
from gauntlet.threats.l2 import L2
from gauntlet.threats.linf import Linf
from gauntlet.threats.perceptual import NeuralPerceptual
from gauntlet.threats.pixels import ChangedPixels
from gauntlet.threats.recolor import ReColorAdv

NAMES = (
    *(kind.name for kind in (Linf, L2, L1, ChangedPixels, StAdv, AdversarialJPEG, NeuralPerceptual)),
    *(ReColorAdv(0.0, space=space).name for space in (LUV(), RGB())),
)
"""A composition joins them by `+`, a union by `|`."""


def check_names(given: Iterable[str], option: str, others: Iterable[str] = ()) -> None:
    """Refuse what no threat model is called: the unseen mean would leave nothing out, and say nothing.

    Args:
        given: names, perhaps joined.
        option: where they were given, for the message.
        others: names of threat models that are not ours.

    Raises:
        UserError: naming the first that is unknown.
    """
    known = {*NAMES, *others}
    for name in given:
        if name not in known and not known.issuperset(re.split(r"[+|]", name)):
            raise UserError(
                f"{option} {name}: expected names of threat models ({', '.join(NAMES)}), none for clean images;"
                f" leave it out if nobody knows"
            )
