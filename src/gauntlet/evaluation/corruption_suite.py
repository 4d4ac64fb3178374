"""Common corruptions as an attack suite: an attack for every type and severity, and the clean images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gauntlet.attacks import Attack, Clean
from gauntlet.corruptions import SEVERITIES, TYPES, Corrupted, Frost, Generated, Operation
from gauntlet.errors import UserError
from gauntlet.evaluation.suite import AttackSuite


def corruption_suite(
    types: Mapping[str, Sequence[Operation] | None], frost: str, jpeg: int | None = None
) -> AttackSuite:
    """The attacks `clean`, `gaussian_noise_1`, …, `jpeg_compression_5`; they form no union.

    Frost without photographs is left out, and tables say so.

    Args:
        types: five operations each, severity 1 first; None leaves a type out.
        frost: the folder of its photographs, for what is said where it has none.
        jpeg: quality at which corrupted pictures are saved; None for not at all.

    Raises:
        UserError: a type is unknown or has not five severities, or nothing is left.
    """
    if strange := sorted(types.keys() - set(TYPES)):
        raise UserError(f"corruptions {strange}: expected some of {', '.join(TYPES)}")
    attacks: dict[str, Attack] = {"clean": Clean()}
    for name in (name for name in TYPES if types.get(name)):
        cells = types[name] or ()
        if len(cells) != len(SEVERITIES):
            raise UserError(f"corruption {name} has {len(cells)} severities: expected {len(SEVERITIES)}")
        if any(isinstance(cell, Frost) and not cell.available for cell in cells):
            continue
        for severity, operation in zip(SEVERITIES, cells, strict=True):
            attacks[f"{name}_{severity}"] = Corrupted(Generated(name, severity, operation, jpeg))
    if len(attacks) == 1:
        raise UserError(f"no corruption is left: give some of {', '.join(TYPES)} (frost wants photographs in {frost})")
    return AttackSuite(attacks, union=[])
