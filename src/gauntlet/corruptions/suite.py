"""Build the attack suite of common corruptions: a transform for every type and severity, and the clean images."""

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
    """Return the transforms `clean`, `gaussian_noise_1`, …, `jpeg_compression_5`, with their corruption errors.

    Frost is left out if there are no photographs, and tables say so.

    Args:
        types: five operations each, severity 1 first; None leaves a type out.
        frost: folder of the photographs, named in an error message.
        files: published images. Types that they have are taken from them instead of an operation.
        jpeg: quality at which corrupted pictures are saved; None for not at all.

    Raises:
        UserError: a type is unknown or does not have five severities, or no type is left.
    """
    if unknown := sorted(types.keys() - set(TYPES)):
        raise UserError(f"corruptions {unknown}: expected some of {', '.join(TYPES)}")
    transforms: dict[str, Transform] = {"clean": Clean()}
    members: dict[str, list[str]] = {}
    sources: dict[str, str] = {}
    for name in TYPES:
        cells = types.get(name)
        if not cells:
            continue
        if len(cells) != len(SEVERITIES):
            raise UserError(f"corruption {name} has {len(cells)} severities: expected {len(SEVERITIES)}")
        corruptions: list[StoredCorruption | GeneratedCorruption] = []
        if files is not None and name in files.types:
            corruptions = [StoredCorruption(name, severity, files) for severity in SEVERITIES]
        elif all(not isinstance(cell, Frost) or cell.available for cell in cells):
            for severity, operation in zip(SEVERITIES, cells, strict=True):
                corruptions.append(GeneratedCorruption(name, severity, operation, jpeg))
        if corruptions:
            members[name] = [f"{name}_{severity}" for severity in SEVERITIES]
            sources[name] = corruptions[0].source
            transforms |= dict(zip(members[name], corruptions, strict=True))
    if not members:
        raise UserError(f"no corruption is left: give some of {', '.join(TYPES)} (frost needs photographs in {frost})")
    return AttackSuite(transforms, aggregates={"corruption errors": CorruptionError(members, sources)})


def cifar10_c(types: Mapping[str, Sequence[Operation] | None], frost: str, published: str | None = None) -> AttackSuite:
    """Return the suite of CIFAR-10-C.

    Args:
        types: as in `corruption_suite`, for the types without published files.
        frost: as in `corruption_suite`.
        published: folder of its arrays; None generates all images.
    """
    return corruption_suite(types, frost, None if published is None else CIFAR10C(published))


def imagenet_c(
    types: Mapping[str, Sequence[Operation] | None], frost: str, published: str | None = None, jpeg: int | None = 85
) -> AttackSuite:
    """Return the suite of ImageNet-C.

    Args:
        types: as in `corruption_suite`, for the types without published files.
        frost: as in `corruption_suite`.
        published: folder of its types; None generates all images.
        jpeg: quality at which generated pictures are saved.
    """
    return corruption_suite(types, frost, None if published is None else ImageNetC(published), jpeg)
