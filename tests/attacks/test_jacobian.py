"""Products with the derivative of φ, beside the dense derivative."""

import pytest
import torch

from gauntlet.attacks import CentralDifference, ForwardMode
from gauntlet.attacks.jacobian import pulled_back
from gauntlet.distances import LPIPS
from tests.fixtures import Ellipsoid, random_images, tapped
from tests.networks import alexnet_distance, cifar10_test

DOUBLE = torch.float64


def flat(embedding):
    return torch.cat([layer.flatten(1) for layer in embedding], 1)


def dense(embed, image):
    """J of one example, `[features, pixels]`."""
    jacobian = torch.autograd.functional.jacobian(lambda one: flat(embed(one)), image)
    return jacobian.reshape(jacobian.shape[1], -1)


def difference(one, other):
    """Relative to the length of the other, per example."""
    return (flat(one) - flat(other)).norm(dim=1) / flat(other).norm(dim=1)


@pytest.mark.parametrize("product", [CentralDifference(1e-5), ForwardMode()])
@pytest.mark.parametrize("length", [1e-3, 1.0, 1e3])
def test_it_is_the_dense_derivative_times_the_vector(product, length):
    distance, images = (
        LPIPS(tapped(dtype=DOUBLE, activation=torch.nn.Softplus)),
        random_images(3, 3, 5, 4, dtype=DOUBLE),
    )
    along = length * (random_images(3, 3, 5, 4, seed=1, dtype=DOUBLE) - 0.5)
    found = flat(product(distance.embed, images, along))
    for i in range(3):
        expected = dense(distance.embed, images[i : i + 1]) @ along[i].flatten()
        assert found[i].allclose(expected, rtol=1e-5, atol=1e-8 * length)


@pytest.mark.parametrize("product", [CentralDifference(), ForwardMode()])
def test_it_is_exact_where_the_embedding_is_linear(product):
    matrix = torch.randn(7, 12, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    along = random_images(2, 3, 2, 2, dtype=DOUBLE)
    found = product(Ellipsoid(tapped(dtype=DOUBLE), matrix).embed, random_images(2, 3, 2, 2, dtype=DOUBLE), along)
    assert flat(found).allclose(along.flatten(1) @ matrix.T, rtol=1e-9)


@pytest.mark.parametrize("product", [CentralDifference(), ForwardMode()])
def test_nothing_moves_nothing(product):
    distance, images = LPIPS(tapped()), random_images(2, 3, 4, 4)
    assert not flat(product(distance.embed, images, torch.zeros_like(images))).any()


@pytest.mark.parametrize("product", [CentralDifference(1e-6), ForwardMode()])
def test_the_two_products_are_adjoint(product):
    """⟨w, J v⟩ = ⟨Jᵀ w, v⟩."""
    distance = LPIPS(tapped(dtype=DOUBLE))
    images = random_images(4, 3, 6, 5, dtype=DOUBLE).requires_grad_()
    along = random_images(4, 3, 6, 5, seed=1, dtype=DOUBLE) - 0.5
    embedding = distance.embed(images)
    moved = product(distance.embed, images.detach(), along)
    weights = tuple(torch.randn_like(layer) for layer in embedding)
    left = (flat(weights) * flat(moved)).sum(1)
    right = (pulled_back(embedding, images, weights) * along).flatten(1).sum(1)
    assert left.allclose(right, rtol=1e-4, atol=1e-7)
    assert not any(layer.requires_grad for layer in moved)


@pytest.mark.parametrize(
    ("dtype", "reach", "tolerance"), [(DOUBLE, 1e-6, 1e-3), (torch.float32, CentralDifference().reach, 1e-2)]
)
def test_the_cheap_one_agrees_with_the_exact_one_on_alexnet_and_real_images(dtype, reach, tolerance):
    """In the median, along gradients as an attack meets them; ReLUs that switch within the reach are the rest."""
    distance, (images, _) = alexnet_distance(), cifar10_test(12)
    distance.network.to(dtype)
    images = (images + 0.03 * torch.randn(images.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    images = images.to(dtype).requires_grad_()
    embedding = distance.embed(images)
    along = pulled_back(embedding, images, tuple(torch.ones_like(layer) for layer in embedding))
    images = images.detach()
    cheap, exact = (product(distance.embed, images, along) for product in (CentralDifference(reach), ForwardMode()))
    assert difference(cheap, exact).median() < tolerance
    assert torch.cosine_similarity(flat(cheap), flat(exact)).min() > 0.99


@pytest.mark.parametrize("reach", [0.0, -0.1, float("nan")])
def test_a_reach_without_a_meaning_is_refused(reach):
    with pytest.raises(ValueError, match="above 0"):
        CentralDifference(reach)
