"""The clean check, the cost estimate, and the report of what changed, before an evaluation starts."""

import pytest
import torch
from torch import nn

from gauntlet.attacks import PGD, FastLagrangianPerceptualAttack
from gauntlet.data import Examples
from gauntlet.distances import LPIPS, SelfLPIPS
from gauntlet.errors import NotFiniteError, UserError
from gauntlet.evaluation import AttackSuite, Progress, clean_check, evaluate
from gauntlet.evaluation.cost import cost_of
from gauntlet.evaluation.evidence import SCHEMAS
from gauntlet.goals import Untargeted
from gauntlet.kinds import Kind
from gauntlet.losses import CrossEntropy
from gauntlet.models import Normalise
from gauntlet.runs.progress import Display, duration, format_progress
from gauntlet.threats import Linf, NeuralPerceptual
from gauntlet.transforms import Clean
from tests.evaluation import tiny
from tests.fixtures import tapped

ALL = slice(0, 40)


class Brightness(nn.Module):
    """Ten classes of brightness, distinguished only with the normalisation it was made for."""

    def __init__(self, mean, std):
        super().__init__()
        self.normalise = Normalise([mean] * 3, [std] * 3)
        self.register_buffer("levels", torch.arange(10.0) / 10 - 0.45)

    def forward(self, images):
        return -((self.normalise(images).mean((1, 2, 3))[:, None] - self.levels) ** 2)


def steps_of_grey(count=40):
    labels = torch.arange(count) % 10
    grey = ((labels + 0.5) / 10 * 255).to(torch.uint8)
    return Examples(grey[:, None, None, None].expand(-1, 3, 4, 4).contiguous(), labels, torch.arange(count))


def test_it_says_how_right_the_classifier_is_and_what_the_images_are():
    output = clean_check(tiny.model(classifier=Brightness(0.5, 1.0), examples=steps_of_grey()), ALL)
    assert output.accuracy == 1.0
    assert str(output) == "clean accuracy 100.0 % on the first 40; images in [0.0471, 0.949]"
    assert output.warnings == []


def test_a_wrong_normalisation_gives_a_warning_about_near_chance_accuracy():
    output = clean_check(tiny.model(classifier=Brightness(0.5, 1 / 255), examples=steps_of_grey()), ALL)
    assert output.accuracy == pytest.approx(0.2)  # all are the darkest or the brightest class
    output = clean_check(tiny.model(classifier=Brightness(1.0, 1.0), examples=steps_of_grey()), ALL)
    assert output.accuracy == pytest.approx(0.1)
    (doubt,) = output.warnings
    assert "near chance (10.0 %)" in doubt
    assert "normalisation" in doubt


