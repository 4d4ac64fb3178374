"""A chunk under an entry of each kind: its columns, what they say, and what fails alone."""

from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl
import pytest
import torch

from gauntlet.attacks import PGD, Adversarial, Attack, MinimumDistanceAttack
from gauntlet.certificates import Certificate, Certified
from gauntlet.errors import UserError
from gauntlet.evaluation import SCHEMAS, AttackSuite, Grid, holds_at, measure_chunk
from gauntlet.kinds import Kind
from gauntlet.threats import L2
from gauntlet.transforms import Clean, Transform
from tests.evaluation import linear, tiny

GRID = Grid(chunk=8)
BALL = L2(0.1)


def chunk(entry, one=None, rows=slice(0, 24)):
    one = one or linear.model()
    batch = one.examples[rows]
    return measure_chunk(one, entry, batch, GRID.noise(entry, batch))


def right(one):
    return torch.tensor(list(linear.true_distance(one).values())) > 0


@dataclass(frozen=True)
class Counted(Certificate):
    """States radius 0.25 and what it counted, and abstains on every second example of the batch."""

    threat_model: L2 = BALL

    def __call__(self, classifier, images, noise):
        classes = classifier(images).argmax(1)
        every = torch.arange(len(images))
        detail = {"votes": every * 10, "p_lower": every.float() / 7, "enumerated": every > 3}
        radius = torch.where(every % 2 == 1, torch.nan, 0.25)  # means nothing where it abstains
        return Certified(classes, radius, every % 2 == 1, detail)


ATTACK = PGD(threat_model=L2(0.05), steps=3)


@pytest.mark.parametrize(
    ("entry", "own"),
    [
        (ATTACK, {}),
        (linear.FAR, {}),
        (Clean(), {}),
        (linear.MARGIN, {}),
        (Counted(), {"votes": pl.Int64, "p_lower": pl.Float64, "enumerated": pl.Boolean}),
    ],
)
def test_columns_and_dtypes_are_those_of_the_kind(entry, own):
    expected = pl.Schema({**SCHEMAS[entry.kind], **own})
    for rows in (slice(0, 24), slice(0, 1), slice(0, 0)):
        records, images = chunk(entry, rows=rows)
        assert records.schema == expected
        assert len(records) == len(range(24)[rows])
        assert (images is None) == (entry.kind is Kind.CERTIFICATE)


def nulls(records):
    return {name for name in records.columns if records[name].null_count()}


def test_a_column_that_means_nothing_is_null_from_the_first_row_to_the_last():
    unmeasured = {"perceptual", "lpips"}  # there is no reference distance, and the images are too small
    assert nulls(chunk(ATTACK).records) == unmeasured
    assert nulls(chunk(Clean()).records) == nulls(chunk(linear.FAR).records) == unmeasured | {"size"}
    assert nulls(chunk(linear.MARGIN).records) == set()


def test_a_minimum_distance_is_the_closed_form_and_0_where_the_clean_image_is_wrong():
    one = linear.model()
    records, images = chunk(linear.FAR, one)
    truth = linear.true_distance(one)
    assert sum(distance == 0 for distance in truth.values()) == 4
    assert records["distance"].to_list() == pytest.approx([truth[i] for i in records["example_id"]], rel=2e-5)
    assert (records["distance"].to_numpy() == 0).tolist() == (~right(one)).tolist()
    assert not records["correct"].any()
    assert records["inside"].all()
    change = (images.double() - one.examples[slice(0, 24)].images.double()).flatten(1).norm(dim=1)
    assert records["distance"].to_list() == pytest.approx(change.tolist(), rel=1e-12)  # measured in float64


@dataclass(frozen=True, kw_only=True)
class Idle(MinimumDistanceAttack):
    """Changes nothing, or leaves [0, 1] if configured so."""

    wild: bool = False

    def nearest(self, classifier, region, labels, noise):
        far = region.images.new_full(region.images.shape, 2.0)
        brightest = region.images[:, :1, :1, :1] > 0.5
        return torch.where(brightest & self.wild, far, 0.0)


