"""The attack of nobody gives the images back."""

import pytest
import torch

from gauntlet.attacks import Clean
from tests.fixtures import LinearClassifier, random_images


@pytest.mark.parametrize("count", [0, 1, 4])
def test_images_come_back_as_they_came(count):
    images = random_images(count, 3, 2, 2)
    found = Clean()(LinearClassifier(12), images, torch.zeros(count, dtype=torch.long))
    assert found.images.equal(images)
    assert found.size.tolist() == [0] * count
    assert Clean().stays_inside
    assert Clean().threat_model.name == "clean"
