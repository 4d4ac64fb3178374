"""A linear classifier whose distances to the boundary are known, and suites that it is measured by."""

from pathlib import Path

import torch

from gauntlet.data import Examples
from gauntlet.evaluation import Grid, Measured, ModelUnderTest, Plan, PlannedEntry, read_records
from gauntlet.evaluation.grouping import family_of
from gauntlet.evaluation.plan import Card
from gauntlet.threats import L2
from tests.fixtures import LinearClassifier, LinearMargin, NearestOfLinear

COUNT = 24
CARD = Card("linear", "mini", "linear", None, None, None, "c0ffee", "f00d")
FAR = NearestOfLinear(threat_model=L2(0.05), overshoot=1e-5)
MARGIN = LinearMargin(threat_model=L2(0.05))


def model(labels=None):
    """Grey images on both sides of the boundary; every seventh label is wrong unless labels are given."""
    pixels = torch.randint(100, 156, (COUNT, 3, 4, 4), generator=torch.Generator().manual_seed(2), dtype=torch.uint8)
    classifier = LinearClassifier(48, dtype=torch.float64)
    classifier.bias.data = -(pixels.double().div(255).mean(0).flatten() @ classifier.weight.data)
    if labels is None:
        labels = (score(classifier, pixels) < 0).long()
        labels[::7] = 1 - labels[::7]
    return ModelUnderTest(classifier, "c0ffee", Examples(pixels, labels, torch.arange(COUNT) * 3 + 100), "f00d")


def score(classifier, pixels):
    images = (pixels.float() / 255).double()
    return (images.flatten(1) @ classifier.weight + classifier.bias).detach()


def true_distance(one):
    """|w·x + b| / ‖w‖₂ by example id, where the classifier is right; 0 elsewhere."""
    scores = score(one.classifier, one.examples.images)
    right = (scores < 0) == one.examples.labels.bool()
    distances = torch.where(right, scores.abs() / one.classifier.weight.detach().norm(), 0)
    return dict(zip(one.examples.ids.tolist(), distances.tolist(), strict=True))


def measured(one, suite, root, grid=None):
    """Finished records of a suite, and where they lie."""
    grid = grid or Grid(chunk=8)
    folders = grid.run(one, suite, Path(root), lambda _: None)
    entries = {}
    for name, entry in suite.entries.items():
        threat = entry.threat_model
        earlier = grid.mode.earlier(suite, name)
        family = family_of(threat)[0]
        entries[name] = PlannedEntry(
            entry.kind, threat.name, threat.bound, threat.unit, name, family, survivors_of=earlier
        )
    records = {name: read_records(folder.path, folder.kind) for name, folder in folders.items()}
    return Measured(CARD, Plan("c0ffee", len(one.examples), entries, {}), records), folders
