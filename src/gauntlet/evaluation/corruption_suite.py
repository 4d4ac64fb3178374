"""Common corruptions as an attack suite: an attack for every type and severity, and the clean images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gauntlet.attacks import Attack, Clean
from gauntlet.corruptions import (
    CIFAR10C,
    SEVERITIES,
    TYPES,
    Collection,
    Corrupted,
    Frost,
    Generated,
    ImageNetC,
    LookedUp,
    Operation,
    Stored,
)
from gauntlet.errors import UserError
from gauntlet.evaluation.suite import AttackSuite


def corruption_suite(
    types: Mapping[str, Sequence[Operation] | None],
    frost: str,
    files: Collection | None = None,
    jpeg: int | None = None,
) -> AttackSuite:
    """The attacks `clean`, `gaussian_noise_1`, …, `jpeg_compression_5`; they form no union.

    Frost without photographs is left out, and tables say so.

    Args:
        types: five operations each, severity 1 first; None leaves a type out.
        frost: the folder of its photographs, for what is said where it has none.
        files: published images; types that they have are taken from them, without an operation.
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
        if files is not None and name in files.types:
            attacks |= {f"{name}_{severity}": LookedUp(Stored(name, severity, files)) for severity in SEVERITIES}
        elif all(not isinstance(cell, Frost) or cell.available for cell in cells):
            for severity, operation in zip(SEVERITIES, cells, strict=True):
                attacks[f"{name}_{severity}"] = Corrupted(Generated(name, severity, operation, jpeg))
    if len(attacks) == 1:
        raise UserError(f"no corruption is left: give some of {', '.join(TYPES)} (frost wants photographs in {frost})")
    return AttackSuite(attacks, union=[])


def cifar10_c(types: Mapping[str, Sequence[Operation] | None], frost: str, published: str | None = None) -> AttackSuite:
    """CIFAR-10-C.

    Args:
        types: as in `corruption_suite`, where no files are published.
        frost: as there.
        published: the folder of its arrays; None generates all images.
    """
    return corruption_suite(types, frost, None if published is None else CIFAR10C(published))


def imagenet_c(
    types: Mapping[str, Sequence[Operation] | None], frost: str, published: str | None = None, jpeg: int | None = 85
) -> AttackSuite:
    """ImageNet-C.

    Args:
        types: as in `corruption_suite`, where no files are published.
        frost: as there.
        published: the folder of its types; None generates all images.
        jpeg: quality at which generated pictures are saved.
    """
    return corruption_suite(types, frost, None if published is None else ImageNetC(published), jpeg)
