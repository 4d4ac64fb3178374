"""Short names for the runs of a table."""

from __future__ import annotations

from collections.abc import Sequence


def labels_of(names: Sequence[str]) -> tuple[list[str], str]:
    """Return names of the form `a/b/c` without the parts that all of them share, and these parts.

    Runs with equal names are numbered.
    """
    parts = [name.split("/") for name in names]
    common = ""
    if len({len(part) for part in parts}) == 1 and len(set(names)) > 1:
        differ = [i for i, column in enumerate(zip(*parts, strict=True)) if len(set(column)) > 1]
        common = ", ".join(part for i, part in enumerate(parts[0]) if i not in differ)
        parts = [[part[i] for i in differ] for part in parts]
    labels = ["/".join(part) for part in parts]
    numbered = []
    for i, label in enumerate(labels):
        number = labels[: i + 1].count(label)
        numbered.append(f"{label} #{number}" if labels.count(label) > 1 else label)
    return numbered, common
