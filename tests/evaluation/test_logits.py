"""Records are reused only where the classifier computes what it computed when they were measured."""

import pytest
import torch
from torch import nn

from gauntlet.attacks import PGD
from gauntlet.data import Examples
from gauntlet.errors import UserError
from gauntlet.evaluation import AttackSuite, Card, Grid, ModelUnderTest, accuracy, evaluate, logits, read_run
from gauntlet.evaluation.logits import TOLERANCE, looked_up, recognised
from gauntlet.runs.evaluation import run_suite
from gauntlet.runs.folder import RunFolder
from gauntlet.threats import Linf
from gauntlet.transforms import Clean

_ONLY_CLEAN = AttackSuite({"clean": Clean()})
_SUITE = AttackSuite({"clean": Clean(), "linf": PGD(threat_model=Linf(0.01), steps=1)})


class _Lying(nn.Module):
    """Scales its logits by a private attribute, which is not part of an identity."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Linear(12, 3)
        self._scale = scale

    def forward(self, images):
        return self._scale * self.body(images.flatten(1))


def _examples(count: int = 40) -> Examples:
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (count, 3, 2, 2), dtype=torch.uint8, generator=generator)
    labels = _Lying().body(images.flatten(1) / 255).argmax(1)
    return Examples(images, labels, torch.arange(count))


def test_a_classifier_that_lies_about_itself_is_measured_anew_and_the_old_records_stay(tmp_path, capsys):
    examples, grid = _examples(), Grid(chunk=20)
    first = evaluate(_Lying(1.0), examples, _SUITE, grid, folder=tmp_path)
    assert accuracy(first["clean"]).value == 1.0
    assert "moved" not in capsys.readouterr().out
    turned = evaluate(_Lying(-1.0), examples, _SUITE, grid, folder=tmp_path)
    assert "the logits of 32 of 32 fixed examples changed" in capsys.readouterr().out
    assert accuracy(turned["clean"]).value < 0.5
    again = evaluate(_Lying(1.0), examples, _SUITE, grid, folder=tmp_path)
    assert "moved" not in capsys.readouterr().out
    assert all(again[name].equals(first[name]) for name in first)  # seconds, too: they were read, not measured


def test_rounding_of_another_processor_discards_nothing_and_a_temperature_does(tmp_path):
    examples = _examples()

    def number(scale: float) -> int:
        model = ModelUnderTest(_Lying(scale), "weights", examples, examples.digest())
        return recognised(model, tmp_path).measurement

    assert number(1.0) == 0
    assert number(1.0 + TOLERANCE / 3) == 0
    assert number(1.0 + 10 * TOLERANCE) == 1
    assert number(1.0) == 0


def test_masked_classes_are_compared_by_their_places(tmp_path):
    class Masked(_Lying):
        masked = 0

        def forward(self, images):
            logits = super().forward(images)
            return logits.index_fill(1, torch.tensor([type(self).masked]), -torch.inf)

    examples = _examples()
    model = ModelUnderTest(Masked(), "weights", examples, examples.digest())
    assert recognised(model, tmp_path).measurement == 0
    assert recognised(model, tmp_path).measurement == 0
    Masked.masked = 1
    assert recognised(model, tmp_path).measurement == 1


def test_a_dry_run_writes_nothing(tmp_path):
    examples = _examples()
    model = ModelUnderTest(_Lying(), "weights", examples, examples.digest())
    assert looked_up(model, tmp_path / "records").measurement == 0
    assert not (tmp_path / "records").exists()


def test_a_classifier_that_draws_at_random_is_not_measured_anew_for_it(tmp_path):
    class Random(_Lying):
        def forward(self, images):
            return super().forward(images) + torch.rand(len(images), 3)

    examples = _examples()
    model = ModelUnderTest(Random(), "weights", examples, examples.digest())
    assert [recognised(model, tmp_path).measurement for _ in range(3)] == [0, 0, 0]


def test_a_group_has_one_verdict_even_where_another_processor_would_come_to_another(tmp_path):
    examples = _examples()

    def number(scale: float, group: str | None) -> int:
        model = ModelUnderTest(_Lying(scale), "weights", examples, examples.digest())
        return recognised(model, tmp_path, group).measurement

    assert number(1.0, "first") == 0
    assert [number(scale, "second") for scale in (1.02, 1.0, 1.02)] == [1, 1, 1]
    assert [number(scale, "third") for scale in (1.0, 1.02)] == [0, 0]
    assert [number(1.0, f"later {i}") for i in range(40)] == [0] * 40
    assert len(next(tmp_path.glob(".verdict-*.json")).read_text()) < 1000  # of the last few commands only


def test_a_folder_that_cannot_be_written_to_is_compared_with_by_every_process(tmp_path, monkeypatch):
    examples = _examples()
    model = ModelUnderTest(_Lying(), "weights", examples, examples.digest())
    assert recognised(model, tmp_path).measurement == 0
    monkeypatch.setattr(logits.os, "access", lambda *_: False)
    there = sorted(tmp_path.iterdir())
    assert recognised(model, tmp_path, "a group").measurement == 0
    assert sorted(tmp_path.iterdir()) == there


def _front_door(classifier, folder, suite="clean", **grid):
    examples = _examples()
    Card("net", "toy", "net", None, None, [], "weights", examples.digest()).write(folder.path)
    model = ModelUnderTest(classifier, "weights", examples, examples.digest())
    model = recognised(model, folder.records)
    return run_suite(model, _ONLY_CLEAN, suite, Grid(chunk=20, probed=4, **grid), folder)


def test_the_front_door_measures_another_network_of_the_same_weights_and_shows_it_alone(tmp_path, capsys):
    """Logits times 1 and times −1: the second table must not show the records of the first."""
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    first = _front_door(_Lying(1.0), folder)
    _front_door(_Lying(1.0), folder, suite="again")
    turned = _front_door(_Lying(-1.0), folder)
    assert first.cells["clean"].value == 1.0
    assert turned.cells["clean"].value < 0.5
    report = (folder.path / "report.md").read_text()
    assert "## Attack suite clean" in report
    assert "## Attack suite again" not in report  # which was measured on the other one
    with pytest.raises(UserError, match="another network"):
        read_run(folder.path, "again")
    back = _front_door(_Lying(1.0), folder)
    assert back.records["clean"].equals(first.records["clean"])
    assert read_run(folder.path, "again").cells["clean"].value == 1.0


def test_other_entries_under_the_same_name_are_refused_as_before(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    _front_door(_Lying(1.0), folder)
    with pytest.raises(UserError, match="has another suite clean for this checkpoint"):
        _front_door(_Lying(1.0), folder, examples=20)
