"""Aggregates of finished records against sets, closed forms and statsmodels; and what they refuse by name."""

import math
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.proportion import proportion_confint

from gauntlet.attacks import PGD
from gauntlet.corruptions.aggregate import CorruptionError
from gauntlet.evaluation import (
    Abstentions,
    AreaUnderCurve,
    AttackSuite,
    AverageCertifiedRadius,
    Competitiveness,
    MeanAccuracy,
    Measured,
    MedianDistance,
    MedianRadius,
    Optimality,
    Plan,
    PlannedEntry,
    Union,
    UnseenMean,
    holds_at,
)
from gauntlet.kinds import Kind
from gauntlet.threats import L2, Linf
from gauntlet.transforms import Clean
from tests.evaluation import linear

UNITS = {"l2": "L2", "linf": "L∞", "clean": ""}


def attack(correct):
    return pl.DataFrame({"example_id": range(len(correct)), "correct": correct})


def far(distance):
    return pl.DataFrame({"example_id": range(len(distance)), "correct": np.isinf(distance), "distance": distance})


def certified(radius, correct=None, abstained=None):
    count = len(radius)
    return pl.DataFrame(
        {
            "example_id": range(count),
            "correct": correct or [True] * count,
            "radius": [float(one) for one in radius],
            "abstained": abstained or [False] * count,
        }
    )


def made(records, threats=None, bound=0.5, trained_on=(), **planned):
    """Finished records of entries, whose kinds their columns tell."""
    entries = {}
    for name, frame in records.items():
        kind = (
            Kind.CERTIFICATE
            if "radius" in frame.columns
            else Kind.MINIMUM_DISTANCE
            if "distance" in frame.columns
            else Kind.TRANSFORM
            if name == "clean"
            else Kind.ATTACK
        )
        threat = (threats or {}).get(name, "clean" if kind is Kind.TRANSFORM else "l2")
        entries[name] = PlannedEntry(kind, threat, bound, UNITS[threat], name, threat, **planned.get(name, {}))
    card = linear.CARD.__class__(**{**linear.CARD.__dict__, "trained_on": list(trained_on)})
    return Measured(card, Plan("c0ffee", len(next(iter(records.values()))), entries, {}), records)


def only(aggregated):
    (column,) = aggregated.columns.values()
    return column


distances = st.sampled_from([0.0, 0.25, 0.5, 0.500001, 0.7, 1.0, math.inf])
rows = st.lists(st.tuples(st.booleans(), st.booleans(), distances, distances), min_size=1, max_size=40)


@settings(deadline=None)
@given(rows, st.sampled_from([0.0, 0.3, 0.5, 0.9]))
def test_a_union_is_the_examples_correct_under_every_member_at_its_bound(table, bound):
    clean, linf, near, further = (list(column) for column in zip(*table, strict=True))
    records = {"clean": attack(clean), "linf": attack(linf), "near": far(near), "further": far(further)}
    members = ["clean", "linf", "near", "further"]
    column = only(Union(members, {"near": bound, "further": 2 * bound})("union", made(records)))
    still_correct = {
        row
        for row, (right, withstood, one, other) in enumerate(table)
        if right and withstood and one > bound * (1 + 1e-4) and other > 2 * bound * (1 + 1e-4)
    }
    assert column.estimate.value == pytest.approx(len(still_correct) / len(table))
    interval = proportion_confint(len(still_correct), len(table), method="wilson")
    assert (column.estimate.low, column.estimate.high) == pytest.approx(interval, abs=1e-12)
    assert column.members == members
    assert column.conjunction == {"clean": 0.5, "linf": 0.5, "near": bound, "further": 2 * bound}


@settings(deadline=None)
@given(st.lists(distances, min_size=1, max_size=40), st.sampled_from([0.4, 0.5, 2.0]))
def test_the_area_is_that_under_accuracy_against_distance(distance_values, up_to):
    """The curve is integrated by what records tell at ten thousand bounds; but for the tolerance, it is the mean."""
    records = far(distance_values)
    column = only(AreaUnderCurve("far", up_to)("area", made({"far": records})))
    width = up_to / 400
    bounds = (np.arange(400) + 0.5) * width
    curve = [holds_at(records, Kind.MINIMUM_DISTANCE, 0.5, float(bound)).mean() for bound in bounds]
    assert column.estimate.value == pytest.approx(sum(curve) * width, abs=width)
    assert column.estimate.value == pytest.approx(np.minimum(distance_values, up_to).mean())
    assert column.estimate.low <= column.estimate.value + 1e-12
    assert column.estimate.value <= column.estimate.high + 1e-12
    assert column.estimate.unit == "L2"


