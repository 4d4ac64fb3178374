"""Unions: every example has one member's params, and is treated as that member treats it."""

import pytest
import torch

from gauntlet.attacks import PGD
from gauntlet.distances import SelfLPIPS
from gauntlet.identity import describe
from gauntlet.noise import Noise
from gauntlet.threats import (
    L1,
    L2,
    AdversarialJPEG,
    AnyOf,
    ChangedPixels,
    Composition,
    Linf,
    NeuralPerceptual,
)
from tests.fixtures import LinearClassifier, batch_of, predictions, random_images, tapped

DOUBLE = torch.float64
MEMBERS = [
    Linf(0.05),
    AdversarialJPEG(0.5),
    Linf(0.0),
    Composition([L2(0.3), L1(0.5)]),
    NeuralPerceptual(SelfLPIPS(), 0.2),
    ChangedPixels(0.1),
]


def wild(region, seed=0):
    shape = region.zero().shape
    random = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)
    return (0.3 * random).to(region.zero())


def union_and_members(images, network):
    return AnyOf(MEMBERS).around(batch_of(images), network), [
        member.around(batch_of(images), network) for member in MEMBERS
    ]


@pytest.mark.parametrize("index", range(len(MEMBERS)))
@pytest.mark.parametrize("batch", [0, 1, 4])
def test_packed_params_are_the_members_own_bit_for_bit(index, batch):
    network, images = tapped(), random_images(batch, 3, 6, 5)
    union, members = union_and_members(images, network)
    alone = members[index]
    params, gradient = wild(alone), wild(alone, 1)
    packed = union.pack(index, params)
    assert packed.shape == union.zero().shape
    assert packed.dtype == images.dtype
    assert union.perturb(packed).equal(alone.perturb(params))
    assert union.project(packed).equal(union.pack(index, alone.project(params)))
    assert union.size(packed).equal(alone.size(params))
    assert union.penalty(packed).equal(alone.penalty(params))
    assert union.ascend(packed, union.pack(index, gradient), 0.2).equal(
        union.pack(index, alone.ascend(params, gradient, 0.2))
    )


def test_every_example_has_a_member_of_its_own():
    """All six in one batch, each example as in its member's own region."""
    network, images = tapped(dtype=DOUBLE), random_images(6, 3, 6, 5, dtype=DOUBLE)
    union, members = union_and_members(images, network)
    params = torch.stack([union.pack(i, member.project(wild(member)))[i] for i, member in enumerate(members)])
    shown, sizes = union.perturb(params), union.size(params)
    for i, member in enumerate(members):
        own = member.project(wild(member))
        assert shown[i].allclose(member.perturb(own)[i], rtol=0, atol=1e-12)
        assert sizes[i].allclose(member.size(own)[i])
    assert union.chosen(params).tolist() == [0, 1, 2, 3, 4, 5]
    assert union.chosen(union.ascend(params, torch.ones_like(params), 0.3)).tolist() == [0, 1, 2, 3, 4, 5]
    assert union.inside(params, union.forward(network, params)).all()
    keep = torch.tensor([4, 1])
    assert union.rows(keep).perturb(params[keep]).allclose(shown[keep], rtol=0, atol=1e-12)


