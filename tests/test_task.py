"""A task that is not classification goes through training, the grid, records, resume and tables by its class alone."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from torch.nn import functional as F
from torchmetrics.classification import MulticlassJaccardIndex

from gauntlet.data import RandomFlip
from gauntlet.defenses import AdversarialTraining, AverageAttackTraining, NormalTraining
from gauntlet.errors import UserError
from gauntlet.evaluation import (
    SCHEMAS,
    AttackSuite,
    Card,
    Grid,
    Measured,
    ModelUnderTest,
    Union,
    UnseenMean,
    clean_check,
    evaluate,
    measure_chunk,
    probe,
    read_records,
    read_run,
)
from gauntlet.evaluation.evidence import schema
from gauntlet.evaluation.suite_of_task import check_task, suite_of_task
from gauntlet.kinds import Kind
from gauntlet.losses import margin
from gauntlet.models import outputs_for
from gauntlet.noise import Noise
from gauntlet.task import CLASSIFICATION, Classification
from gauntlet.threats import L2, Linf
from gauntlet.transforms import Clean
from tests.fixtures import LinearMargin, NearestOfLinear
from tests.segmentation import Outside, PerPixel, PixelAscent, Segmentation, Shapes, mean_iou

TASK, DATA = Segmentation(), Shapes()
GRID = Grid(chunk=8)


def trained(steps=60):
    """A network that gets most pixels right."""
    torch.manual_seed(0)
    network = PerPixel().train()
    defense = NormalTraining(network, lambda p: torch.optim.Adam(p, 0.02), None)
    defense.task = TASK
    defense.note = lambda *_, **__: None
    optimizer = defense.optimizer_of(network.parameters())
    for _ in range(steps):
        optimizer.zero_grad()
        defense.losses(DATA.splits.train[slice(0, 32)]).mean().backward()
        optimizer.step()
    return network.eval()


NETWORK = trained()


def model(**changes):
    parts = {"classifier": NETWORK, "checkpoint": "c0", "examples": DATA.splits.test, "fingerprint": "f0", "task": TASK}
    return ModelUnderTest(**(parts | changes))


def suite(**more):
    return AttackSuite({"clean": Clean(), "ascent": PixelAscent(threat_model=Linf(0.15)), **more})


def records(folders):
    return {name: read_records(folder.path, folder.kind).drop("seconds") for name, folder in folders.items()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return records(GRID.run(model(), suite(), tmp_path_factory.mktemp("whole"), lambda _: None))


def test_classification_is_cross_entropy_the_label_predicted_and_its_lead():
    logits = torch.tensor([[2.0, 1.0, -1.0], [0.0, 3.0, 1.0], [1.0, 1.0, 0.0]])
    labels = torch.tensor([0, 2, 1])
    assert CLASSIFICATION.loss(logits, labels).equal(F.cross_entropy(logits, labels, reduction="none"))
    assert CLASSIFICATION.score(logits, labels).tolist() == [1.0, 0.0, 0.0]  # of equals the first is predicted
    assert CLASSIFICATION.margin(logits, labels).equal(margin(logits, labels))
    assert CLASSIFICATION.captions(logits, labels) == ["0", "2 -> 1", "1 -> 0"]
    other = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 9.0], [0.0, 9.0, 0.0]])
    told = CLASSIFICATION.record(labels, logits, other, torch.tensor([True, False, True]))
    assert told["correct"].tolist() == [False, False, True]  # what counts of the second is the clean image
    assert told["prediction"].tolist() == [1, 2, 1]
    assert Classification() == CLASSIFICATION
    assert CLASSIFICATION.name == "classification/1"


def test_records_of_classification_have_the_columns_they_had():
    common = ["example_id", "label", "clean_prediction", "prediction", "correct", "seconds"]
    images = [*common, "inside", "size", "linf", "l2", "perceptual", "lpips", "margin"]
    assert list(SCHEMAS[Kind.ATTACK]) == list(SCHEMAS[Kind.TRANSFORM]) == images
    assert list(SCHEMAS[Kind.MINIMUM_DISTANCE]) == [*images, "distance"]
    assert list(SCHEMAS[Kind.CERTIFICATE]) == [*common, "radius", "abstained"]


def test_a_task_is_part_of_the_identity_of_its_records_and_classification_is_not(tmp_path):
    places = GRID.folders(model(), suite(), tmp_path)
    assert places["clean"].identity["task"] == {"class": "toy_segmentation/1"}
    plain = GRID.folders(model(task=CLASSIFICATION), suite(), tmp_path)
    assert "task" not in plain["clean"].identity


def test_a_batch_carries_maps_of_classes():
    batch = DATA.splits.test[slice(0, 4)]
    assert batch.labels.shape == (4, 16, 16)
    assert batch.rows([2]).labels.equal(batch.labels[2:3])
    assert batch.mapped(lambda part: torch.cat((part, part))).labels.shape == (8, 16, 16)
    assert batch.to(torch.device("cpu")).labels.equal(batch.labels)


def test_scores_and_lists_are_what_numpy_makes_of_the_answers(whole):
    test = DATA.splits.test
    batch = test[slice(0, len(test))]
    with torch.no_grad():
        found = NETWORK(batch.images).argmax(1).numpy()
    targets, frame = batch.labels.numpy(), whole["clean"]
    assert frame.schema == pl.DataFrame(schema=schema(Kind.TRANSFORM, TASK)).drop("seconds").schema
    assert frame["example_id"].to_list() == batch.ids.tolist()
    assert frame["score"].to_list() == pytest.approx((found == targets).mean((1, 2)).tolist())
    assert frame["clean_score"].equals(frame["score"].alias("clean_score"))
    assert 0.5 < frame["score"].mean() < 1
    for row in (0, 5, 23):
        for kind in range(3):
            ours, theirs = found[row] == kind, targets[row] == kind
            assert frame["intersection"][row][kind] == (ours & theirs).sum()
            assert frame["union"][row][kind] == (ours | theirs).sum()
        places = [(each["row"], each["column"]) for each in frame["wrong"][row]]
        assert places == list(zip(*np.nonzero(found[row] != targets[row]), strict=True))


def test_an_attack_lowers_scores_and_its_lists_are_of_the_image_that_is_worse(whole):
    frame = whole["ascent"]
    assert frame["inside"].all()
    assert frame["score"].mean() < whole["clean"]["score"].mean() - 0.1
    assert (frame["score"] <= frame["clean_score"]).all()
    assert frame["clean_score"].equals(whole["clean"]["clean_score"])
    right = frame["intersection"].list.sum() / 16**2
    assert right.to_list() == pytest.approx(frame["score"].to_list())


def test_an_image_outside_the_threat_model_leaves_the_clean_score():
    batch = DATA.splits.test[slice(0, 8)]
    entry = Outside(threat_model=Linf(0.1))
    found = measure_chunk(model(), entry, batch, Noise(batch.ids)).records
    clean = measure_chunk(model(), Clean(), batch, Noise(batch.ids)).records
    assert not found["inside"].any()
    for name in ("score", "intersection", "union", "wrong"):
        assert found[name].equals(clean[name]), name


def test_mean_iou_of_the_records_is_that_of_torchmetrics(whole):
    test = DATA.splits.test
    batch = test[slice(0, len(test))]
    with torch.no_grad():
        answers = NETWORK(batch.images).argmax(1)
    expected = MulticlassJaccardIndex(3, average="macro")(answers, batch.labels)
    assert mean_iou(whole["clean"]) == pytest.approx(float(expected), abs=1e-6)


def test_a_killed_evaluation_goes_on_and_comes_to_the_same_records(whole, tmp_path):
    done = []

    def die(progress):
        done.append(progress)
        if len(done) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        GRID.run(model(), suite(), tmp_path, die)
    files = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.parquet")}
    assert len(files) == 3
    again = records(GRID.run(model(), suite(), tmp_path, done.append))
    assert all(file.stat().st_mtime_ns == before for file, before in files.items())
    assert again.keys() == whole.keys()
    assert all(frame.equals(whole[name], null_equal=True) for name, frame in again.items())
    last = done[-1]
    assert last.score == pytest.approx(whole["ascent"]["score"].sum())


class TestWhatAsksForAYesOrNo:
    """Union, unseen mean, minimum distance and certificate are refused by name before anything is measured."""

    refused = AttackSuite(
        {"clean": Clean(), "nearest": NearestOfLinear(threat_model=L2(0.5))},
        {"exact": LinearMargin(threat_model=L2(0.5))},
        {"union": Union(["clean"]), "unseen mean": UnseenMean()},
    )

    def test_by_the_grid(self, tmp_path):
        with pytest.raises(UserError) as error:
            GRID.run(model(), self.refused, tmp_path, lambda _: None)
        assert str(error.value) == (
            "nearest, exact, union, unseen mean of the attack suite ask which examples are correct, and"
            " toy_segmentation/1 has a score per example but no yes or no: leave them out, in a config with"
            " '~attack_suite.attacks.nearest' '~attack_suite.certificates' '~attack_suite.aggregates'"
        )
        assert not list(tmp_path.iterdir())

    def test_by_the_library(self, tmp_path):
        with pytest.raises(UserError, match="exact, union"):
            evaluate(NETWORK, DATA, self.refused, folder=tmp_path)
        assert not list(tmp_path.iterdir())

    def test_and_none_of_it_of_classification(self):
        check_task(self.refused, CLASSIFICATION)
        assert suite_of_task(self.refused, CLASSIFICATION) is self.refused

    def test_and_nothing_is_said_to_be_correct(self, whole):
        measured = Measured(Card("net", "toy", "net", None, None, None, "c0", "f0", task=TASK.name), None, whole)
        with pytest.raises(UserError, match="toy_segmentation/1 has scores and no yes or no per example: clean"):
            measured.holds("clean")


def test_the_library_gives_the_records_of_the_grid(whole):
    found = evaluate(NETWORK, DATA, suite(), GRID)
    assert all(frame.drop("seconds").equals(whole[name], null_equal=True) for name, frame in found.items())


def test_the_clean_check_prints_the_mean_score_and_refuses_targets_that_are_no_classes(whole):
    check = clean_check(model(), slice(0, 24))
    assert check.accuracy == pytest.approx(whole["clean"]["score"].mean())
    assert check.warnings == []
    wrong = replace(DATA.splits.test, labels=DATA.splits.test.labels + 1)
    with pytest.raises(UserError, match="labels run up to 3, the classifier's classes are 0 to 2"):
        clean_check(model(examples=wrong), slice(0, 24))


def test_the_classifier_is_probed_and_attacks_are_not():
    flags = probe(NETWORK, suite(), DATA.splits.test[slice(0, 8)], task=TASK)
    assert {(flag.name, flag.attack, flag.raised) for flag in flags} == {
        ("deterministic", None, False),
        ("batch", None, False),
    }


def test_a_network_of_another_form_is_refused_in_the_words_of_the_task():
    line = r"answered torch.float32 \[2, 192\] for 2 images: expected float logits \[2, K, H, W\]"
    with pytest.raises(UserError, match=line):
        outputs_for(TASK, torch.nn.Flatten(), torch.rand(2, 3, 8, 8))


def test_augmentation_of_images_alone_is_refused_where_targets_belong_to_pixels():
    with pytest.raises(ValueError, match="toy_segmentation/1 belong to places in them: write augmentation: null"):
        Shapes(augmentation=(RandomFlip(),))


def defense_of(kind, **parts):
    defense = kind(classifier=PerPixel(), optimizer=None, schedule=None, **parts)
    defense.task = TASK
    logged = {}

    def note(stage, **values):
        logged.update({f"{stage}/{name}": float(value.detach().mean()) for name, value in values.items()})

    defense.note = note
    return defense, logged


def test_a_training_step_is_the_loss_of_the_task_and_logs_its_mean_score(monkeypatch):
    defense, logged = defense_of(NormalTraining)
    batch = DATA.splits.train[slice(0, 8)]
    loss = defense.training_step(batch, 0)
    answers = defense.classifier(batch.images)
    assert loss.item() == pytest.approx(F.cross_entropy(answers, batch.labels).item())
    assert logged["train/clean_accuracy"] == pytest.approx((answers.argmax(1) == batch.labels).float().mean().item())
    defense.validation_step(batch, 0)
    assert logged["val/accuracy"] == logged["train/clean_accuracy"]


@pytest.mark.parametrize("kind", [AdversarialTraining, AverageAttackTraining])
def test_adversarial_training_shows_what_an_attack_makes_of_every_image_with_something_right(kind, monkeypatch):
    attack = PixelAscent(threat_model=Linf(0.1), steps=2)
    parts = {"attack": attack} if kind is AdversarialTraining else {"attacks": {"one": attack, "two": attack}}
    defense, logged = defense_of(kind, **parts)
    monkeypatch.setattr(type(defense), "current_epoch", 0)
    batch = DATA.splits.train[slice(0, 8)]
    losses = defense.losses(batch)
    assert losses.shape == ((8,) if kind is AdversarialTraining else (16,))
    found = attack(defense.classifier, batch.images, batch.labels, seeds=defense.example_seeds(batch, 0))
    expected = TASK.loss(defense.classifier(found.images), batch.labels)
    assert losses[:8].allclose(expected)
    assert logged["train/clean_accuracy"] > 0
    assert {name for name in logged if "adversarial_accuracy" in name}


WORDS = (
    *("dataset.reference=null", "model=custom", "trainer=cpu", "trainer.max_epochs=1", "defense=normal"),
    *("dataset.module._target_=tests.segmentation.Shapes", "dataset.module.size=16", "dataset.shape=[3,16,16]"),
    *("dataset.classes=3", "dataset.recipe.batch_size=8", "dataset.recipe.learning_rate=0.1"),
    "model.network._target_=tests.segmentation.PerPixel",
)
SUITE = (
    *("attack_suite=clean", "evaluation.chunk=8", "logger=csv", "allow=[tests]"),
    "+attack_suite.attacks.ascent={_target_:tests.segmentation.PixelAscent,"
    "threat_model:{_target_:gauntlet.threats.Linf,bound:0.15}}",
)


def test_the_doors_refuse_the_union_in_a_line_and_what_it_says_to_type_works(door, outputs):
    words = (*WORDS, *SUITE, f"outputs={outputs}")
    said = door("train", *words)
    assert said.code == 2, said.err
    line = said.err.strip()
    assert "\n" not in line
    assert "union, unseen mean of the attack suite ask which examples are correct" in line
    assert [place.name for place in outputs.iterdir()] == ["references"]
    way = line.rpartition("in a config with ")[2].strip("'")
    said = door("train", *words, way)
    assert said.code == 0, said.err
    (folder,) = outputs.glob("digits/*/*")
    _check_run(read_run(folder, "clean"))
    for told in (said.out, (folder / "report.md").read_text()):
        assert "mIoU ascent" in told
        assert "Mean score of toy_segmentation/1 in %, 95 % bootstrap intervals, 24 test examples." in " ".join(
            told.split()
        )
    assert (folder / "pictures" / "clean.png").exists()
    files = {file: file.stat().st_mtime_ns for file in folder.rglob("*.parquet")}
    again = door("evaluate", f"checkpoint={folder}", *SUITE, way, f"outputs={outputs}")
    assert again.code == 0, again.err
    assert {file: file.stat().st_mtime_ns for file in folder.rglob("*.parquet")} == files
    said = door("report", f"runs={folder}", "suite=clean", f"folder={outputs}/report")
    assert said.code == 0, said.err
    assert "mIoU ascent" in (outputs / "report" / "table.csv").read_text()


def _check_run(run):
    assert run.card.task == "toy_segmentation/1"
    assert run.cells.keys() == {"clean", "ascent", "mIoU clean", "mIoU ascent"}
    for name in ("clean", "ascent"):
        assert run.cells[name].value == pytest.approx(run.records[name]["score"].mean())
        whole = run.cells[f"mIoU {name}"]
        assert whole.value == pytest.approx(mean_iou(run.records[name]))
        assert whole.low < whole.value < whole.high