@pytest.mark.parametrize("up_to", [0.0, -1.0, math.inf, math.nan])
def test_an_area_ends_somewhere(up_to):
    with pytest.raises(ValueError, match="expected a finite bound above 0"):
        AreaUnderCurve("far", up_to)


RADII = certified(
    [0.5, 0.25, 9.0, 0.75, 9.0, 0.0],
    correct=[True, True, False, True, False, True],
    abstained=[False] * 4 + [True, False],
)


def test_the_average_certified_radius_counts_wrong_predictions_and_abstentions_as_0():
    column = only(AverageCertifiedRadius("margin")("ACR", made({"margin": RADII})))
    assert column.estimate.value == pytest.approx((0.5 + 0.25 + 0.75) / 6)
    assert column.estimate.low <= column.estimate.value <= column.estimate.high
    assert (column.estimate.examples, column.estimate.unit) == (6, "L2")
    assert only(MedianRadius("margin")("median", made({"margin": RADII}))).estimate.value == 0.0
    assert only(MedianRadius("margin")("median", made({"margin": RADII}))).estimate.high == 0.75


def test_an_infinite_radius_has_a_median_and_no_mean():
    """A classifier that gives all images one class."""
    records = {"margin": certified([math.inf, math.inf, 1.0])}
    assert only(AverageCertifiedRadius("margin")("ACR", made(records))).estimate is None
    assert only(MedianRadius("margin")("median", made(records))).estimate.value == math.inf


def test_abstentions_are_a_share_with_wilsons_interval():
    column = only(Abstentions("margin")("abstentions", made({"margin": RADII})))
    assert column.estimate.value == pytest.approx(1 / 6)
    expected = proportion_confint(1, 6, method="wilson")
    assert (column.estimate.low, column.estimate.high) == pytest.approx(expected, abs=1e-12)


def test_a_median_distance_is_over_all_examples():
    column = only(MedianDistance("far")("median", made({"far": far([0.0, 0.0, 0.3, math.inf, math.inf])})))
    assert column.estimate[:3] == (0.3, 0.0, math.inf)
    assert column.estimate.unit == "L2"


def test_of_several_attacks_each_example_s_nearest_image_counts():
    records = {"near": far([0.0, 0.4, 0.9, math.inf]), "far": far([0.0, 0.6, 0.2, 1.0])}
    column = only(MedianDistance(["near", "far"])("median", made(records)))
    assert column.estimate.value == 0.2
    assert column.members == ["near", "far"]
    assert only(AreaUnderCurve(["near", "far"], 0.5)("area", made(records))).estimate.value == (0.4 + 0.2 + 0.5) / 4


def test_optimality_rates_members_against_all_attacks():
    records = {"one": far([0.0, 1.0, 3.0]), "two": far([0.0, 2.0, 2.0]), "three": far([0.0, 1.0, 2.5])}
    result = Optimality(["one", "two"], ["three"])("optimality", made(records))
    assert {name: column.estimate.value for name, column in result.columns.items()} == pytest.approx(
        {"optimality one": 1.0, "optimality two": 0.0}  # ε₀ = 2: the minimum's area is 1 + 0, of one 1 + 0, of two 0
    )
    assert result.columns["optimality one"].members == ["one"]
    assert result.mean_over_runs == "global optimality"
    assert "against each example's nearest image by one, two, three" in result.note


def test_the_unseen_mean_is_of_threat_models_each_once_and_of_attacks_at_a_bound_where_there_are_some():
    records = {
        "linf": attack([True, False, False, False]),
        "far": far([math.inf, 0.6, 0.4, 0.0]),
        "l2": attack([True, True, True, False]),
        "further": far([math.inf] * 4),
    }
    threats = {"linf": "linf", "far": "l2", "l2": "l2", "further": "linf"}
    column = only(UnseenMean()("unseen mean", made(records, threats)))
    assert sorted(column.members) == ["l2", "linf"]
    assert column.estimate.value == pytest.approx((1 / 4 + 3 / 4) / 2)
    del records["l2"]
    column = only(UnseenMean()("unseen mean", made(records, threats)))
    assert sorted(column.members) == ["far", "linf"]
    assert column.estimate.value == pytest.approx((1 / 4 + 2 / 4) / 2)  # at its own bound, 0.5
    column = only(UnseenMean()("unseen mean", made(records, threats, trained_on=["linf"])))
    assert column.members == ["far"]


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), min_size=1, max_size=40))
def test_a_mean_accuracy_is_the_plain_mean_of_its_members(table):
    fog, snow, beside = (list(column) for column in zip(*table, strict=True))
    records = {"fog": attack(fog), "snow": attack(snow), "beside": attack(beside)}
    column = only(MeanAccuracy(["fog", "snow"])("UA2", made(records)))
    assert column.estimate.value == pytest.approx((np.mean(fog) + np.mean(snow)) / 2)
    assert column.estimate.low - 1e-12 <= column.estimate.value <= column.estimate.high + 1e-12
    assert column.members == ["fog", "snow"]
    assert not column.conjunction