def test_gradients_reach_the_params_of_the_member_and_no_others():
    network, images = tapped(channels=1, dtype=DOUBLE), random_images(3, 1, 4, 3, dtype=DOUBLE) * 0.5 + 0.25
    union = AnyOf([Linf(0.1), AdversarialJPEG(0.5)]).around(batch_of(images), network)
    params = torch.cat(
        (union.pack(0, 0.1 * images)[:1], union.pack(1, wild(union.members[1]) * 0.1)[1:])
    ).requires_grad_()
    weight = torch.randn(3, 1, 4, 3, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    (gradient,) = torch.autograd.grad((union.perturb(params) * weight).sum(), params)
    assert gradient[0, 1:13].equal(weight[0].flatten())
    assert not gradient[0, 13:].any()
    assert not gradient[:, 0].any()
    assert gradient[1:, 1:].abs().amin(1).min() > 0
    assert torch.autograd.gradcheck(lambda own: union.perturb(torch.cat((params[:, :1], own), 1)), params[:, 1:])


def test_starts_draw_the_member_from_the_seed():
    region = AnyOf([Linf(0.1), L2(0.5), L1(1.0)]).around(batch_of(torch.full((3000, 1, 4, 4), 0.5)))
    start = region.start(Noise(torch.arange(3000)))
    counts = region.chosen(start).bincount(minlength=3)
    assert (counts - 1000).abs().max() < 120
    assert start.equal(region.start(Noise(torch.arange(3000))))
    assert (region.size(start) <= 1 + 1e-5).all()


def test_wild_numbers_are_brought_to_a_member_that_exists():
    region = AnyOf([Linf(0.1), L2(0.5)]).around(batch_of(random_images(5, 1, 4, 4)))
    params = region.zero()
    params[:, 0] = torch.tensor([-7.0, 0.4, 0.6, 99.0, float("nan")])
    assert region.project(params)[:, 0].tolist() == [0, 0, 1, 1, 0]


@pytest.mark.parametrize("seed", range(3))
def test_an_attack_reaches_the_worst_case_of_the_member_it_drew(seed):
    classifier = LinearClassifier(48, bias=1e3, dtype=DOUBLE)
    images, labels = torch.full((6, 3, 4, 4), 0.5, dtype=DOUBLE), torch.zeros(6, dtype=torch.long)
    threat = AnyOf([Linf(0.1), L2(0.3)])
    result = PGD(threat_model=threat, steps=50)(classifier, images, labels, seeds=torch.arange(6) + 6 * seed)
    rise = classifier.margin(result.images, labels) - classifier.margin(images, labels)
    norms = torch.stack((0.2 * classifier.weight.norm(p=1), 0.6 * classifier.weight.norm())).detach()
    chosen = threat.around(batch_of(images)).chosen(result.params)
    assert chosen.unique().numel() == 2
    assert rise.allclose(norms[chosen], rtol=0.01)


def test_a_union_of_one_is_the_one():
    classifier, images = tapped(), random_images(6, 3, 6, 5)
    labels, seeds = predictions(classifier, images), torch.arange(6)
    result = [
        PGD(threat_model=threat, steps=5)(classifier, images, labels, seeds=seeds)
        for threat in (L2(0.2), AnyOf([L2(0.2)]))
    ]
    assert result[0].images.equal(result[1].images)


def test_names_bounds_and_identities():
    assert AnyOf([Linf(0.1), L2(0.0)]).name == "linf|l2"
    assert AnyOf([Linf(0.1), L2(0.0)]).bound == 1.0
    assert AnyOf([Linf(0.0)]).bound == 0.0
    assert AnyOf({"b": Linf(0.1), "a": L2(1.0)}) == AnyOf([Linf(0.1), L2(1.0)])
    assert describe(AnyOf([Linf(0.1), L2(1.0)])) != describe(AnyOf([L2(1.0), Linf(0.1)]))


def test_bad_members_and_bad_params_are_refused():
    with pytest.raises(ValueError, match="a union of no threat models: name at least one"):
        AnyOf([])
    with pytest.raises(TypeError, match="a part that is a str: expected threat models"):
        AnyOf(["linf"])
    region = AnyOf([Linf(0.1), L2(0.5)]).around(batch_of(random_images(2, 1, 4, 4)))
    with pytest.raises(ValueError, match="member 2 of a union of 2: expected 0 to 1"):
        region.pack(2, torch.zeros(2, 1, 4, 4))
    with pytest.raises(ValueError, match=r"params \[2, 16\] of member 0: expected \[2, 1, 4, 4\]"):
        region.pack(0, torch.zeros(2, 16))
