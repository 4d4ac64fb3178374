"""The perceptual distance: equal to an independent computation, a metric, finite in every corner."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import correlate
from torch import nn

from gauntlet.distances import LPIPS, FeatureDistance, SelfLPIPS, feature_distance, unit_features
from gauntlet.models import Normalise, alexnet, linear
from tests.fixtures import Circle, LinearClassifier, Staged, numpy_distance, random_images, tapped


def one_layer(stage, channels=1, head=None):
    """A network of one tap behind no normalisation."""
    return Staged(Normalise([0.0] * channels, [1.0] * channels), [stage], head or nn.Flatten()).eval()


def test_phi_and_d_equal_a_computation_in_numpy_from_the_pixels_on():
    """Laidlaw et al. 2021, §3: unit length over channels at every position, divided by √(H·W), stacked."""
    network = tapped(channels=2, seed=3)
    images, others = random_images(2, 2, 7, 6, seed=1).double(), random_images(2, 2, 7, 6, seed=2).double()

    def convolve(maps, convolution):
        weight, bias = convolution.weight.detach().double().numpy(), convolution.bias.detach().double().numpy()
        padded = np.pad(maps, ((0, 0), (0, 0), (1, 1), (1, 1)))
        out = [[correlate(image, kernel, mode="valid")[0] for kernel in weight] for image in padded]
        return np.maximum(np.array(out) + bias[None, :, None, None], 0)

    def phi(batch):
        pixels = (batch.numpy() - np.array([0.45, 0.5])[:, None, None]) / np.array([0.25, 0.2])[:, None, None]
        first = convolve(pixels, network.stages[0][0])
        pooled = first[:, :, :6, :].reshape(len(first), 6, 3, 2, 3, 2).max((3, 5))
        parts = []
        for layer in (first, convolve(pooled, network.stages[1][1])):
            length = np.sqrt((layer**2).sum(1, keepdims=True)) + 1e-10
            parts.append((layer / length / np.sqrt(layer.shape[2] * layer.shape[3])).reshape(len(layer), -1))
        return np.concatenate(parts, 1)

    distance = LPIPS(network)
    ours = torch.cat([layer.flatten(1) for layer in distance.embed(images.float())], 1).detach().numpy()
    assert np.allclose(ours, phi(images), rtol=1e-4, atol=1e-6)
    expected = np.sqrt(((phi(images) - phi(others)) ** 2).sum(1))
    assert np.allclose(distance(images.float(), others.float()).detach(), expected, rtol=1e-5, atol=1e-6)


@settings(deadline=None, max_examples=30)
@given(st.floats(0.1, 3), st.integers(1, 5), st.integers(1, 5), st.integers(0, 1000))
def test_d_has_its_closed_form_on_a_circle(frequency, height, width, seed):
    network = Circle(frequency).double().eval()
    images, others = (random_images(3, 1, height, width, seed=s, dtype=torch.float64) for s in (seed, seed + 1))
    expected = (4 * ((images - others) * network.frequency / 2).sin() ** 2).mean((1, 2, 3)).sqrt()
    assert LPIPS(network)(images, others).allclose(expected, rtol=1e-7, atol=1e-9)


def test_the_length_of_phi_counts_the_living_positions():
    """‖φ‖² is, for every layer, the share of positions with any channel above zero."""
    maps = torch.zeros(1, 3, 2, 5)
    maps[0, 1, 0, :4] = torch.tensor([1e-3, 1.0, 5.0, 1e4])
    maps[0, 2, 1, 1] = 7.0
    (unit,) = unit_features((maps,))
    assert unit.square().sum().item() == pytest.approx(0.5, rel=1e-5)
    assert unit[0, :, 1, 0].tolist() == [0, 0, 0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("image", ["random", "black", "white", "gray"])
def test_no_image_is_away_from_itself_and_the_gradient_there_is_zero(image, dtype):
    network = tapped(dtype=dtype)
    constant = {"black": 0.0, "white": 1.0, "gray": 0.5}
    images = (
        random_images(2, 3, 6, 6, dtype=dtype)
        if image == "random"
        else torch.full((2, 3, 6, 6), constant[image], dtype=dtype)
    )
    moved = images.clone().requires_grad_()
    distance = LPIPS(network)(images, moved)
    assert distance.tolist() == [0, 0]
    (gradient,) = torch.autograd.grad(distance.sum(), moved)
    assert not gradient.any()


def dead_network():
    """Every second position of its map is dead, and with the bias below zero a black image is dead altogether."""
    network = one_layer(nn.Sequential(nn.Conv2d(1, 3, 1), nn.ReLU()))
    nn.init.constant_(network.stages[0][0].weight, 1.0)
    nn.init.constant_(network.stages[0][0].bias, -0.5)
    return network


CORNERS = {
    "black, all dead": (torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 4)),
    "black to white": (torch.zeros(1, 1, 4, 4), torch.ones(1, 1, 4, 4)),
    "white to black": (torch.ones(1, 1, 4, 4), torch.zeros(1, 1, 4, 4)),
    "half dead": (random_images(1, 1, 4, 4), random_images(1, 1, 4, 4, seed=1)),
    "on the edge of the ReLU": (torch.full((1, 1, 4, 4), 0.5), random_images(1, 1, 4, 4)),
    "barely alive": (torch.full((1, 1, 4, 4), 0.5000001), random_images(1, 1, 4, 4)),
    "to barely alive": (random_images(1, 1, 4, 4), torch.full((1, 1, 4, 4), 0.5000001)),
    "one unit apart": (torch.full((1, 1, 4, 4), 0.75), torch.full((1, 1, 4, 4), 0.75000006)),
}


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize(("images", "others"), CORNERS.values(), ids=CORNERS)
def test_dead_positions_have_finite_gradients(images, others, autocast):
    moved = others.clone().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        distance = LPIPS(dead_network())(images, moved)
    (gradient,) = torch.autograd.grad(distance.sum(), moved)
    assert distance.dtype == torch.float32
    assert distance.isfinite().all()
    assert gradient.isfinite().all()


def test_a_dead_position_has_no_gradient_at_all():
    """Not even one that a ReLU before it would hide."""
    maps = random_images(1, 3, 2, 2)
    maps[0, :, 0, 1] = 0
    maps.requires_grad_()
    (unit,) = unit_features((maps,))
    (gradient,) = torch.autograd.grad((unit * random_images(1, 3, 2, 2, seed=1)).sum(), maps)
    assert gradient[0, :, 0, 1].tolist() == [0, 0, 0]
    assert gradient[0, :, 1, 1].any()


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("autocast", [False, True])
def test_constant_images_have_finite_gradients_on_a_deeper_network(value, autocast):
    images = torch.full((2, 3, 9, 8), value)
    moved = (images + 1e-3 * random_images(2, 3, 9, 8)).clamp(0, 1).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        distance = LPIPS(tapped(seed=5))(images, moved)
    (gradient,) = torch.autograd.grad(distance.sum(), moved)
    assert gradient.isfinite().all()


def test_under_autocast_phi_is_float32_and_nearly_the_same():
    network = tapped()
    images, others = random_images(4, 3, 8, 8), random_images(4, 3, 8, 8, seed=1)
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        assert network.features(images)[0].dtype == torch.bfloat16
        assert {layer.dtype for layer in LPIPS(network).embed(images)} == {torch.float32}
        rounded = LPIPS(network)(images, others)
    assert rounded.allclose(LPIPS(network)(images, others), rtol=0.05)


def test_half_precision_maps_do_not_overflow_or_vanish():
    maps = torch.tensor([60000.0, 40000.0, 1e-6, 2e-6]).reshape(1, 2, 2, 1).transpose(1, 2).half()
    (unit,) = unit_features((maps,))
    assert unit.isfinite().all()
    assert unit.square().sum().item() == pytest.approx(1.0, rel=1e-3)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6), st.integers(2, 9), st.integers(2, 9), st.sampled_from([1, 2, 3]))
def test_d_is_a_metric_and_bounded(seed, height, width, channels):
    """Symmetry, the triangle, and d ≤ √(2L) for L layers that are never negative."""
    distance = LPIPS(tapped(channels, seed=seed % 7, dtype=torch.float64))
    a, b, c = (
        random_images(3, channels, height, width, seed=seed + k, dtype=torch.float64).round(decimals=k)
        for k in range(3)
    )
    assert (distance(a, b) >= 0).all()
    assert distance(a, b).allclose(distance(b, a), rtol=1e-12)
    assert (distance(a, c) <= distance(a, b) + distance(b, c) + 1e-12).all()
    assert (distance(a, b) <= 4**0.5 + 1e-12).all()


def test_the_largest_distance_is_reached_by_opposite_features():
    """Two images that light different channels everywhere are √2 apart in each layer."""
    one, other = torch.zeros(1, 2, 3, 3), torch.zeros(1, 2, 3, 3)
    one[:, 0], other[:, 1] = 0.3, 0.9
    assert feature_distance(unit_features((one, one)), unit_features((other, other))).item() == pytest.approx(2.0)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(1e-3, 1e3), min_size=2, max_size=2))
def test_d_does_not_see_the_scale_of_a_layer(scales):
    images, others = (
        random_images(2, 3, 8, 8, dtype=torch.float64),
        random_images(2, 3, 8, 8, seed=1, dtype=torch.float64),
    )
    network = tapped(dtype=torch.float64)
    scaled = [
        tuple(scale * layer for scale, layer in zip(scales, network.features(batch), strict=True))
        for batch in (images, others)
    ]
    assert feature_distance(*map(unit_features, scaled)).allclose(LPIPS(network)(images, others), rtol=1e-6)


def test_layers_count_alike_whatever_their_size():
    """The same pattern on a finer grid is equally far."""
    one, other = random_images(1, 3, 2, 2), random_images(1, 3, 2, 2, seed=1)
    fine = [maps.repeat_interleave(4, 2).repeat_interleave(3, 3) for maps in (one, other)]
    coarse = feature_distance(unit_features((one,)), unit_features((other,)))
    assert feature_distance(unit_features((fine[0],)), unit_features((fine[1],))).allclose(coarse)


@pytest.mark.parametrize("size", [(8, 8), (7, 9), (2, 3)])
def test_channels_last_and_strided_images_are_as_far_as_contiguous_ones(size):
    distance = LPIPS(tapped())
    images, others = random_images(2, 3, *size), random_images(2, 3, *size, seed=1)
    expected = distance(images, others)
    last = torch.channels_last
    assert distance(images.contiguous(memory_format=last), others.contiguous(memory_format=last)).allclose(
        expected, atol=1e-6
    )
    wide = torch.stack((images, others), -1)
    assert distance(wide[..., 0], wide[..., 1]).allclose(expected, atol=1e-6)


def test_maps_of_one_position_are_fine():
    network = one_layer(nn.Sequential(nn.Conv2d(1, 3, 4), nn.ReLU()))
    images, others = random_images(2, 1, 4, 4), random_images(2, 1, 4, 4, seed=1)
    assert np.allclose(LPIPS(network)(images, others).detach(), numpy_distance(network, images, others), atol=1e-6)


def test_images_too_small_for_the_network_raise():
    with pytest.raises(RuntimeError, match="too small"):
        LPIPS(alexnet(2)).embed(torch.zeros(1, 3, 30, 30))


def test_no_images_are_no_distances():
    distance = LPIPS(tapped())
    assert distance(torch.zeros(0, 3, 4, 4), torch.zeros(0, 3, 4, 4)).shape == (0,)


def test_an_example_is_as_far_alone_as_in_a_batch():
    distance = LPIPS(tapped(dtype=torch.float64))
    images, others = (
        random_images(5, 3, 6, 6, dtype=torch.float64),
        random_images(5, 3, 6, 6, seed=1, dtype=torch.float64),
    )
    alone = torch.cat([distance(images[i : i + 1], others[i : i + 1]) for i in range(5)])
    assert distance(images, others).allclose(alone, rtol=1e-12)


def test_the_gradient_of_d_is_its_derivative():
    distance = LPIPS(tapped(activation=nn.Softplus, dtype=torch.float64))
    images = random_images(2, 3, 3, 2, dtype=torch.float64)
    others = random_images(2, 3, 3, 2, seed=1, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda moved: distance(images, moved), others, check_batched_grad=False)


def test_a_network_in_train_mode_is_refused():
    network = tapped()
    distance = LPIPS(network)
    network.train()
    for act in (distance.embed, distance.tap, SelfLPIPS().bind(network).embed):
        with pytest.raises(RuntimeError, match=r"train mode.*eval\(\)"):
            act(torch.zeros(1, 3, 4, 4))


@pytest.mark.parametrize("network", [LinearClassifier(4), linear(3, (1, 2, 2), [0.5], [0.2]), nn.Conv2d(1, 1, 1)])
@pytest.mark.parametrize("build", [LPIPS, FeatureDistance, SelfLPIPS().bind])
def test_a_network_without_taps_is_refused(network, build):
    with pytest.raises(TypeError, match=f"{type(network).__name__} has none: choose a model with taps"):
        build(network)


def test_the_network_of_lpips_is_frozen_in_eval_mode():
    network = tapped().train()
    LPIPS(network)
    assert not any(part.training for part in network.modules())
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_lpips_gives_gradients_to_images_and_never_to_its_network():
    network = tapped()
    moved = random_images(1, 3, 4, 4).requires_grad_()
    LPIPS(network)(random_images(1, 3, 4, 4, seed=1), moved).sum().backward()
    assert moved.grad.any()
    assert all(parameter.grad is None for parameter in network.parameters())


def test_the_distance_of_a_classifier_leaves_it_trainable():
    network = tapped()
    assert SelfLPIPS().bind(network).network is network
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_self_lpips_without_a_classifier_is_refused():
    with pytest.raises(ValueError, match="lpips_self is the distance of the classifier under attack"):
        SelfLPIPS().bind(None)


def test_lpips_of_a_fixed_network_is_itself_for_every_classifier():
    distance = LPIPS(tapped())
    assert distance.bind(None) is distance
    assert distance.bind(tapped(seed=1)) is distance


def test_a_tapped_network_needs_no_parameters():
    network = one_layer(nn.Identity(), channels=2)
    images, others = random_images(2, 2, 3, 3), random_images(2, 2, 3, 3, seed=1)
    assert np.allclose(LPIPS(network)(images, others), numpy_distance(network, images, others), atol=1e-6)


def test_tap_gives_the_embedding_and_the_logits():
    network = tapped()
    images = random_images(2, 3, 6, 6)
    embedding, logits = LPIPS(network).tap(images)
    assert logits.equal(network(images))
    assert all(one.equal(other) for one, other in zip(embedding, LPIPS(network).embed(images), strict=True))