def test_where_nothing_was_found_the_distance_is_infinite():
    one = linear.model()
    records = chunk(Idle(threat_model=L2(0.1)), one).records
    expected = torch.where(right(one), torch.inf, 0.0)
    assert records["distance"].to_list() == expected.tolist()
    assert records["correct"].to_list() == right(one).tolist()
    assert holds_at(records, Kind.MINIMUM_DISTANCE, 0.1, 1e9).to_list() == right(one).tolist()


def test_an_image_outside_is_no_success_and_has_no_distance():
    one = linear.model()
    records = chunk(Idle(threat_model=L2(0.1), wild=True), one).records
    wild = one.examples.images[:, 0, 0, 0] > 0.5 * 255
    assert 0 < wild.sum() < len(wild)
    assert records["inside"].to_list() == (~wild).tolist()
    assert records["distance"].to_list() == torch.where(right(one), torch.inf, 0.0).tolist()


def test_a_certificate_records_what_it_states_and_what_it_counted():
    one = linear.model()
    records = chunk(Counted(), one).records
    labels = one.examples.labels
    states = torch.arange(24) % 2 == 0
    assert records["abstained"].to_list() == (~states).tolist()
    assert records["radius"].to_list() == torch.where(states, 0.25, 0.0).tolist()
    assert records["correct"].to_list() == (states & right(one)).tolist()
    assert records["votes"].to_list() == [10 * i for i in range(24)]
    assert records["label"].to_list() == labels.tolist()
    assert holds_at(records, Kind.CERTIFICATE, 0.1, 0.25).to_list() == (states & right(one)).tolist()


def test_a_transform_is_correct_where_its_own_image_is_whatever_the_clean_one_was():
    @dataclass(frozen=True)
    class Inverted(Transform):
        name = "inverted"

        def __call__(self, batch, noise):
            return 1 - batch.images

    one = linear.model()
    records, images = chunk(Inverted(), one)
    batch = one.examples[slice(0, 24)]
    prediction = one.classifier(1 - batch.images).argmax(1)
    assert images.equal(1 - batch.images)
    assert records["correct"].to_list() == (prediction == batch.labels).tolist()
    assert any(records["correct"].to_numpy() & ~right(one).numpy())
    assert records["inside"].all()


@dataclass(frozen=True)
class Faulty(Certificate):
    """A certificate with a bug."""

    way: str
    threat_model: L2 = BALL

    def __call__(self, classifier, images, noise):
        count = len(images)
        good = Certified(torch.zeros(count).long(), torch.ones(count), torch.zeros(count).bool())
        ways = {
            "NaN": lambda: good._replace(radius=good.radius * torch.nan),
            "negative": lambda: good._replace(radius=-good.radius),
            "predictions": lambda: good._replace(predictions=good.predictions[:1]),
            "radius": lambda: good._replace(radius=good.radius[:, None]),
            "abstained": lambda: good._replace(abstained=good.abstained[:0]),
            "floats": lambda: good._replace(predictions=good.predictions.float()),
            "numbers": lambda: good._replace(abstained=good.predictions),
            "collision": lambda: good._replace(detail={"label": good.predictions, "votes": good.predictions}),
            "detail": lambda: good._replace(detail={"votes": torch.zeros(2, 2)}),
            "nothing": lambda: None,
            "raises": lambda: {}["sigma"],
        }
        return ways[self.way]()


@dataclass(frozen=True)
class Blind(Attack):
    """An attack whose own check raises."""

    threat_model: L2 = BALL

    def __call__(self, classifier, images, labels, *, seeds=None):
        return Adversarial(images, torch.zeros_like(images), torch.zeros(len(images)))

    def verify(self, classifier, batch, found):
        raise KeyError("codes")


