"""`attack_suite=ua2` from the command line: trained against one of the eight, measured by all, with their mean."""

import pytest
from hydra import compose, initialize_config_dir

from gauntlet.config.compose import CONF, register_resolvers
from gauntlet.evaluation import read_run
from tests.conftest import QUICK

EIGHT = ["jpeg", "elastic", "wood", "glitch", "kaleidoscope", "pixel", "snow", "gabor"]
SHORT = [f"attack_suite.attacks.{name}.steps=1" for name in ("pgd", *EIGHT)]
FEW = ["evaluation.examples=4", "evaluation.chunk=4", "evaluation.probed=1", "logger=csv"]


def test_the_eight_are_measured_and_their_mean_is_ua2(door, run):
    result = door("evaluate", f"checkpoint={run}", "attack_suite=ua2", *SHORT, *FEW)
    assert result.code == 0, result.err
    measured = read_run(run, "ua2")
    assert list(measured.plan.entries) == ["clean", "pgd", *EIGHT[:5], "kaleidoscope_start", *EIGHT[5:]]
    mean = sum(measured.cells[name].value for name in EIGHT) / 8
    assert measured.cells["UA2"].value == pytest.approx(mean)
    assert measured.violations == 0
    assert "UA2" in (run / "report.md").read_text()


LEVELS = {
    "cifar10": {
        "ua2_low": [1 / 255, 0.1, 0.03, 0.03, 0.05, 1, 3, 0.02, 2 / 255],
        "ua2": [3 / 255, 0.25, 0.05, 0.05, 0.1, 5, 4, 0.03, 4 / 255],
        "ua2_high": [6 / 255, 0.5, 0.1, 0.1, 0.15, 10, 5, 0.04, 8 / 255],
    },
    "imagenet100": {
        "ua2_low": [1 / 255, 0.1, 0.03, 0.03, 0.05, 3, 10, 0.02, 2 / 255],
        "ua2": [3 / 255, 0.25, 0.05, 0.05, 0.1, 5, 15, 0.04, 4 / 255],
        "ua2_high": [6 / 255, 0.5, 0.1, 0.07, 0.15, 10, 25, 0.06, 8 / 255],
    },
}
"""Published bounds of the eight, then of L∞."""
STEPS = {
    "cifar10": [0.0024, 0.006, 0.000625, 0.0025, 0.005, 1.0, 0.2, 0.0025, 0.008],
    "imagenet100": [0.0024, 0.003, 0.005, 0.005, 0.005, 1.0, 0.1, 0.0003125, 0.004],
}
"""Their published steps, the same at every level."""


@pytest.mark.parametrize(("dataset", "suite"), [(data, suite) for data, suites in LEVELS.items() for suite in suites])
def test_bounds_and_steps_are_the_published_ones(dataset, suite):
    register_resolvers()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        attacks = compose(
            "train", ["defense=normal", f"dataset={dataset}", f"attack_suite={suite}"]
        ).attack_suite.attacks
    ordered = [attacks[name] for name in (*EIGHT, "pgd")]
    bounds = [attack["threat_model"]["bound"] for attack in ordered]
    assert bounds == pytest.approx(LEVELS[dataset][suite])
    assert [attack["step_size"] * bound for attack, bound in zip(ordered, bounds, strict=True)] == pytest.approx(
        STEPS[dataset]
    )
    assert attacks["kaleidoscope_start"]["threat_model"] == attacks["kaleidoscope"]["threat_model"]


@pytest.mark.slow
@pytest.mark.parametrize("name", EIGHT)
def test_each_can_be_trained_against(door, outputs, name):
    short = ["defense.attack.steps=1", "trainer.max_epochs=1", "dataset.recipe.batch_size=130"]
    words = ["defense=at", f"threat_model=ua_{name}", "attack_suite=clean", *short, *QUICK]
    result = door("train", *words, f"outputs={outputs}")
    assert result.code == 0, result.err
    (folder,) = outputs.glob("digits/at-*/*")
    assert read_run(folder, "clean").card.trained_on == [f"ua_{name}"]
