"""Which attacks search the same threat model, and what their records show."""

import polars as pl
import pytest
import torch

from gauntlet.attacks import PGD, LagrangianPerceptualAttack
from gauntlet.distances import LPIPS
from gauntlet.evaluation import AttackSuite, flags_of_records
from gauntlet.evaluation.grouping import group_by_threat_model, next_smaller
from gauntlet.threats import RGB, AnyOf, Composition, Linf, NeuralPerceptual, ReColorAdv, StAdv
from gauntlet.transforms import Clean
from tests.fixtures import tapped


def suite(*threats):
    attacks = {str(i): PGD(threat_model=threat, steps=1) for i, threat in enumerate(threats)}
    return AttackSuite(attacks)


def sorted_out(*threats):
    """The groups as lists of (bounds, names), without their keys."""
    return [
        sorted(family.items())
        for family in group_by_threat_model(suite(*threats), map(str, range(len(threats)))).values()
    ]


def test_one_threat_model_at_two_bounds_is_one_family():
    assert sorted_out(Linf(0.2), Linf(0.1)) == [[((0.1,), ["1"]), ((0.2,), ["0"])]]


def test_what_guides_a_search_and_leaves_the_images_as_they_are_tells_no_two_apart():
    groups = sorted_out(StAdv(0.05), StAdv(0.05, smoothness=0.0, spread=1.0), StAdv(0.1, smoothness=0.3))
    assert groups == [[((0.05,), ["0", "1"]), ((0.1,), ["2"])]]


def test_what_changes_the_images_does():
    assert len(sorted_out(ReColorAdv(0.06), ReColorAdv(0.06, space=RGB()), Linf(0.06))) == 3


def test_compositions_and_unions_have_a_bound_for_each_part():
    def both(kind, flow, change):
        return kind([StAdv(flow, smoothness=flow), Linf(change)])

    groups = sorted_out(both(Composition, 0.1, 0.2), both(Composition, 0.05, 0.1), both(AnyOf, 0.1, 0.2))
    assert groups == [[((0.05, 0.1), ["1"]), ((0.1, 0.2), ["0"])], [((0.1, 0.2), ["2"])]]


def test_distances_of_other_weights_are_other_threat_models():
    balls = [NeuralPerceptual(LPIPS(tapped(seed=seed)), bound) for seed, bound in ((0, 0.5), (0, 1.0), (1, 0.5))]
    attacks = {str(i): LagrangianPerceptualAttack(threat_model=ball) for i, ball in enumerate(balls)}
    groups = group_by_threat_model(AttackSuite(attacks), attacks).values()
    assert [sorted(name for names in family.values() for name in names) for family in groups] == [["0", "1"], ["2"]]


def test_an_attack_without_a_bound_is_in_no_family():
    attacks = {"clean": Clean(), "nothing": PGD(threat_model=Linf(0.0), steps=1)}
    assert group_by_threat_model(AttackSuite(attacks), attacks) == {}


@pytest.mark.parametrize(
    ("bounds", "others", "expected"),
    [
        ((3.0,), [(1.0,), (2.0,), (3.0,), (4.0,)], [(2.0,)]),
        ((1.0,), [(1.0,), (2.0,)], []),
        ((2.0, 2.0), [(1.0, 2.0), (2.0, 1.0), (1.0, 1.0), (3.0, 0.5)], [(1.0, 2.0), (2.0, 1.0)]),
    ],
)
def test_the_next_smaller_are_inside_with_nothing_in_between(bounds, others, expected):
    assert next_smaller(bounds, others) == expected


def frame(correct):
    ids = range(len(correct))
    return pl.DataFrame({"example_id": ids, "correct": correct, "inside": [True] * len(correct)})


def test_accuracy_that_rises_with_the_bounds_of_a_composition_is_seen():
    """Two parts: wide lies around narrow, crossed does not, and may be withstood better."""
    parts = {"narrow": (0.05, 0.1), "wide": (0.1, 0.2), "crossed": (0.01, 0.3)}
    threats = {name: Composition([StAdv(flow), Linf(change)]) for name, (flow, change) in parts.items()}
    attacks = {name: PGD(threat_model=threat, steps=1) for name, threat in threats.items()}
    right = {
        "narrow": frame([True, False, False]),
        "wide": frame([True, True, False]),
        "crossed": frame([True, True, True]),
    }
    flags = flags_of_records(AttackSuite(attacks), right)
    assert [(flag.name, flag.attack) for flag in flags if flag.raised] == [("bound", "wide")]
    assert [flag.value for flag in flags if flag.raised] == [pytest.approx(1 / 3)]


def test_noise_that_beats_gradients_is_seen_whatever_guides_them():
    """The search pays for rough flows and the noise does not: they show the same images."""
    attacks = {
        "paid": PGD(threat_model=StAdv(0.05), steps=9),
        "noise": PGD(threat_model=StAdv(0.05, smoothness=0.0, spread=1.0), steps=0),
    }
    right = {"paid": frame([True, True]), "noise": frame([True, False])}
    flags = flags_of_records(AttackSuite(attacks), right)
    assert [(flag.name, flag.attack) for flag in flags if flag.raised] == [("black box", "paid")]


def test_shares_are_of_any_kind_of_column():
    from gauntlet.evaluation.flags import share

    assert share(pl.Series([True, False, True, True])) == share(torch.tensor([True, False, True, True])) == 0.75
    assert share(torch.zeros(0)) == 0.0
