"""Runs of known answers: the paper's table in small."""

import pytest

from tests.reports.folders import add_bounds, add_pictures, answers, make_run

TABLE = {
    "normal": (0.95, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
    "at_linf": (0.87, 0.49, 0.19, 0.05, 0.55, 0.02, 0.0),
    "at_l2": (0.85, 0.40, 0.48, 0.08, 0.54, 0.06, 0.0),
    "at_stadv": (0.86, 0.0, 0.0, 0.54, 0.05, 0.0, 0.0),
    "at_recoloradv": (0.93, 0.09, 0.04, 0.0, 0.65, 0.0, 0.0),
    "trades_linf": (0.85, 0.53, 0.23, 0.09, 0.61, 0.02, 0.0),
    "at_all_random": (0.85, 0.22, 0.23, 0.01, 0.47, 0.02, 0.0),
    "at_all_average": (0.87, 0.40, 0.40, 0.20, 0.65, 0.11, 0.01),
    "at_all_maximum": (0.84, 0.26, 0.31, 0.40, 0.64, 0.09, 0.01),
    "pat_self": (0.82, 0.30, 0.35, 0.46, 0.71, 0.13, 0.02),
    "pat_alexnet": (0.72, 0.29, 0.33, 0.65, 0.68, 0.27, 0.10),
    "pat_vr": (0.75, 0.31, 0.34, 0.60, 0.66, 0.20, 0.08),
}
NAMES = ("clean", "linf", "l2", "stadv", "recoloradv", "ppgd", "lpa")


@pytest.fixture(scope="session")
def twelve(tmp_path_factory):
    """A folder of twelve runs with seven attacks, 300 examples, pictures, and L∞ at four bounds."""
    root = tmp_path_factory.mktemp("twelve")
    for i, (defense, accuracies) in enumerate(TABLE.items()):
        shares = dict(zip(NAMES, accuracies, strict=True))
        trained_on = ["perceptual"] if defense.startswith("pat") else ["linf"] if defense.endswith("linf") else []
        folder = make_run(
            root / f"{i:02d}", answers(shares, 300, i), name=f"{defense}/resnet50/seed0", trained_on=trained_on
        )
        at = {share: answers({"clean": shares["clean"], "linf": value}, 300)["linf"] for share, value in curve(shares)}
        add_bounds(folder, "linf", at)
        add_pictures(folder)
    return root


def curve(shares):
    """Accuracy under L∞ at a quarter, half and twice the bound."""
    clean, linf = shares["clean"], shares["linf"]
    return [(0.25, 0.75 * clean + 0.25 * linf), (0.5, 0.5 * (clean + linf)), (2, linf / 3)]


@pytest.fixture
def folder(tmp_path):
    """A folder for the runs of one test."""
    return tmp_path / "runs"
