"""The sanity probe on attacks that need more than a label."""

import torch

from gauntlet.attacks import APGD, PGD
from gauntlet.data import Batch
from gauntlet.evaluation import AttackSuite, probe
from gauntlet.goals import RankedTargets
from gauntlet.threats import Linf, UASnow
from tests.fixtures import predictions, random_images, tapped


def test_an_attack_with_ranked_targets_is_probed_like_any_other():
    torch.manual_seed(0)
    classifier = tapped(classes=5)
    images = random_images(6, 3, 8, 8)
    with torch.no_grad():
        labels = classifier(images).argmax(1)
    attack = APGD(threat_model=Linf(0.1), steps=4, goal=RankedTargets(targets=2))
    flags = probe(classifier, AttackSuite({"targeted": attack}), Batch(images, labels, torch.arange(6)))
    assert {"gradients", "black box", "converged"} <= {flag.name for flag in flags}
    assert not any("could not be checked" in flag.explanation for flag in flags)


def test_a_threat_model_that_is_flat_at_the_clean_image_is_checked_where_the_search_starts():
    """Snow is a power of its params: no gradient at 0, and searches start elsewhere."""
    images, attack = random_images(6, 3, 8, 8), PGD(threat_model=UASnow(4.0, 3, 2, 1), steps=2)
    batch = Batch(images, predictions(tapped(classes=5), images), torch.arange(6))
    (flag,) = [
        flag for flag in probe(tapped(classes=5), AttackSuite({"snow": attack}), batch) if flag.name == "gradients"
    ]
    assert flag.value == 0
