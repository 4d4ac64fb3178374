"""Names of threat models in cards and tables, used in `trained_on`."""

from __future__ import annotations

import re
from collections.abc import Iterable

from gauntlet.errors import UserError

NAMES = (
    *("linf", "l2", "l1", "l0", "pixels", "stadv", "jpeg", "perceptual", "recoloradv_luv", "recoloradv_rgb"),
    *("ua_jpeg", "ua_elastic", "ua_wood", "ua_glitch", "ua_kaleidoscope", "ua_pixel", "ua_snow", "ua_gabor"),
)
"""The `name` of every threat model in `gauntlet.threats`; a new one is added here.

A composition joins them by `+`, a union by `|`.
"""


def check_names(given: Iterable[str], option: str, others: Iterable[str] = ()) -> None:
    """Refuse unknown names of threat models: a misspelt one would leave a trained threat model in the unseen mean.

    Args:
        given: names, possibly joined.
        option: option with which they were given, for the message.
        others: names of threat models from other packages.

    Raises:
        UserError: with the first unknown name.
    """
    known = {*NAMES, *others}
    for name in given:
        if name not in known and not known.issuperset(re.split(r"[+|]", name)):
            raise UserError(
                f"{option} {name}: expected names of threat models ({', '.join(NAMES)}), none for clean images;"
                f" leave it out if it is not known"
            )
