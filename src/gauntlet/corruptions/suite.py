"""Common corruptions as an attack suite: a transform for every type and severity, and the clean images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gauntlet.corruptions.aggregate import CorruptionError
from gauntlet.corruptions.cifar10_c_files import CIFAR10C
from gauntlet.corruptions.common import SEVERITIES, TYPES, GeneratedCorruption
from gauntlet.corruptions.frost import Frost
from gauntlet.corruptions.imagenet_c_files import ImageNetC
from gauntlet.corruptions.operation import Operation
from gauntlet.corruptions.stored import Collection, StoredCorruption
from gauntlet.errors import UserError
from gauntlet.evaluation.suite import AttackSuite
from gauntlet.transforms import Clean, Transform


def corruption_suite(
    types: Mapping[str, Sequence[Operation] | None],
    frost: str,
    files: Collection | None = None,
    jpeg: int | None = None,
) -> AttackSuite:
    """The transforms `clean`, `gaussian_noise_1`, …, `jpeg_compression_5`, and their corruption errors.

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
    shown: dict[str, Transform] = {"clean": Clean()}
    members: dict[str, list[str]] = {}
    sources: dict[str, str] = {}
    for name in (name for name in TYPES if types.get(name)):
        cells = types[name] or ()
        if len(cells) != len(SEVERITIES):
            raise UserError(f"corruption {name} has {len(cells)} severities: expected {len(SEVERITIES)}")
        found: list[StoredCorruption | GeneratedCorruption] = []
        if files is not None and name in files.types:
            found = [StoredCorruption(name, severity, files) for severity in SEVERITIES]
        elif all(not isinstance(cell, Frost) or cell.available for cell in cells):
            for severity, operation in zip(SEVERITIES, cells, strict=True):
                found.append(GeneratedCorruption(name, severity, operation, jpeg))
        if found:
            members[name] = [f"{name}_{severity}" for severity in SEVERITIES]
            sources[name] = found[0].source
            shown |= dict(zip(members[name], found, strict=True))
    if not members:
        raise UserError(f"no corruption is left: give some of {', '.join(TYPES)} (frost wants photographs in {frost})")
    return AttackSuite(shown, aggregates={"corruption errors": CorruptionError(members, sources)})


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
