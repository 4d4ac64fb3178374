"""The sanity probe on attacks that need more than a label."""

import torch

from gauntlet.attacks import APGD
from gauntlet.data import Batch
from gauntlet.evaluation import AttackSuite, probe
from gauntlet.goals import RankedTargets
from gauntlet.threats import Linf
from tests.fixtures import random_images, tapped


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
