"""Conjugate gradients beside dense linear algebra."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gauntlet.attacks.conjugate_gradients import conjugate_gradients
from tests.fixtures import random_images

DOUBLE = torch.float64


def systems(count, size, seed=0, extra=4):
    """Positive definite A `[count, size, size]` and right sides `[count, 1, 1, size]`."""
    generator = torch.Generator().manual_seed(seed)
    factor = torch.randn(count, size + extra, size, generator=generator, dtype=DOUBLE)
    return factor.mT @ factor, torch.randn(count, 1, 1, size, generator=generator, dtype=DOUBLE)


def times(matrix):
    return lambda along: (matrix @ along.flatten(1)[..., None])[..., 0].reshape(along.shape)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 8), st.integers(0, 4), st.integers(0, 10**6))
def test_as_many_iterations_as_unknowns_solve_the_system(size, count, seed):
    matrix, right = systems(count, size, seed)
    solution, residual = conjugate_gradients(times(matrix), right, iterations=size + 2, tolerance=0)
    expected = torch.linalg.solve(matrix, right.flatten(1)) if count else right.flatten(1)
    assert solution.flatten(1).allclose(expected, rtol=1e-6, atol=1e-8)
    assert residual.allclose(right - times(matrix)(solution), atol=1e-9)


@pytest.mark.parametrize("iterations", [1, 2, 3, 5])
def test_each_iteration_is_the_best_in_its_krylov_space(iterations):
    """argmin ½uᵀAu − bᵀu over the span of b, Ab, A²b, … by dense algebra."""
    matrix, right = systems(3, 7)
    solution, _ = conjugate_gradients(times(matrix), right, iterations, tolerance=0)
    for a, b, u in zip(matrix, right.flatten(1), solution.flatten(1), strict=True):
        powers = [b]
        for _ in range(iterations - 1):
            powers.append(a @ powers[-1] / powers[-1].norm())
        basis = torch.linalg.qr(torch.stack(powers, 1)).Q
        best = basis @ torch.linalg.solve(basis.T @ a @ basis, basis.T @ b)
        assert u.allclose(best, rtol=1e-6)


def test_no_example_depends_on_another():
    """Not of a solved one, not of a hard one, not of one without a right side; bit for bit."""
    matrix, right = systems(5, 6)
    matrix[1] = torch.eye(6)
    matrix[2] = torch.diag(10.0 ** torch.arange(6))
    right[3] = 0
    whole, rest = conjugate_gradients(times(matrix), right, 4, 1e-2)
    for i in range(5):
        alone = conjugate_gradients(times(matrix[i : i + 1]), right[i : i + 1], 4, 1e-2)
        assert alone[0].allclose(whole[i : i + 1], rtol=1e-12)
        assert alone[1].allclose(rest[i : i + 1], rtol=0, atol=1e-12)


def test_a_right_side_of_nothing_stays_nothing_and_costs_nothing():
    products = []
    matrix, right = systems(3, 4)

    def product(along):
        products.append(1)
        return times(matrix)(along)

    solution, residual = conjugate_gradients(product, torch.zeros_like(right), 5, 1e-3)
    assert not products
    assert not solution.any()
    assert not residual.any()


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_examples_stop_at_their_own_tolerance_whatever_their_scale(scale):
    matrix, right = systems(4, 12)
    count = []

    def product(along):
        count.append(1)
        return times(matrix)(along)

    _, residual = conjugate_gradients(product, scale * right, 100, tolerance=0.1)
    share = residual.flatten(1).norm(dim=1) / (scale * right).flatten(1).norm(dim=1)
    assert (share <= 0.1).all()
    assert (share > 1e-4).all(), "no example is iterated beyond its tolerance"
    assert len(count) < 12


def test_a_direction_without_curvature_makes_no_nan():
    matrix = torch.zeros(2, 3, 3, dtype=DOUBLE)
    matrix[1] = torch.diag(torch.tensor([2.0, 1.0, 0.0]))
    right = torch.tensor([[1.0, 2.0, 3.0], [2.0, 3.0, 0.0]], dtype=DOUBLE).reshape(2, 1, 1, 3)
    solution, _ = conjugate_gradients(times(matrix), right, 5, 0)
    assert solution[0].tolist() == [[[0, 0, 0]]]
    assert solution[1].flatten().allclose(torch.tensor([1.0, 3.0, 0.0], dtype=DOUBLE))


def test_any_shape_of_unknowns_will_do():
    right = random_images(2, 3, 4, 5)
    solution, _ = conjugate_gradients(lambda along: 4 * along, right, 3, 1e-3)
    assert solution.allclose(right / 4)
