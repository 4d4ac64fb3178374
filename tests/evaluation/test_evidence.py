"""Accuracy at a bound from records: every kind, right at the bound and one unit in the last place to either side."""

import math

import numpy as np
import polars as pl
import pytest

from gauntlet.evaluation import holds_at
from gauntlet.kinds import Kind
from gauntlet.tolerance import TOLERANCE

BOUNDS = [0.0, 8 / 255, 0.3, 1.0, 36.0]
POSITIVE = BOUNDS[1:]


def up(number, kind=np.float64):
    return float(np.nextafter(kind(number), kind(np.inf)))


def down(number, kind=np.float64):
    return float(np.nextafter(kind(number), kind(-np.inf)))


def by_distance(distance, bound):
    records = pl.DataFrame({"correct": [distance == math.inf], "distance": [distance]})
    return holds_at(records, Kind.MINIMUM_DISTANCE, 0.123, bound).item()


def by_radius(radius, bound, correct=True, abstained=False):
    records = pl.DataFrame({"correct": [correct], "abstained": [abstained], "radius": [radius]})
    return holds_at(records, Kind.CERTIFICATE, 0.123, bound).item()


@pytest.mark.parametrize("bound", POSITIVE)
def test_a_distance_right_at_a_bound_or_a_rounding_beyond_it_breaks_the_example(bound):
    single = float(np.float32(bound))
    for near in (bound, down(bound), up(bound), single, down(bound, np.float32), up(bound, np.float32)):
        assert by_distance(near, bound) is False
        assert by_distance(near, single) is False
    edge = bound * (1 + TOLERANCE)
    assert by_distance(edge, bound) is False
    assert by_distance(down(edge), bound) is False
    assert by_distance(up(edge), bound) is True
    assert by_distance(bound * (1 + 2 * TOLERANCE), bound) is True


@pytest.mark.parametrize("bound", POSITIVE)
def test_a_radius_holds_right_at_a_bound_and_not_one_unit_in_the_last_place_below(bound):
    single = float(np.float32(bound))
    assert by_radius(bound, bound) is True
    assert by_radius(up(bound), bound) is True
    assert by_radius(down(bound), bound) is False
    assert by_radius(single, single) is True
    assert by_radius(up(bound, np.float32), single) is True
    assert by_radius(down(bound, np.float32), single) is False


@pytest.mark.parametrize("bound", BOUNDS)
def test_no_distance_breaks_everywhere_and_an_infinite_one_nowhere(bound):
    assert by_distance(0.0, bound) is False
    assert by_distance(math.inf, bound) is True
    assert by_radius(math.inf, bound) is True


def test_at_bound_0_only_what_is_wrong_when_clean_is_broken():
    assert by_distance(5e-324, 0.0) is True
    assert by_radius(0.0, 0.0) is True
    assert by_radius(0.0, 5e-324) is False


def test_an_abstention_and_a_wrong_prediction_are_never_certified():
    assert by_radius(9.0, 0.0, abstained=True) is False
    assert by_radius(9.0, 0.0, correct=False) is False


def test_an_attack_tells_of_its_own_bound_and_of_no_other():
    records = pl.DataFrame({"correct": [True, False]})
    assert holds_at(records, Kind.ATTACK, 0.1, 0.1).to_list() == [True, False]
    assert holds_at(records, Kind.ATTACK, 0.1, up(0.1)) is None
    assert holds_at(records, Kind.ATTACK, 0.1, 0.05) is None
    assert holds_at(records, Kind.TRANSFORM, 0.0, 0.0).to_list() == [True, False]


@pytest.mark.parametrize("kind", Kind)
def test_no_examples_are_no_answers(kind):
    schema = {"correct": pl.Boolean, "abstained": pl.Boolean, "radius": pl.Float64, "distance": pl.Float64}
    assert holds_at(pl.DataFrame(schema=schema), kind, 0.1, 0.1).to_list() == []
