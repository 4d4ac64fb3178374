"""Survivors: the union of the full mode for less work, and never mistaken for it."""

from dataclasses import dataclass, replace

import polars as pl
import pytest
import torch

from gauntlet.attacks import PGD, Adversarial, Attack
from gauntlet.checks import guard
from gauntlet.errors import UserError
from gauntlet.evaluation import AttackSuite, Grid, Survivors, Union, union_accuracy
from gauntlet.evaluation.store import with_earlier
from gauntlet.threats import L2, Linf
from gauntlet.transforms import Clean
from tests.evaluation import linear, tiny
from tests.fixtures import batch_of

FAST = replace(tiny.GRID, mode=Survivors())
UNION = tiny.suite().union


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    return tiny.records(tiny.run(tmp_path_factory.mktemp("full")))


@pytest.fixture(scope="module")
def fast(tmp_path_factory):
    return tiny.records(tiny.run(tmp_path_factory.mktemp("fast"), FAST))


def together(result):
    """The examples still right under every attack of the union, recomputed with sets."""
    all_ids = set(result["clean"]["example_id"])
    return all_ids - {example for name in UNION for example in result[name].filter(~pl.col("correct"))["example_id"]}


def test_the_union_is_that_of_the_full_mode(full, fast):
    """In float64, where no example feels its batch-mates, to the example."""
    assert 0 < len(together(full)) < full["clean"]["correct"].sum()
    assert together(fast) == together(full)
    frames = [with_earlier(fast[name], [fast[other] for other in UNION[:i]]) for i, name in enumerate(UNION)]
    assert union_accuracy(frames) == union_accuracy([full[name] for name in UNION])
    assert union_accuracy(frames).value == len(together(full)) / 40


def test_there_are_rows_for_the_examples_still_correct_and_no_others(full, fast):
    still_correct = full["clean"].filter("correct")["example_id"]
    assert fast["linf"]["example_id"].equals(still_correct)
    expected = full["linf"].filter(pl.col("example_id").is_in(still_correct.to_list()))
    for column in ("prediction", "correct", "inside", "linf"):
        assert fast["linf"][column].equals(expected[column])
    assert len(fast["l2"]) == int(fast["linf"]["correct"].sum()) < len(fast["linf"])
    assert fast["clean"].equals(full["clean"], null_equal=True)
    assert fast["free"].equals(full["free"], null_equal=True)  # outside the union: on all examples


def test_another_order_has_the_same_union_and_spares_others(full, fast, tmp_path):
    turned = replace(FAST, mode=Survivors(first=["l2", "clean"]))
    assert [turned.mode.earlier(tiny.suite(), name) for name in ("l2", "clean", "linf", "free")] == [
        [], [], ["l2", "clean"], [],
    ]  # fmt: skip
    result = tiny.records(tiny.run(tmp_path, turned))
    assert together(result) == together(full)
    assert result["l2"].equals(full["l2"], null_equal=True)
    still_correct = full["l2"].filter("correct")["example_id"].to_list()
    assert (
        result["linf"]["example_id"].to_list()
        == full["clean"].filter(pl.col("correct") & pl.col("example_id").is_in(still_correct))["example_id"].to_list()
    )
    assert len(result["linf"]) < len(fast["linf"])


def test_an_order_of_what_is_not_in_the_union_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"mode.first names \['free'\]"):
        tiny.run(tmp_path, replace(FAST, mode=Survivors(first=["free", "l2"])))


def test_its_records_are_kept_apart_but_for_those_that_are_full(tmp_path):
    folders, others = (grid.folders(tiny.model(), tiny.suite(), tmp_path) for grid in (tiny.GRID, FAST))
    shared = {name for name in folders if folders[name].path == others[name].path}
    assert shared == {"clean", "free"}
    assert others["l2"].path.name.startswith("l2-survivors-")
    stronger = AttackSuite(
        tiny.attacks() | {"linf": PGD(threat_model=Linf(0.1), steps=9)}, aggregates=tiny.union_of(UNION)
    )
    again = FAST.folders(tiny.model(), stronger, tmp_path)
    assert again["l2"].path != others["l2"].path  # its examples depend on the attacks before it


def test_full_records_are_used_again_and_not_measured_twice(fast, tmp_path, monkeypatch):
    tiny.run(tmp_path)
    monkeypatch.setattr("gauntlet.evaluation.runner.measure_chunk", None)  # nothing is left to be measured
    assert together(tiny.records(tiny.run(tmp_path, FAST))) == together(fast)


def test_without_survivors_nothing_is_run(tmp_path):
    suite = AttackSuite(
        {"linf": PGD(threat_model=Linf(1.0), steps=20), "broken": Broken(Linf(0.1))},
        aggregates=tiny.union_of(["linf", "broken"]),
    )
    result = tiny.records(tiny.run(tmp_path, FAST, suite_=suite))
    assert not result["linf"]["correct"].any()
    assert len(result["broken"]) == 0


@dataclass(frozen=True)
class Broken(Attack):
    """Somebody's attack with a bug in it."""

    threat_model: Linf
    mended: bool = False

    def __call__(self, classifier, images, labels, *, seeds=None):
        if not Broken.mended:
            raise KeyError("flow")
        return Adversarial(images, torch.zeros_like(images), torch.zeros(len(images)))


