"""Tiles change nothing but the size of a forward, and that is always the same."""

import pytest
import torch
from torch import nn

from gauntlet.attacks import PGD
from gauntlet.models import Tiled, logits_of
from gauntlet.threats import Linf
from tests.fixtures import Counting, random_images, tapped


@pytest.mark.parametrize(("size", "count", "tiles"), [(4, 0, 1), (4, 1, 1), (4, 4, 1), (4, 5, 2), (1, 3, 3), (8, 7, 1)])
def test_every_forward_is_of_one_size(size, count, tiles):
    counting = Counting(tapped(classes=5))
    assert logits_of(Tiled(counting, size), random_images(count, 3, 8, 8)).shape == (count, 5)
    assert counting.batches == [size] * tiles


@pytest.mark.parametrize("size", [1, 3, 4, 16])
def test_logits_and_gradients_are_those_of_the_classifier(size):
    network = tapped(classes=5, dtype=torch.float64)
    images = random_images(7, 3, 8, 8, dtype=torch.float64).requires_grad_()
    plain, tiled = network(images), Tiled(network, size)(images)
    assert tiled.allclose(plain, rtol=1e-12, atol=1e-12)
    slopes = [torch.autograd.grad(logits.square().sum(), images)[0] for logits in (plain, tiled)]
    assert slopes[0].allclose(slopes[1], rtol=1e-10, atol=1e-12)


def many_kernels():
    """A network whose matrix products round the rows of a batch differently on some processors."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(192, 257), nn.ReLU(), nn.Linear(257, 10)).eval()


@pytest.mark.parametrize("parts", [1, 2, 5, 9])
def test_in_tiles_of_one_an_example_has_the_same_bits_in_every_batch(parts):
    tiled, images = Tiled(many_kernels(), 1), random_images(19, 3, 8, 8)
    with torch.no_grad():
        assert torch.cat([tiled(some) for some in images.split(parts)]).equal(tiled(images))


@pytest.mark.parametrize("size", [3, 4, 8])
@pytest.mark.parametrize("count", [1, 2, 5, 11])
def test_an_example_has_the_same_bits_in_its_place_whatever_comes_after_it(size, count):
    tiled, images = Tiled(many_kernels(), size), random_images(19, 3, 8, 8)
    with torch.no_grad():
        assert tiled(images[:count]).equal(tiled(images)[:count])


def test_tuples_and_networks_that_work_in_place_are_tiled_as_well():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = tapped(classes=5)

        def forward(self, images):
            return self.body(images.mul_(2)), None

    odd, images = Odd().eval(), random_images(5, 3, 8, 8)
    before = images.clone()
    assert logits_of(Tiled(odd, 2), images).allclose(odd.body(2 * before))
    assert images.equal(before)


def test_attacks_in_tiles_find_the_same():
    network, images = tapped(classes=5, dtype=torch.float64), random_images(7, 3, 8, 8, dtype=torch.float64)
    labels, attack, seeds = network(images).argmax(1), PGD(threat_model=Linf(0.1), steps=5), torch.arange(7)
    plain, tiled = (attack(each, images, labels, seeds=seeds).images for each in (network, Tiled(network, 3)))
    assert tiled.allclose(plain, atol=1e-9)


def test_a_tile_of_nothing_is_refused():
    with pytest.raises(ValueError, match="tiles of 0 images: expected at least 1"):
        Tiled(tapped(), 0)
