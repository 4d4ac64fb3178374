"""What threat models are called in cards and tables: `trained_on` is made of these names."""

from __future__ import annotations

import re
from collections.abc import Iterable

from gauntlet.errors import UserError

NAMES = ("linf", "l2", "l1", "pixels", "stadv", "jpeg", "perceptual", "recoloradv_luv", "recoloradv_rgb")
"""The `name` of every threat model here. A composition joins them by `+`, a union by `|`."""


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
                f" leave it out if it is not known"
            )