def test_a_mean_accuracy_of_survivors_is_not_known():
    records = {"fog": attack([True, False]), "snow": attack([True])}
    measured = made(records, snow={"survivors_of": ["fog"]})
    assert only(MeanAccuracy(["fog", "snow"])("UA2", measured)).estimate is None
    assert only(MeanAccuracy(["fog"])("UA2", measured)).estimate.value == 0.5


def test_the_unseen_mean_of_survivors_is_not_known():
    records = {"linf": attack([True, False]), "l2": attack([True])}
    threats = {"linf": "linf", "l2": "l2"}
    column = only(UnseenMean()("unseen mean", made(records, threats, l2={"survivors_of": ["linf"]})))
    assert column.estimate is None
    assert column.members == ["linf", "l2"]
    known = only(UnseenMean()("unseen mean", made(records, threats, ["l2"], l2={"survivors_of": ["linf"]})))
    assert known.estimate is None
    trained = made(records, threats, trained_on=["l2"], l2={"survivors_of": ["linf"]})
    assert only(UnseenMean()("unseen mean", trained)).estimate.value == 0.5  # of an attack that ran on all


def test_the_union_of_survivors_is_that_of_all():
    records = {
        "linf": attack([True, False, True]),
        "l2": pl.DataFrame({"example_id": [0, 2], "correct": [False, True]}),
    }
    column = only(Union(["linf", "l2"])("union", made(records, l2={"survivors_of": ["linf"]})))
    assert column.estimate.value == pytest.approx(1 / 3)


ATTACKS = {
    "clean": Clean(),
    "linf": PGD(threat_model=Linf(0.1), steps=1),
    "far": linear.FAR,
    "in_linf": replace(linear.FAR, threat_model=Linf(0.1)),
}
CERTIFICATES = {"margin": linear.MARGIN}


