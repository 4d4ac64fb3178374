"""The YAML of each perceptual attack builds the attack it says."""

import pytest
import yaml

from gauntlet.attacks import Best, FirstSuccess, Last, Newton, NoProjection, OvershootingNewton, Tenfold
from gauntlet.config.compose import CONF
from gauntlet.config.instantiate import instantiate
from gauntlet.distances import SelfLPIPS
from gauntlet.threats import NeuralPerceptual

OPTIONS = ["fast_lpa", "paper/fast_lpa", "first_order", "lpa", "paper/lpa", "ppgd", "paper/ppgd"]


def built(option):
    config = yaml.safe_load((CONF / "attack" / f"{option}.yaml").read_text())
    assert config["threat_model"] == "???"
    config["threat_model"] = {
        "_target_": "gauntlet.threats.NeuralPerceptual",
        "distance": {"_target_": "gauntlet.distances.SelfLPIPS"},
        "bound": 0.5,
    }
    return instantiate(config)


@pytest.mark.parametrize("option", OPTIONS)
def test_it_builds_with_objects_of_our_own(option):
    attack = built(option)
    assert attack.threat_model == NeuralPerceptual(SelfLPIPS(), 0.5)
    assert attack.stays_inside == (option != "paper/fast_lpa")


def test_ours_return_the_best_point_and_the_papers_what_the_paper_returns():
    assert all(built(option).iterate == Best() for option in ("fast_lpa", "first_order", "lpa", "ppgd"))
    assert built("paper/lpa").iterate == FirstSuccess()
    assert built("paper/ppgd").iterate == built("paper/fast_lpa").iterate == Last()
    assert built("paper/fast_lpa").projection == NoProjection()
    assert built("paper/lpa").projection == built("paper/ppgd").projection == OvershootingNewton()
    assert all(built(option).projection == Newton() for option in ("fast_lpa", "first_order", "lpa", "ppgd"))


def test_the_papers_numbers():
    """Laidlaw et al. 2021, §5.1: 40 steps, five multipliers from 0.01, η = 2·bound/N."""
    lpa, ppgd = built("paper/lpa"), built("paper/ppgd")
    assert (lpa.searches, lpa.steps, lpa.multipliers) == (5, 40, Tenfold(0.01, 10))
    assert (ppgd.steps, ppgd.step_size, ppgd.iterations) == (40, 2 / 40, 5)
    assert [ppgd.schedule(i, 40) for i in (0, 39)] == [1, 1]
    assert lpa.goal.loss.kappa == ppgd.goal.loss.kappa == 1
