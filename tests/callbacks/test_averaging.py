"""Averaged weights: values, BatchNorm statistics, validation, and resuming."""

import copy
from functools import partial

import pytest
import torch
import yaml
from lightning import Callback, Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging
from safetensors.torch import load_file

from gauntlet.callbacks import ExponentialAveraging, KeepResumable
from gauntlet.callbacks.averaging import moving_average
from gauntlet.config.compose import CONF, regime_of, training_part
from gauntlet.data import Digits
from gauntlet.defenses import NormalTraining, warmup_and_drops
from gauntlet.models import small_resnet
from tests.cli.test_resume import PullThePlug
from tests.conftest import QUICK

SGD = partial(torch.optim.SGD, lr=0.1, momentum=0.9)
FLAT = partial(warmup_and_drops, warmup_epochs=0, drop_epochs=[])


class Track(Callback):
    """Keeps the network after every step, and that of every validation."""

    def __init__(self):
        self.steps, self.validated = [], []

    def on_train_batch_end(self, trainer, pl_module, *_):
        self.steps.append(copy.deepcopy(pl_module.classifier.state_dict()))

    def on_validation_batch_end(self, trainer, pl_module, *_):
        self.validated.append(copy.deepcopy(pl_module.classifier.state_dict()))


def fit(folder, *callbacks, epochs=2, resume=False):
    torch.manual_seed(0)
    made = NormalTraining(small_resnet(10, [0.3] * 3, [0.3] * 3, width=4), SGD, FLAT, seed=1)
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        callbacks=list(callbacks),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        default_root_dir=folder,
    )
    KeepResumable.file(folder).parent.mkdir(parents=True, exist_ok=True)
    checkpoint = KeepResumable.file(folder) if resume else None
    trainer.fit(made, datamodule=Digits(batch_size=400), ckpt_path=checkpoint, weights_only=True)
    return made.classifier.state_dict()


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_the_first_steps_have_a_smaller_decay():
    """(1 + n)/(10 + n) of the old until that is more than the decay."""
    old, new = torch.tensor(0.0), torch.tensor(1.0)
    assert moving_average(old, new, 1, 0.9).item() == pytest.approx(9 / 11)
    assert moving_average(old, new, torch.tensor(8), 0.9).item() == pytest.approx(9 / 18)
    assert moving_average(old, new, 80, 0.9).item() == pytest.approx(0.1)
    assert moving_average(old, new, 10**6, 0.9).item() == pytest.approx(0.1)
    assert moving_average(old, new, 5, 0.0).item() == 1
    assert moving_average(torch.tensor(3), torch.tensor(7), 5, 0.9).item() == 7


def test_weights_and_batchnorm_statistics_are_the_average_by_hand(tmp_path):
    """Running statistics are averaged like weights; the count of batches is the current one."""
    track = Track()
    averaged = fit(tmp_path, ExponentialAveraging(0.8), track)
    expected = {name: tensor.double() for name, tensor in track.steps[0].items()}
    for count, step in enumerate(track.steps[1:], 1):
        kept = min(0.8, (1 + count) / (10 + count))
        expected = {name: kept * expected[name] + (1 - kept) * tensor for name, tensor in step.items()}
    assert len(track.steps) == 8
    for name, tensor in averaged.items():
        if name.endswith("num_batches_tracked"):
            assert tensor.equal(track.steps[-1][name])
        else:
            assert tensor.double().allclose(expected[name], rtol=1e-5, atol=1e-6), name
    assert any("running_var" in name for name in averaged)
    assert not same(averaged, track.steps[-1])


def test_validation_uses_the_average_and_training_its_own_weights(tmp_path):
    plain, track = Track(), Track()
    fit(tmp_path, plain)
    averaged = fit(tmp_path, track, ExponentialAveraging(0.8))
    assert all(same(one, other) for one, other in zip(plain.steps, track.steps, strict=True))
    assert same(track.validated[-1], averaged)
    assert same(plain.validated[-1], plain.steps[-1])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return fit(tmp_path_factory.mktemp("whole"), ExponentialAveraging(0.8))