@pytest.mark.parametrize("grid", [tiny.GRID, FAST])
def test_an_attack_that_fails_is_named_and_the_others_go_on(grid, tmp_path, capsys, monkeypatch):
    """Also those that would have run on its survivors end, rather than wait for ever."""
    named = {"clean": tiny.attacks()["clean"], "broken": Broken(Linf(0.1)), "linf": tiny.attacks()["linf"]}
    suite = AttackSuite(named, aggregates=tiny.union_of(named))
    with pytest.raises(UserError, match=r"broken \(KeyError: 'flow', in chunk 0\)"):
        tiny.run(tmp_path, grid, suite_=suite)
    assert "broken failed in chunk 0 (examples 0 to 7): KeyError: 'flow'" in capsys.readouterr().out
    folders = grid.folders(tiny.model(), suite, tmp_path)
    assert not list(folders["broken"].path.glob("*.parquet"))
    assert len(list(folders["linf"].path.glob("*.parquet"))) == (5 if grid == tiny.GRID else 0)
    monkeypatch.setattr(Broken, "mended", True)
    assert len(tiny.records(tiny.run(tmp_path, grid, suite_=suite))["broken"]) > 0


@dataclass(frozen=True)
class Shrinks(Attack):
    """Gives back fewer images than it was given."""

    threat_model: Linf

    def __call__(self, classifier, images, labels, *, seeds=None):
        return Adversarial(images[:1], images[:1] * 0, torch.zeros(1))


def test_what_is_no_batch_of_images_is_a_failure_of_the_attack(tmp_path):
    with pytest.raises(UserError, match=r"it returned images \[1, 3, 6, 5\] for \[8, 3, 6, 5\]"):
        tiny.run(tmp_path, suite_=AttackSuite({"shrinks": Shrinks(Linf(0.1))}))


@dataclass(frozen=True)
class Oversteps(Attack):
    """Goes too far where an image begins brightly, and its guard refuses the whole batch."""

    inner: PGD

    @property
    def threat_model(self):
        return self.inner.threat_model

    def __call__(self, classifier, images, labels, *, seeds=None):
        result = self.inner(classifier, images, labels, seeds=seeds)
        far = result.params - 0.3 * (images[:, :1, :1, :1] > 0.8)
        region = self.threat_model.around(batch_of(images))
        guard(images, region.size(far), "Oversteps", True)
        return result


def test_an_example_for_which_an_attack_breaks_its_promise_is_outside_and_its_chunk_mates_keep_theirs(tmp_path):
    model = tiny.model()
    bright = model.examples.images[:, 0, 0, 0] > 0.8 * 255
    suite = AttackSuite({"clean": tiny.attacks()["clean"], "linf": Oversteps(tiny.attacks()["linf"])})
    result = tiny.records(tiny.run(tmp_path, subject_=model, suite_=suite))
    outside = ~result["linf"]["inside"]
    marked = set(result["linf"].filter(outside)["example_id"])
    assert 0 < len(marked) < 40
    assert marked == set(model.examples.ids[bright].tolist())
    clean = result["clean"].filter(outside)["correct"]
    assert result["linf"].filter(outside)["correct"].equals(clean)  # never a success
    alone = tiny.records(tiny.run(tmp_path / "alone", Grid(chunk=1), model, suite))
    for column in ("prediction", "correct", "inside", "linf"):
        assert result["linf"][column].equals(alone["linf"][column])  # independent of the rest of the batch
    broken = result["linf"].filter(~pl.col("correct") & pl.col("inside"))
    assert len(broken) > int((~result["clean"]["correct"]).sum())


def test_only_attacks_run_on_survivors_and_every_other_kind_in_full(tmp_path):
    one = linear.model()
    attacks = {
        "clean": Clean(),
        "strong": PGD(threat_model=L2(0.05), steps=9, step_size=0.5),
        "far": linear.FAR,
        "inverted": Clean(),
        "linf": PGD(threat_model=Linf(0.016), steps=9),
    }
    union = Union(list(attacks), {"far": 0.03})
    suite = AttackSuite(attacks, {"margin": linear.MARGIN}, {"union": union})
    mode = Survivors(first=["strong"])
    assert {name: mode.earlier(suite, name) for name in suite.entries} == {
        "clean": [], "strong": [], "far": [], "inverted": [], "margin": [], "linf": ["strong", "clean", "inverted"],
    }  # fmt: skip
    measured, folders = linear.measured(one, suite, tmp_path, Grid(chunk=8, mode=mode))
    assert {name: len(frame) for name, frame in measured.records.items() if name != "linf"} == dict.fromkeys(
        ["clean", "strong", "far", "inverted", "margin"], 24
    )
    still_correct = measured.records["strong"].filter("correct")["example_id"].to_list()
    assert measured.records["linf"]["example_id"].to_list() == still_correct
    assert {name for name, folder in folders.items() if "survivors" in folder.path.name} == {"linf"}
    (column,) = union("union", measured).columns.values()
    full, _ = linear.measured(one, suite, tmp_path / "full")
    assert column == union("union", full).columns["union"]
    assert 0 < column.estimate.value < len(still_correct) / 24


@pytest.mark.parametrize("first", ["far", "margin"])
def test_what_is_no_attack_cannot_come_first(first):
    suite = AttackSuite(
        {"clean": Clean(), "far": linear.FAR},
        {"margin": linear.MARGIN},
        {"union": Union(["clean", "far"], {"far": 0.1})},
    )
    with pytest.raises(
        UserError, match=rf"mode.first names \['{first}'\]: expected attacks or transforms of the union"
    ):
        Survivors(first=[first]).earlier(suite, "clean")


def test_without_a_union_nothing_can_come_first():
    with pytest.raises(UserError, match=r"mode.first names \['clean'\]: expected none, for the suite has no union"):
        Survivors(first=["clean"]).earlier(AttackSuite({"clean": Clean()}), "clean")