def test_images_divided_twice_are_noticed():
    dark = steps_of_grey()
    dark = Examples(dark.images // 255, dark.labels, dark.ids)
    assert any(
        "255 twice" in doubt
        for doubt in clean_check(tiny.model(classifier=Brightness(0.5, 1.0), examples=dark), ALL).warnings
    )


class Floats:
    """Examples that are already normalised."""

    def __init__(self, scale):
        self.scale, self.inner = scale, tiny.examples()

    def __len__(self):
        return len(self.inner)

    def __getitem__(self, index):
        batch = self.inner[index]
        return batch._replace(images=batch.images * self.scale)


@pytest.mark.parametrize("scale", [255.0, -1.0, float("nan")])
def test_images_that_are_not_in_the_unit_range_are_refused(scale):
    with pytest.raises(UserError, match=r"expected \[0, 1\]"):
        clean_check(tiny.model(examples=Floats(scale)), ALL)


def test_a_classifier_of_too_few_classes_and_one_that_answers_nan_are_refused():
    with pytest.raises(UserError, match="labels run up to 9, the classifier's classes are 0 to 3"):
        clean_check(tiny.model(examples=steps_of_grey()), ALL)
    mute = Brightness(0.5, 1.0)
    mute.levels.fill_(torch.nan)
    with pytest.raises(NotFiniteError):
        clean_check(tiny.model(classifier=mute, examples=steps_of_grey()), ALL)


def test_records_in_a_notebook_are_those_of_the_grid(tmp_path, capsys):
    model = tiny.model()
    there = tiny.records(tiny.run(tmp_path / "there", subject_=model))
    reports = []
    here = evaluate(model.classifier, model.examples, tiny.suite(), tiny.GRID, done=reports.append)
    assert list(here["linf"].columns) == list(SCHEMAS[Kind.ATTACK])
    assert tiny.same({name: frame.drop("seconds") for name, frame in here.items()}, there)
    assert reports[-1].chunks == reports[-1].of == 5
    assert "clean accuracy" in capsys.readouterr().out


def test_in_a_notebook_with_a_folder_the_second_call_does_nothing_twice(tmp_path, monkeypatch):
    model = tiny.model()
    first = evaluate(model.classifier, model.examples, tiny.suite(), tiny.GRID, folder=tmp_path)
    monkeypatch.setattr("gauntlet.evaluation.runner.measure_chunk", None)
    assert tiny.same(evaluate(model.classifier, model.examples, tiny.suite(), tiny.GRID, folder=tmp_path), first)


def steadfast():
    """No example is broken, so that a search makes all of its passes."""
    model = tiny.model(classifier=tapped())
    return model, Linf(0.0)


@pytest.mark.parametrize(("steps", "restarts"), [(0, 1), (5, 1), (5, 3)])
def test_passes_of_pgd_are_counted(steps, restarts):
    model, unchanged = steadfast()
    right = model.examples[slice(1, 5)]  # every seventh is wrong from the start and leaves at once
    model = tiny.model(classifier=tapped(), examples=Examples(model.examples.images[1:5], right.labels, right.ids))
    cost = cost_of(model, PGD(threat_model=unchanged, steps=steps, restarts=restarts), tiny.GRID)
    assert cost.forwards == restarts * (steps + 1)
    assert cost.backwards == restarts * steps
    assert cost.others == 0
    assert cost.seconds_per_chunk > 0
    assert cost.bytes_per_chunk > 4 * 15


def test_passes_through_a_distance_are_counted_apart():
    model, _ = steadfast()
    images = Examples(model.examples.images[1:5], model.examples.labels[1:5], model.examples.ids[1:5])
    model = tiny.model(classifier=tapped(), examples=images)
    goal = Untargeted(CrossEntropy())
    own = FastLagrangianPerceptualAttack(threat_model=NeuralPerceptual(SelfLPIPS(), 1e-6), goal=goal, steps=4)
    foreign = FastLagrangianPerceptualAttack(
        threat_model=NeuralPerceptual(LPIPS(tapped(seed=5)), 1e-6), goal=goal, steps=4
    )
    one, two = (cost_of(model, attack, tiny.GRID) for attack in (own, foreign))
    assert one.others == 0
    assert one.forwards >= 2 * 4  # its own φ is looked at twice a step
    assert two.others >= 4
    assert two.forwards < one.forwards
    assert cost_of(model, Clean(), tiny.GRID).forwards == 0


def test_counting_leaves_the_classifier_as_it_was():
    model, threat = steadfast()
    before = [len(part._forward_hooks) for part in model.classifier.modules()]
    cost_of(model, PGD(threat_model=threat, steps=1), tiny.GRID)
    assert [len(part._forward_hooks) for part in model.classifier.modules()] == before


def test_what_sets_an_identity_apart_from_the_nearest_one_is_named(tmp_path):
    """The nearest has one number changed; what was there first differs in two. A README changes nothing."""
    tiny.run(tmp_path, suite_=AttackSuite({"linf": PGD(threat_model=Linf(0.05), steps=9)}))
    tiny.run(tmp_path)
    for folder in tmp_path.iterdir():
        (folder / "README.md").write_text("about this folder")

    def changes(model, **more):
        return tiny.GRID.folders(model, tiny.suite(**more), tmp_path)["linf"].changed()

    assert changes(tiny.model()) == []
    assert changes(tiny.model(), linf=tiny.attacks(steps=4)["linf"]) == ["entry.steps: 3 → 4"]
    assert changes(tiny.model(checkpoint="beef")) == ["checkpoint: c0ffee → beef"]
    assert changes(tiny.model(fingerprint="other")) == ["dataset: f00d → other"]
    assert tiny.GRID.folders(tiny.model(), tiny.suite(new=tiny.attacks()["l2"]), tmp_path)["new"].changed() == []


def test_progress_in_words():
    progress = Progress("linf", Kind.ATTACK, 1, 5, 200, 90, 0, 812.3, 40.4)
    assert format_progress(progress) == "45.0 % still correct, 812 images/s, 40 s left"
    progress = Progress("linf", Kind.ATTACK, 5, 5, 200, 90, 3, None, None)
    assert format_progress(progress) == "45.0 % still correct, 3 outside their threat model"
    assert (
        format_progress(progress._replace(kind=Kind.CERTIFICATE, outside=0)) == "45.0 % stated correct within the bound"
    )
    assert (
        format_progress(progress._replace(kind=Kind.MINIMUM_DISTANCE, outside=0)) == "45.0 % correct within the bound"
    )
    assert format_progress(progress._replace(kind=Kind.TRANSFORM, outside=0)) == "45.0 % correct"
    assert [duration(seconds) for seconds in (3, 720, 12600)] == ["3 s", "12 min", "3.5 h"]


def test_progress_counts_what_was_there_and_knows_the_speed_of_what_is_new(tmp_path):
    first, again = [], []
    tiny.run(tmp_path, done=first.append)
    tiny.run(tmp_path, done=again.append)
    assert [(progress.entry, progress.chunks, progress.of) for progress in first if progress.entry == "l2"] == [
        ("l2", number, 5) for number in range(1, 6)
    ]
    assert first[0].speed > 0
    assert first[0].seconds_left == pytest.approx(32 / first[0].speed)
    assert first[4].seconds_left == 0
    assert [progress._replace(speed=None, seconds_left=None) for progress in first] == again


def test_plain_lines_for_what_is_new_and_one_for_an_attack_that_was_there(capsys):
    with Display(["linf"]) as display:
        for chunk in (1, 2):
            display.chunk_done(Progress("linf", Kind.ATTACK, chunk, 2, chunk * 10, 5, 0, None, None))
    assert capsys.readouterr().out == "linf: chunk 2 of 2, 25.0 % still correct\n"
