"""All named defenses: half precision, two processes, a stop within an epoch, no example to attack."""

import copy
import json

import polars as pl
import pytest
import torch

from gauntlet.callbacks import KeepResumable
from gauntlet.config.build import build_defense
from gauntlet.data import Batch
from gauntlet.defenses import AdversarialDefense
from gauntlet.reports.plots.training import _ACCURACIES, _LOSSES
from gauntlet.testing import check_defense
from tests.cli.test_resume import PullThePlug
from tests.defenses.processes import on_two_processes
from tests.defenses.regimes import BATCH, DEFENSES, STEPS, regime, trainer_of

PERCEPTUAL = ("pat", "pat_alexnet", "pat_vr", "at", "trades")
CHECKED = [pytest.param(name, marks=pytest.mark.slow) if name in PERCEPTUAL else name for name in DEFENSES]
"""Those that take seconds each are checked by make test-slow, like the general forms."""
ALL = {"train/loss", "train/clean_accuracy", "val/accuracy", "lr-SGD", "speed/step_seconds", "speed/images_per_second"}
UNDER_ATTACK = ("train/adversarial_accuracy", "train/attack_success", "train/size", "val/adversarial_accuracy")

NAMED = [pytest.param(name, marks=pytest.mark.slow) if name in ("at", "trades", "pat") else name for name in DEFENSES]
"""The general forms are named defenses by default."""


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("name", DEFENSES)
def test_it_trains_in_half_precision_and_logs_its_metrics(tmp_path, name):
    made, data, config = regime(name)
    before = copy.deepcopy(made.classifier.state_dict())
    trainer_of(config, tmp_path, 1, precision="bf16-mixed").fit(made, datamodule=data)
    after = made.classifier.state_dict()
    assert all(tensor.isfinite().all() and tensor.dtype == before[key].dtype for key, tensor in after.items())
    assert not same(before, after)

    logged = pl.read_csv(tmp_path / "metrics.csv")
    assert set(logged.columns) >= ALL
    assert logged["train/loss"].drop_nulls().len() == STEPS
    for start in UNDER_ATTACK:
        actual = [column for column in logged.columns if column.startswith(start)]
        assert bool(actual) == isinstance(made, AdversarialDefense), start
        assert all(0 <= value <= 1.001 or start == "train/size" for key in actual for value in logged[key].drop_nulls())
    if isinstance(made, AdversarialDefense):
        expected = len(made.attacks)
        assert sum(column.startswith("val/adversarial_accuracy") for column in logged.columns) == expected
        shown = {column for column in logged.columns if column.startswith("train/size")}
        assert len(shown) == expected or name == "at_all_random"
        assert all(logged[column].max() > 0 for column in shown)
        if expected == 1:  # what a report draws is what is logged
            assert {*_LOSSES, *_ACCURACIES} <= set(logged.columns)


@pytest.mark.parametrize("name", CHECKED)
def test_it_keeps_the_contract_of_defenses(name):
    made, data, config = regime(name)
    check_defense(
        lambda classifier: build_defense(config, classifier, data),
        classifier=made.classifier,
        batch=data.splits.train[slice(0, BATCH)],
    )


@pytest.mark.parametrize("name", NAMED)
def test_a_stop_within_an_epoch_changes_nothing(tmp_path, name):
    """Three of four steps, a stop after the third; the metrics are those of an uninterrupted run, too."""
    made, data, config = regime(name)
    config["callbacks"] |= {"resume": config["callbacks"]["resume"] | {"every_seconds": 0}}
    trainer_of(config, tmp_path / "whole", 2).fit(made, datamodule=data)
    whole = made.classifier.state_dict()

    made, data, _ = regime(name)
    with pytest.raises(PullThePlug.Out):
        trainer_of(config, tmp_path, 2, PullThePlug(3, "end")).fit(made, datamodule=data)
    made, data, _ = regime(name)
    trainer = trainer_of(config, tmp_path, 2)
    trainer.fit(made, datamodule=data, ckpt_path=KeepResumable.file(tmp_path), weights_only=True)
    assert trainer.global_step == 2 * STEPS
    assert same(made.classifier.state_dict(), whole)
    one, other = (
        pl.read_csv(location / "metrics.csv").drop("^speed/.*$") for location in (tmp_path, tmp_path / "whole")
    )
    assert one.equals(other, null_equal=True)


@pytest.mark.parametrize(
    ("name", "count"), [*((name, 8) for name in DEFENSES if name != "normal"), ("at_linf", 1), ("trades_linf", 1)]
)
def test_a_batch_without_an_example_to_attack_is_trained_on(tmp_path, name, count):
    made, data, config = regime(name)
    some = data.splits.train[slice(0, count)]
    made.trainer = trainer_of(config, tmp_path, 1)
    messages = {}
    made.log = lambda key, value, **_: messages.update({key: float(value)})
    with torch.no_grad():
        wrong = (made.classifier.eval()(some.images).argmax(1) + 1) % 10
    made.train()
    loss = made.training_step(Batch(some.images, wrong, some.ids), 0)
    loss.backward()
    assert loss.isfinite()
    assert all(parameter.grad.isfinite().all() for parameter in made.classifier.parameters())
    assert messages["train/clean_accuracy"] == 0
    assert not any(key.startswith("train/attack_success") for key in messages)
    spared = not made.attack_wrong
    assert spared == (not any(key.startswith("train/size") for key in messages))


TWO_RANKS = """
import json, sys
from pathlib import Path
import torch
from tests.defenses.processes import on_two_processes
from tests.defenses.regimes import regime, trainer_of
for name in sys.argv[2:]:
    folder = Path(sys.argv[1]) / name
    made, data, config = regime(name)
    attacked = []
    if hasattr(made, "attacks"):
        def perturbed(attack, batch, chosen, made=made, attacked=attacked, kept=made.perturbed):
            attacked.append([made.global_step, attack, int(chosen.sum()), batch.ids.tolist()])
            return kept(attack, batch, chosen)
        made.perturbed = perturbed
        if not made.attack_wrong:  # one process has nothing to attack while the other has
            made.to_attack = lambda right, made=made: right & (made.global_rank == made.global_step % 2)
    trainer = trainer_of(config, folder, 3, devices=2, strategy="ddp")
    trainer.fit(made, datamodule=data)
    (folder / f"rank{trainer.global_rank}.json").write_text(json.dumps(attacked))
    torch.save(dict(made.classifier.named_parameters()), folder / f"rank{trainer.global_rank}.pt")
"""


@pytest.mark.parametrize(
    "names", [["at_all_random"], pytest.param([n for n in DEFENSES if n != "at_all_random"], marks=pytest.mark.slow)]
)
def test_two_processes_take_the_same_steps_each_on_its_own_examples(tmp_path, names):
    """An attack is the same for both, also where one of them has nothing to attack."""
    on_two_processes(TWO_RANKS, tmp_path, *names)
    for name in names:
        paths = [tmp_path / name / f"rank{rank}" for rank in (0, 1)]
        assert same(*(torch.load(location.with_suffix(".pt"), weights_only=True) for location in paths)), name
        messages = [json.loads(location.with_suffix(".json").read_text()) for location in paths]
        assert [entry[:2] for entry in messages[0]] == [entry[:2] for entry in messages[1]], name
        for (_, _, first, ids), (_, _, second, others) in zip(*messages, strict=True):
            assert not set(ids) & set(others)
            assert first + second > 0
    if names == ["at_all_random"]:
        assert len({attack for _, attack, _, _ in messages[0]}) > 1
