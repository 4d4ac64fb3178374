"""Two attacks are the same attack when their classes, numbers and architectures are; weights are asked separately."""

import json
from dataclasses import dataclass, replace

import pytest
import torch
from torch import nn

from gauntlet.attacks import PGD, Best, FastLagrangianPerceptualAttack, Last, OntoRegion
from gauntlet.descriptions import digest
from gauntlet.distances import LPIPS, SelfLPIPS
from gauntlet.goals import RandomTarget, Untargeted
from gauntlet.identity import describe, stream_of, weights_digest, weights_of
from gauntlet.losses import CrossEntropy, Margin
from gauntlet.threats import L2, Linf, NeuralPerceptual
from gauntlet.transforms import Clean
from tests.fixtures import tapped


def lpa(network=None, **changes):
    distance = SelfLPIPS() if network is None else LPIPS(network)
    return FastLagrangianPerceptualAttack(threat_model=NeuralPerceptual(distance, 0.5), **changes)


def name(thing):
    return digest(describe(thing))


@pytest.mark.parametrize(
    "build",
    [
        lambda: PGD(threat_model=Linf(8 / 255)),
        lambda: PGD(threat_model=Linf(8 / 255), goal=RandomTarget(), iterate=Last()),
        lambda: lpa(tapped()),
        lambda: [Clean(), {"one": lpa()}],
    ],
)
def test_things_built_alike_have_one_digest(build):
    assert name(build()) == name(build())


def test_a_description_is_plain_json():
    description = describe([PGD(threat_model=L2(1.0)), lpa(tapped())])
    assert json.loads(json.dumps(description)) == description


def test_a_description_has_the_declared_identity_and_the_numbers():
    assert describe(Linf(0.25)) == {"class": "linf/1", "bound": 0.25}


def test_every_number_and_class_of_an_attack_counts():
    attacks = [
        PGD(threat_model=Linf(0.1)),
        PGD(threat_model=Linf(0.2)),
        PGD(threat_model=L2(0.1)),
        PGD(threat_model=Linf(0.1), steps=41),
        PGD(threat_model=Linf(0.1), step_size=0.2),
        PGD(threat_model=Linf(0.1), iterate=Last()),
        PGD(threat_model=Linf(0.1), goal=Untargeted(CrossEntropy())),
        PGD(threat_model=Linf(0.1), goal=Untargeted(Margin(1.0))),
        PGD(threat_model=Linf(0.1), goal=RandomTarget()),
        PGD(threat_model=NeuralPerceptual(SelfLPIPS(), 0.1)),
        Clean(),
        lpa(),
        lpa(steps=10),
        lpa(multiplier=1.0),
        lpa(probe=0.2),
        lpa(projection=OntoRegion()),
        lpa(iterate=Last()),
        lpa(tapped()),
        lpa(tapped(classes=5)),
        lpa(tapped(activation=nn.Tanh)),
    ]
    assert len({name(attack) for attack in attacks}) == len(attacks)


def test_what_is_written_out_equals_the_default():
    assert name(PGD(threat_model=Linf(0.1))) == name(PGD(threat_model=Linf(0.1), iterate=Best(), goal=Untargeted()))


def test_a_field_at_its_default_is_left_out_and_true_is_not_1():
    assert describe(PGD(threat_model=Linf(0.1), steps=40)) == describe(PGD(threat_model=Linf(0.1)))
    assert describe(PGD(threat_model=Linf(0.1), restarts=2))["restarts"] == 2
    assert describe(PGD(threat_model=Linf(0.1), restarts=True))["restarts"] is True


def test_the_stream_of_an_attack_follows_its_identity():
    attack = PGD(threat_model=Linf(0.1))
    assert stream_of(attack) == int(name(attack)[:15], 16) == stream_of(PGD(threat_model=Linf(0.1), steps=40))
    assert stream_of(attack) != stream_of(replace(attack, steps=41))


def test_a_bound_of_1_is_a_bound_of_1_point_0():
    """The two are equal attacks; a YAML may say either."""
    assert Linf(1) == Linf(1.0)
    assert name(Linf(1)) == name(Linf(1.0))


def test_two_networks_of_one_architecture_differ_in_their_weights_only():
    one, other = lpa(tapped(seed=0)), lpa(tapped(seed=1))
    assert name(one) == name(other)
    assert weights_of(one) != weights_of(other)
    assert weights_of(one) == weights_of(lpa(tapped(seed=0)))


def test_weights_do_not_depend_on_the_numbers_of_the_attack():
    attack = lpa(tapped())
    assert weights_of(replace(attack, steps=3)) == weights_of(attack)


def test_weights_are_listed_in_order_and_nothing_else_has_any():
    first, second = tapped(seed=0), tapped(seed=1)
    expected = [weights_digest(first), weights_digest(second)]
    assert weights_of([first, {"a": second}, 3, "text", None, Linf(0.1)]) == expected
    assert weights_of(PGD(threat_model=Linf(0.1))) == []


def test_one_changed_weight_or_buffer_changes_the_digest_and_the_mode_does_not():
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    before = weights_digest(network)
    assert weights_digest(network.eval()) == before
    assert weights_digest(network.to(memory_format=torch.channels_last)) == before
    network[1].running_mean[0] += 1e-6
    assert weights_digest(network) != before


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_weights_of_every_precision_have_a_digest(dtype):
    assert weights_digest(nn.Linear(2, 2).to(dtype)) != weights_digest(nn.Linear(2, 2).to(dtype))


@dataclass(frozen=True)
class Holder:
    """Anything in a dataclass."""

    value: object


@pytest.mark.parametrize("value", [object(), len, {1, 2}, torch.zeros(2), Linf, 1j])
def test_what_has_no_identity_raises(value):
    with pytest.raises(TypeError, match="has no identity"):
        describe(Holder(value))