@dataclass(frozen=True)
class Cropped(Transform):
    """Gives back images of another size."""

    name = "cropped"

    def __call__(self, batch, noise):
        return batch.images[..., 1:]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (Faulty("NaN"), "ValueError: a radius is negative or NaN: abstain instead"),
        (Faulty("negative"), "ValueError: a radius is negative or NaN: abstain instead"),
        (Faulty("predictions"), r"ValueError: its predictions is of shape \[1\]: expected \[8\]"),
        (Faulty("radius"), r"ValueError: its radius is of shape \[8, 1\]: expected \[8\]"),
        (Faulty("abstained"), r"ValueError: its abstained is of shape \[0\]: expected \[8\]"),
        (Faulty("floats"), "predictions torch.float32, abstained torch.bool: expected integers, booleans"),
        (Faulty("numbers"), "predictions torch.int64, abstained torch.int64: expected integers, booleans"),
        (Faulty("collision"), r"its detail has columns \['label'\], which every certificate has: rename them"),
        (Faulty("detail"), r"ValueError: its votes is of shape \[2, 2\]: expected \[8\]"),
        (Faulty("nothing"), "TypeError: "),
        (Faulty("raises"), "KeyError: 'sigma'"),
        (Blind(), "KeyError: 'codes'"),
        (Cropped(), r"it returned images \[8, 3, 4, 3\] for \[8, 3, 4, 4\]"),
    ],
)
def test_an_entry_with_a_bug_fails_alone_and_in_one_line(entry, message, tmp_path, capsys):
    one = linear.model()
    part = {"faulty": entry}
    certificates = {"good": linear.MARGIN} | (part if entry.kind is Kind.CERTIFICATE else {})
    attacks = {"clean": Clean(), "far": linear.FAR} | ({} if entry.kind is Kind.CERTIFICATE else part)
    suite = AttackSuite(attacks, certificates)
    with pytest.raises(UserError, match=rf"^failed: faulty \(.*{message}.*, in chunk 0\)") as refused:
        GRID.run(one, suite, tmp_path, lambda _: None)
    assert "\n" not in str(refused.value)
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "failed" in line)
    assert line.startswith("faulty failed in chunk 0 (examples 0 to 7): ")
    folders = GRID.folders(one, suite, tmp_path)
    files = {name: len(list(folder.path.glob("*.parquet"))) for name, folder in folders.items()}
    assert files == {"clean": 3, "far": 3, "good": 3, "faulty": 0}


def test_minimum_distances_and_certificates_answer_for_every_bound_with_one_run(tmp_path, monkeypatch):
    one = linear.model()

    def suite(bound):
        named = {"far": replace(linear.FAR, threat_model=L2(bound)), "linf": replace(ATTACK, threat_model=L2(bound))}
        return AttackSuite(named, {"margin": replace(linear.MARGIN, threat_model=L2(bound))})

    narrow, wide = (GRID.folders(one, suite(bound), tmp_path) for bound in (0.02, 0.3))
    same = {name for name in narrow if narrow[name].path == wide[name].path}
    assert same == {"far", "margin"}
    first = tiny.records(GRID.run(one, suite(0.02), tmp_path / "narrow", lambda _: None))
    other = tiny.records(GRID.run(one, suite(0.3), tmp_path / "wide", lambda _: None))
    assert {name for name in first if first[name].equals(other[name], null_equal=True)} == {"far", "margin"}
    found = AttackSuite({"far": suite(0.3).attacks["far"]}, suite(0.3).certificates)
    monkeypatch.setattr("gauntlet.evaluation.runner.measure_chunk", None)  # nothing is left to be measured
    again = tiny.records(GRID.run(one, found, Path(tmp_path / "narrow"), lambda _: None))
    truth = linear.true_distance(one)
    for bound in (0.02, 0.05, 0.3):
        expected = [truth[example] > bound for example in again["far"]["example_id"]]
        assert holds_at(again["far"], Kind.MINIMUM_DISTANCE, 0.3, bound).to_list() == expected
        assert holds_at(again["margin"], Kind.CERTIFICATE, 0.3, bound).to_list() == expected