@pytest.mark.parametrize(
    ("aggregates", "message"),
    [
        (
            {"u": Union(["clean", "margin"])},
            "u names margin, which is a certificate: expected an attack, a minimum",
        ),
        (
            {"u": Union(["linf", "far"])},
            r"u names far, .* and has no bound: .*bounds: \{far: ",
        ),
        ({"u": Union(["linf"], {"linf": 0.1})}, "u: linf is no minimum-distance attack: leave it out of bounds"),
        ({"u": Union(["clean"], {"clean": 0.1})}, "u: clean is no minimum-distance attack: leave it out of bounds"),
        (
            {"u": Union(["linf"], {"far": 0.1})},
            r"u has bounds of \['far'\], which are not among its members \['linf'\]",
        ),
        ({"u": Union(["far"], {"far": -1.0})}, "u: bound -1.0 of far: expected a finite number, at least 0"),
        ({"u": Union(["far"], {"far": math.nan})}, "u: bound nan of far: expected a finite number"),
        (
            {"u": Union(["linf", "fog"])},
            r"u names \['fog'\], the suite has \['clean', 'far', 'in_linf', 'linf', 'margin'\]",
        ),
        (
            {"u": Union([])},
            r"u has no members: name some of \['clean', 'far', 'in_linf', 'linf', 'margin'\], or leave u out",
        ),
        ({"m": MedianDistance("linf")}, "m names linf, which is an attack: expected a minimum-distance"),
        ({"m": MedianDistance("margin")}, "m names margin, which is a certificate: expected a minimum-distance"),
        (
            {"a": AreaUnderCurve("clean", 1.0)},
            "a names clean, which is a transform: expected a minimum-distance",
        ),
        (
            {"r": AverageCertifiedRadius("far")},
            "r names far, which is a minimum-distance attack: expected a cert",
        ),
        ({"r": MedianRadius("linf")}, "r names linf, which is an attack: expected a certificate"),
        ({"b": Abstentions("far")}, "b names far, which is a minimum-distance attack: expected a cert"),
        ({"b": Abstentions("gone")}, r"b names \['gone'\], the suite has"),
        ({"u": Union("linf")}, "u names 'linf': expected names of entries among"),
        ({"u": Union(["far"], {"far": "0.5"})}, "u: bound '0.5' of far: expected a finite number, at least 0"),
        ({"m": MedianDistance([["far"]])}, r"m names \[\['far'\]\]: expected names of entries among"),
        ({"m": MedianDistance([])}, "m names no attack: name a minimum-distance attack of the suite"),
        ({"m": MedianDistance(["far", "in_linf"])}, "m names far on l2, in_linf on linf: distances of different"),
        ({"c": Competitiveness({"clean": [0.0]})}, "c names clean, which is a transform: expected an attack or a min"),
        ({"c": Competitiveness({"far": []})}, "c has no bounds: give some by attack, or leave c out"),
        ({"c": Competitiveness({"far": [0.1, -1]})}, "c: bound -1 of far: expected a finite number, at least 0"),
        ({"c": Competitiveness({"linf": [0.1, 0.2]})}, r"c asks linf at \[0.1, 0.2\], which is an attack at 0.1: name"),
        ({"o": Optimality(["far"], ["in_linf"])}, "o names far on l2, in_linf on linf: distances of different"),
        ({"o": Optimality(["far", "linf"])}, "o names linf, which is an attack: expected a minimum-distance"),
        ({"o": Optimality("far")}, "o names 'far': expected names of entries among"),
        ({"o": Optimality([], ["far"])}, "o has no members: name minimum-distance attacks, or leave o out"),
        ({"m": ["far"]}, "m is of type list: expected an aggregate, such as Union"),
        ({"m": linear.FAR}, "m is a minimum-distance attack: expected an aggregate, such as Union"),
        ({"c": CorruptionError({"fog": ["linf"]}, {})}, "c names linf, which is an attack: expected a transform"),
        (
            {"c": CorruptionError({"fog": ["clean"]}, {}, clean="far")},
            "c names far, which is a minimum-distance attack",
        ),
        (
            {"m": MeanAccuracy([])},
            r"m is a mean over \[\]: name some of .*, each once",
        ),
        ({"m": MeanAccuracy(["linf", "linf"])}, r"m is a mean over \['linf', 'linf'\]: .* each once"),
        (
            {"m": MeanAccuracy(["clean", "far"])},
            "m names far, which is a minimum-distance attack: expected an attack or",
        ),
        ({"m": MeanAccuracy("linf")}, "m names 'linf': expected names of entries among"),
        ({"linf": UnseenMean()}, r"\['linf'\] name aggregates and entries of the suite: give each a name of its own"),
    ],
)
def test_an_entry_that_an_aggregate_cannot_take_is_refused_by_name(aggregates, message):
    with pytest.raises(ValueError, match=message) as refused:
        AttackSuite(ATTACKS, CERTIFICATES, aggregates)
    assert "\n" not in str(refused.value)


def test_entries_have_the_key_of_their_kind_and_unique_names():
    with pytest.raises(ValueError, match=r"\['linf'\] name attacks and certificates"):
        AttackSuite(ATTACKS, {"linf": linear.MARGIN})
    with pytest.raises(ValueError, match="margin is a certificate: expected an attack, a minimum-distance attack or a"):
        AttackSuite({"margin": linear.MARGIN})
    with pytest.raises(ValueError, match="far is a minimum-distance attack: expected a certificate under that key"):
        AttackSuite({}, {"far": linear.FAR})
    with pytest.raises(ValueError, match="ball is of type L2: expected an attack, a minimum-distance attack or a"):
        AttackSuite({"ball": L2(0.1)})
    with pytest.raises(ValueError, match="gone is null: expected an attack, a minimum-distance attack or a"):
        AttackSuite({"gone": None})


def test_corruption_errors_take_transforms_alone():
    from gauntlet.corruptions import CorruptionError

    fog = CorruptionError({"fog": ["linf"] * 5}, {"fog": "generated"})
    with pytest.raises(ValueError, match="errors names linf, which is an attack: expected a transform"):
        AttackSuite(ATTACKS, {}, {"errors": fog})
