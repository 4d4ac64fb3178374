"""The clean images as an entry of a suite."""

import pytest
import torch

from gauntlet.data import Batch
from gauntlet.kinds import Kind
from gauntlet.noise import Noise
from gauntlet.transforms import Clean
from tests.fixtures import batch_of, random_images


@pytest.mark.parametrize("count", [0, 1, 4])
def test_images_come_back_as_they_came(count):
    batch = batch_of(random_images(count, 3, 2, 2))
    noise = Noise(batch.ids)
    images = Clean()(batch, noise)
    assert images.equal(batch.images)
    assert Clean().verify(batch, noise, images).tolist() == [True] * count
    assert Clean().threat_model.name == "clean"
    assert Clean().threat_model.bound == 0
    assert Clean().kind is Kind.TRANSFORM


def test_images_that_are_not_what_the_transform_makes_or_not_in_the_box_are_not_verified():
    images = random_images(3, 1, 2, 2)
    images[2] += 1
    batch = Batch(images, torch.zeros(3, dtype=torch.long), torch.arange(3))
    shown = images.clone()
    shown[1, 0, 0, 0] += 1e-3
    assert Clean().verify(batch, Noise(batch.ids), shown).tolist() == [True, False, False]
