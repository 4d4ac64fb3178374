"""CE, mCE and relative mCE by hand, and the numbers that are known of ImageNet-C's baseline."""

import polars as pl
import pytest

from gauntlet.config.compose import CONF
from gauntlet.corruptions import TYPES
from gauntlet.corruptions.errors import Errors, errors_of, read_errors, relative_to
from gauntlet.errors import UserError


def records(wrong, of=10):
    """Ten examples, so many of them wrong."""
    return pl.DataFrame({"correct": [False] * wrong + [True] * (of - wrong)})


CLEAN = records(1)
NOISE = [records(count) for count in (2, 3, 4, 5, 6)]  # ΣE = 2.0
FOG = [records(count) for count in (1, 1, 2, 2, 4)]  # ΣE = 1.0
BASELINE = Errors("B", 0.2, {"gaussian_noise": [0.3, 0.4, 0.5, 0.6, 0.7], "fog": [0.2, 0.3, 0.4, 0.5, 0.6]})


def test_the_hand_computed_case():
    """CE 2.0/2.5 and 1.0/2.0; relative (2.0 − 0.5)/(2.5 − 1.0) and (1.0 − 0.5)/(2.0 − 1.0)."""
    result = relative_to(BASELINE, CLEAN, {"gaussian_noise": NOISE, "fog": FOG})
    assert {kind: mean.value for kind, mean in result.errors.items()} == pytest.approx(
        {"gaussian_noise": 0.8, "fog": 0.5}
    )
    assert {kind: mean.value for kind, mean in result.relative.items()} == pytest.approx(
        {"gaussian_noise": 1, "fog": 0.5}
    )
    assert result.mce.value == pytest.approx(0.65)
    assert result.relative_mce.value == pytest.approx(0.75)
    assert result.mce.low < 0.65 < result.mce.high
    assert result.mce.examples == 10


def test_a_network_is_1_relative_to_itself():
    itself = errors_of("itself", CLEAN, {"gaussian_noise": NOISE, "fog": FOG})
    assert itself.clean == pytest.approx(0.1)
    assert itself.types["fog"] == pytest.approx([0.1, 0.1, 0.2, 0.2, 0.4])
    result = relative_to(itself, CLEAN, {"gaussian_noise": NOISE, "fog": FOG})
    assert result.mce.value == result.relative_mce.value == pytest.approx(1)


def test_only_types_that_both_have_count():
    result = relative_to(BASELINE, CLEAN, {"fog": FOG, "snow": NOISE})
    assert list(result.errors) == ["fog"]
    assert result.mce.value == pytest.approx(0.5)
    with pytest.raises(UserError, match="baseline B has errors of"):
        relative_to(BASELINE, CLEAN, {"snow": NOISE})


def test_nothing_is_divided_by_nothing():
    """A baseline that fog does not bother has no relative CE there, and there is no mean that leaves it out."""
    calm = Errors("calm", 0.2, {"gaussian_noise": [0.3] * 5, "fog": [0.2] * 5})
    result = relative_to(calm, CLEAN, {"gaussian_noise": NOISE, "fog": FOG})
    assert result.relative["fog"] is None
    assert result.relative_mce is None
    assert result.mce.value == pytest.approx((2.0 / 1.5 + 1.0 / 1.0) / 2)


def test_alexnet_is_what_others_have():
    alexnet = read_errors(CONF / "published" / "errors" / "alexnet.yaml")
    assert tuple(alexnet.types) == TYPES
    means = {kind: 100 * sum(cells) / 5 for kind, cells in alexnet.types.items()}
    assert means["gaussian_noise"] == pytest.approx(88.6428)
    assert means["jpeg_compression"] == pytest.approx(60.65)
    assert sum(means.values()) / 15 == pytest.approx(78.899, abs=0.001)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("name: x\nclean: 10", "holds no errors of a baseline"),
        ("name: x\nclean: 10\nerrors: {fogg: [1, 2, 3, 4, 5]}", "errors.fogg is"),
        ("name: x\nclean: 10\nerrors: {fog: [1, 2, 3]}", "with 5 percentages"),
        ("name: x\nclean: 10\nerrors: {fog: [1, 2, 3, 4, 500]}", "with 5 percentages"),
        ("name: x\nclean: -1\nerrors: {fog: [1, 2, 3, 4, 5]}", "expected a percentage"),
    ],
)
def test_what_is_no_baseline_is_refused_in_one_line(tmp_path, content, message):
    (tmp_path / "b.yaml").write_text(content)
    with pytest.raises(UserError, match=message) as refused:
        read_errors(tmp_path / "b.yaml")
    assert "\n" not in str(refused.value)