@pytest.mark.parametrize(
    ("after", "where", "order"),
    [(1, "start", 1), (2, "end", -1), (4, "end", 1), (4, "validation", -1), (5, "start", -1), (7, "end", 1)],
)
def test_a_run_that_was_stopped_ends_in_the_same_average(tmp_path, whole, after, where, order):
    """At any position of the checkpointing callback; four steps an epoch."""
    callbacks = [ExponentialAveraging(0.8), KeepResumable(every_seconds=0)]
    with pytest.raises(PullThePlug.Out):
        fit(tmp_path, *callbacks[::order], PullThePlug(after, where))
    callbacks = [ExponentialAveraging(0.8), KeepResumable(every_seconds=0)]
    assert same(fit(tmp_path, *callbacks[::order], resume=True), whole)


def test_a_stop_after_the_last_step_ends_in_the_average_too(tmp_path, whole):
    """Then no step is left, and Lightning's own callback would keep the trained weights."""
    assert same(fit(tmp_path, KeepResumable(), ExponentialAveraging(0.8)), whole)
    assert same(fit(tmp_path, KeepResumable(), ExponentialAveraging(0.8), resume=True), whole)
    lightning = fit(tmp_path / "lightning", KeepResumable(), EMAWeightAveraging(decay=0.8))
    assert not same(fit(tmp_path / "lightning", KeepResumable(), EMAWeightAveraging(decay=0.8), resume=True), lightning)


@pytest.mark.parametrize("decay", [-0.1, 1.0, float("nan")])
def test_an_invalid_decay_is_refused(decay):
    with pytest.raises(ValueError, match="expected at least 0 and below 1"):
        ExponentialAveraging(decay)


def test_an_averaged_run_has_its_own_identity_and_saves_and_evaluates_the_average(door, outputs):
    words = ("defense=normal", "trainer.max_epochs=1", "attack_suite=clean", *QUICK, f"outputs={outputs}")
    for extra in ((), ("callbacks=averaging",), ("callbacks=averaging", "callbacks.averaging.decay=0.5")):
        result = door("train", *words, *extra)
        assert result.code == 0, result.err
    runs = [load_file(file) for file in sorted(outputs.glob("digits/normal-*/*/checkpoints/final.safetensors"))]
    assert len(runs) == 3
    assert not any(same(one, other) for one, other in zip(runs, [*runs[1:], runs[0]], strict=True))
    (run,) = (file.parent for file in outputs.glob("digits/*/*/config.yaml") if "decay: 0.5" in file.read_text())
    final = load_file(run / "checkpoints" / "final.safetensors")
    last = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert all(last["state_dict"][f"classifier.{name}"].equal(tensor) for name, tensor in final.items())
    assert not last["current_model_state"]["classifier.network.fc.weight"].equal(final["network.fc.weight"])


def test_passive_callbacks_are_no_part_of_a_run():
    config = {"callbacks": {"speed": {"_target_": "gauntlet.callbacks.Speed"}}, "seed": 0}
    assert training_part(config) == training_part({"callbacks": None, "seed": 0}) == {"seed": 0}
    averaging = {"_target_": "lightning.pytorch.callbacks.EMAWeightAveraging", "decay": 0.9}
    assert training_part({"callbacks": {"x": averaging}}) == {"callbacks": {"x": averaging}}


@pytest.mark.parametrize("file", sorted((CONF / "callbacks").glob("*.yaml")), ids=lambda file: file.stem)
def test_of_our_own_callbacks_averaging_alone_changes_training(file):
    nodes = yaml.safe_load(file.read_text())
    nodes.pop("defaults", None)
    assert training_part({"callbacks": nodes}).keys() == ({"callbacks"} if "averaging" in nodes else set())


@pytest.mark.parametrize(
    "target",
    [
        "lightning.pytorch.callbacks.EarlyStopping",
        "lightning.pytorch.callbacks.early_stopping.EarlyStopping",
        "lightning.pytorch.callbacks.ModelPruning",
        "lightning.pytorch.callbacks.BackboneFinetuning",
        "mine.Clip",
        "mine.Speed",
        "mine.ExponentialAveraging",
    ],
)
def test_any_other_callback_belongs_to_the_run_and_to_its_name(target):
    node = {"_target_": target}
    config = {"callbacks": {"x": node, "none": None, "speed": {"_target_": "gauntlet.callbacks.speed.Speed"}}}
    assert training_part(config) == {"callbacks": {"x": node}}
    named = config | {"dataset": {}, "names": {"defense": "at_linf"}}
    assert regime_of(named) == f"at_linf+{target.rpartition('.')[2]}"
