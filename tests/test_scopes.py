"""Scopes undo themselves, also when what they hold raises."""

import contextlib
import os

import pytest
import torch
from torch import nn

from gauntlet.scopes import evaluating, exact, frozen


def mixed_modes():
    """Some parts train, some do not, in no pattern."""
    network = nn.Sequential(nn.Dropout(), nn.Sequential(nn.BatchNorm2d(2), nn.Dropout()), nn.Linear(2, 2))
    network.train()
    network[0].eval()
    network[1][0].eval()
    return network


def modes(network):
    return [part.training for part in network.modules()]


@pytest.mark.parametrize("failure", [None, ValueError])
def test_evaluating_gives_every_part_the_mode_it_had(failure):
    network = mixed_modes()
    before = modes(network)
    with contextlib.suppress(ValueError), evaluating(network):
        assert not any(modes(network))
        if failure:
            raise failure
    assert modes(network) == before


@pytest.mark.parametrize("failure", [None, ValueError])
def test_frozen_gives_every_parameter_its_flag_and_gradient_back(failure):
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    network[0].weight.requires_grad_(False)
    network[1].bias.grad = torch.ones(2)
    before = [parameter.requires_grad for parameter in network.parameters()]
    with contextlib.suppress(ValueError), frozen(network):
        assert not any(parameter.requires_grad for parameter in network.parameters())
        images = torch.ones(1, 2, requires_grad=True)
        network(images).sum().backward()
        assert images.grad is not None
        if failure:
            raise failure
    assert [parameter.requires_grad for parameter in network.parameters()] == before
    assert network[1].bias.grad.equal(torch.ones(2))
    assert all(network[0].get_parameter(name).grad is None for name in ("weight", "bias"))


def test_frozen_scopes_nest():
    network = nn.Linear(2, 2)
    with frozen(network):
        with frozen(network):
            pass
        assert not network.weight.requires_grad
    assert network.weight.requires_grad


@pytest.mark.parametrize("failure", [None, ValueError])
def test_exact_switches_autocast_off_and_on_again(failure):
    left, right = torch.rand(3, 3), torch.rand(3, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        with contextlib.suppress(ValueError), exact():
            assert (left @ right).dtype == torch.float32
            if failure:
                raise failure
        assert (left @ right).dtype == torch.bfloat16


@pytest.mark.parametrize("before", ["none", "ieee", "tf32"])
@pytest.mark.parametrize("deterministic", [True, False])
def test_exact_restores_the_precision_it_found_and_is_full_inside(before, deterministic):
    backends, cudnn = torch.backends, torch.backends.cudnn
    switches = (backends.cuda.matmul, cudnn.conv, backends.mkldnn.matmul, backends.mkldnn.conv)
    result = [switch.fp32_precision for switch in switches], cudnn.deterministic
    try:
        for switch in switches:
            switch.fp32_precision = before
        expected = [switch.fp32_precision for switch in switches]
        cudnn.deterministic = deterministic
        with contextlib.suppress(ValueError), exact():
            assert {switch.fp32_precision for switch in switches} == {"ieee"}
            assert cudnn.deterministic
            raise ValueError
        assert [switch.fp32_precision for switch in switches] == expected
        assert cudnn.deterministic == deterministic
    finally:
        for switch, precision in zip(switches, result[0], strict=True):
            switch.fp32_precision = precision
        cudnn.deterministic = result[1]


@pytest.mark.parametrize(("before", "inside"), [("default", 1), ("warn", 1), ("error", 2)])
@pytest.mark.parametrize("fills", [True, False])
def test_exact_asks_for_deterministic_kernels_and_restores_what_it_found(before, inside, fills):
    """A user who has torch refuse operations without one is not overruled; memory is filled only for such a user."""
    result = torch.get_deterministic_debug_mode(), torch.utils.deterministic.fill_uninitialized_memory
    try:
        torch.set_deterministic_debug_mode(before)
        torch.utils.deterministic.fill_uninitialized_memory = fills
        expected = torch.get_deterministic_debug_mode()
        with contextlib.suppress(ValueError), exact():
            assert torch.get_deterministic_debug_mode() == inside
            assert torch.are_deterministic_algorithms_enabled()
            assert torch.utils.deterministic.fill_uninitialized_memory == (fills and before != "default")
            raise ValueError
        assert torch.get_deterministic_debug_mode() == expected
        assert torch.utils.deterministic.fill_uninitialized_memory == fills
    finally:
        torch.set_deterministic_debug_mode(result[0])
        torch.utils.deterministic.fill_uninitialized_memory = result[1]


def test_cublas_has_a_workspace_of_fixed_size():
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] in (":4096:8", ":16:8")


@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
def test_exact_goes_with_the_older_switch(precision):
    result = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision(precision)
        with exact():
            pass
        assert torch.get_float32_matmul_precision() == precision
    finally:
        torch.set_float32_matmul_precision(result)
