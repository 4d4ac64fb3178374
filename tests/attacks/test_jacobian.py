"""Products with the derivative of φ, beside the dense derivative."""

import pytest
import torch

from gauntlet.attacks import CentralDifference, DoubleBackward
from gauntlet.attacks.jacobian import transposed_product
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


def times(jacobian, embed, images, along):
    """J v at the images."""
    params = images.detach().clone().requires_grad_()
    return jacobian.at(embed, params, embed(params))(along)


def forward_mode(embed, images, along):
    """J v by torch's forward-mode differentiation: the oracle."""
    return tuple(layer.detach() for layer in torch.func.jvp(embed, (images.detach(),), (along,))[1])


def difference(one, other):
    """Relative to the length of the other, per example."""
    return (flat(one) - flat(other)).norm(dim=1) / flat(other).norm(dim=1)


@pytest.mark.parametrize("jacobian", [CentralDifference(1e-5), DoubleBackward()])
@pytest.mark.parametrize("length", [1e-3, 1.0, 1e3])
def test_it_is_the_dense_derivative_times_the_vector(jacobian, length):
    distance, images = (
        LPIPS(tapped(dtype=DOUBLE, activation=torch.nn.Softplus)),
        random_images(3, 3, 5, 4, dtype=DOUBLE),
    )
    along = length * (random_images(3, 3, 5, 4, seed=1, dtype=DOUBLE) - 0.5)
    result = flat(times(jacobian, distance.embed, images, along))
    for i in range(3):
        expected = dense(distance.embed, images[i : i + 1]) @ along[i].flatten()
        assert result[i].allclose(expected, rtol=1e-5, atol=1e-8 * length)


@pytest.mark.parametrize("jacobian", [CentralDifference(), DoubleBackward()])
def test_it_is_exact_where_the_embedding_is_linear(jacobian):
    matrix = torch.randn(7, 12, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    along = random_images(2, 3, 2, 2, dtype=DOUBLE)
    embed = Ellipsoid(tapped(dtype=DOUBLE), matrix).embed
    result = times(jacobian, embed, random_images(2, 3, 2, 2, dtype=DOUBLE), along)
    assert flat(result).allclose(along.flatten(1) @ matrix.T, rtol=1e-9)


@pytest.mark.parametrize("jacobian", [CentralDifference(), DoubleBackward()])
def test_nothing_moves_nothing(jacobian):
    distance, images = LPIPS(tapped()), random_images(2, 3, 4, 4)
    assert not flat(times(jacobian, distance.embed, images, torch.zeros_like(images))).any()


@pytest.mark.parametrize("jacobian", [CentralDifference(1e-6), DoubleBackward()])
def test_the_two_products_are_adjoint(jacobian):
    """⟨w, J v⟩ = ⟨Jᵀ w, v⟩."""
    distance = LPIPS(tapped(dtype=DOUBLE))
    images = random_images(4, 3, 6, 5, dtype=DOUBLE).requires_grad_()
    along = random_images(4, 3, 6, 5, seed=1, dtype=DOUBLE) - 0.5
    embedding = distance.embed(images)
    moved = times(jacobian, distance.embed, images, along)
    weights = tuple(torch.randn_like(layer) for layer in embedding)
    left = (flat(weights) * flat(moved)).sum(1)
    right = (transposed_product(embedding, images, weights) * along).flatten(1).sum(1)
    assert left.allclose(right, rtol=1e-4, atol=1e-7)
    assert not any(layer.requires_grad for layer in moved)


REAL = {
    "exact": (DoubleBackward(), torch.float32, 1e-5, 0.999999),
    "exact in float64": (DoubleBackward(), DOUBLE, 1e-12, 0.999999),
    "cheap": (CentralDifference(), torch.float32, 1e-2, 0.99),
    "cheap in float64": (CentralDifference(1e-6), DOUBLE, 1e-3, 0.99),
}


@pytest.mark.parametrize(("jacobian", "dtype", "tolerance", "cosine"), REAL.values(), ids=REAL)
def test_products_on_alexnet_and_real_images_are_those_of_forward_mode(jacobian, dtype, tolerance, cosine):
    """In the median, along gradients as an attack meets them. A difference crosses ReLUs that switch on its way."""
    distance, (images, _) = alexnet_distance(), cifar10_test(12)
    distance.network.to(dtype)
    images = (images + 0.03 * torch.randn(images.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    images = images.to(dtype).requires_grad_()
    embedding = distance.embed(images)
    along = transposed_product(embedding, images, tuple(torch.ones_like(layer) for layer in embedding))
    result, expected = times(jacobian, distance.embed, images, along), forward_mode(distance.embed, images, along)
    assert difference(result, expected).median() < tolerance
    assert torch.cosine_similarity(flat(result), flat(expected)).min() > cosine
    assert not any(layer.requires_grad for layer in result)


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_where_activations_are_dead_a_product_is_finite(value):
    """φ of an image that a network does not see has no direction, and a product no NaN."""
    distance = LPIPS(tapped(dtype=DOUBLE))
    with torch.no_grad():
        distance.network.stages[0][0].bias.fill_(-1e3)
    images, along = torch.full((2, 3, 4, 4), value, dtype=DOUBLE), random_images(2, 3, 4, 4, dtype=DOUBLE)
    assert flat(times(DoubleBackward(), distance.embed, images, along)).isfinite().all()


@pytest.mark.parametrize("reach", [0.0, -0.1, float("nan")])
def test_a_reach_without_a_meaning_is_refused(reach):
    with pytest.raises(ValueError, match="above 0"):
        CentralDifference(reach)
