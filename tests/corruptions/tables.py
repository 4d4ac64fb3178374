"""The constants of CIFAR-10-C as the authors' script has them, and the corruptions of `conf/` built from plain YAML."""

from functools import cache
from pathlib import Path

import yaml

from gauntlet import corruptions
from tests.fixtures import shared_data

CONF = Path(__file__).parents[2] / "conf" / "corruptions"

CIFAR = {
    "gaussian_noise": [0.04, 0.06, 0.08, 0.09, 0.10],
    "shot_noise": [500, 250, 100, 75, 50],
    "impulse_noise": [0.01, 0.02, 0.03, 0.05, 0.07],
    "defocus_blur": [(0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)],
    "glass_blur": [(0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)],
    "motion_blur": [(6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)],
    "zoom_blur": [(1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01)],
    "snow": [
        (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
        (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
        (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
        (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
        (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
    ],
    "frost": [(1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)],
    "fog": [(0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)],
    "brightness": [0.05, 0.1, 0.15, 0.2, 0.3],
    "contrast": [0.75, 0.5, 0.4, 0.3, 0.15],
    "pixelate": [0.95, 0.9, 0.85, 0.75, 0.65],
    "jpeg_compression": [80, 65, 58, 50, 40],
}
"""By type, severity 1 first; elastic transform is in the test of its own formula."""


@cache
def operations(variant, frost=None):
    """By type, five each; frost with the photographs of the test data where no folder is given."""
    nodes = yaml.safe_load((CONF / f"{variant}.yaml").read_text())
    return {name: [_built(node, frost) for node in cells] for name, cells in nodes.items() if name != "frost" or frost}


def with_frost(variant):
    return operations(variant, str(shared_data("frost")))


def _built(node, frost):
    kind = getattr(corruptions, node["_target_"].rpartition(".")[2])
    numbers = {key: value for key, value in node.items() if key != "_target_"}
    return kind(**numbers | ({"folder": frost} if "folder" in numbers else {}))
