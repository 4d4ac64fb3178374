"""A value of the wrong type is refused with its key, before the constructor is called."""

import re

import pytest
from omegaconf import OmegaConf

from gauntlet.config.arguments import check_arguments
from gauntlet.errors import UserError
from tests.conftest import QUICK

LINF = {"_target_": "gauntlet.threats.Linf", "bound": 0.1}
SCHEDULE = {"_target_": "gauntlet.defenses.warmup_and_drops", "_partial_": True}


@pytest.mark.parametrize(
    ("node", "words"),
    [
        ({**LINF, "bound": "abc"}, "x.bound is abc: expected a number"),
        ({**LINF, "bound": True}, "x.bound is true: expected a number"),
        ({"_target_": "gauntlet.attacks.PGD", "threat_model": LINF, "steps": "few"}, "x.steps is few: expected an int"),
        (
            {"_target_": "gauntlet.attacks.PGD", "threat_model": {**LINF, "bound": [1]}},
            r"x.threat_model.bound is \[1\]",
        ),
        ({"_target_": "gauntlet.evaluation.Grid", "examples": "all"}, "x.examples is all: expected an integer or null"),
        ({"_target_": "gauntlet.evaluation.Grid", "chunk": 2.5}, "x.chunk is 2.5: expected an integer"),
        ({"_target_": "gauntlet.data.Digits", "batch_size": None}, "x.batch_size is null: expected an integer"),
        ({**SCHEDULE, "drop_epochs": 5}, "x.drop_epochs is 5: expected a list, each of it a number"),
        ({**SCHEDULE, "drop_epochs": [1, "a"]}, r"x.drop_epochs is \[1, 'a'\]: expected a list"),
        (
            {"_target_": "torch.optim.SGD", "_partial_": True, "lr": "fast"},
            "x.lr is fast: expected a number or a Tensor",
        ),
        ({"_target_": "lightning.Trainer", "max_epochs": "abc"}, "x.max_epochs is abc: expected an integer or null"),
        ({**LINF, "bound": {"a": 1}}, "x.bound is {'a': 1}: expected a number"),
        ({**LINF, "bound": ""}, "x.bound is '': expected a number"),
        ({**LINF, "bound": float("nan")}, "x.bound is nan: expected a number"),
        (
            {"_target_": "gauntlet.attacks.PGD", "threat_model": 0.5},
            "x.threat_model is 0.5: expected a node with the _target_ of a SearchableThreatModel",
        ),
        ([LINF, {**LINF, "bound": "abc"}], r"x\[1\].bound is abc"),
    ],
)
def test_a_value_of_another_type_is_one_line(node, words):
    with pytest.raises(UserError, match=words):
        check_arguments(node, "x")


@pytest.mark.parametrize(
    "node",
    [
        {**LINF, "bound": 1},
        {
            "_target_": "gauntlet.evaluation.Grid",
            "examples": None,
            "chunk": 20,
            "mode": {"_target_": "gauntlet.evaluation.Full"},
        },
        {"_target_": "gauntlet.data.CIFAR10", "root": "somewhere", "batch_size": 50},
        {**SCHEDULE, "drop_epochs": [1, 2.5]},
        {"_target_": "torch.optim.SGD", "_partial_": True, "lr": 0.1, "momentum": 0},
        {"_target_": "lightning.Trainer", "devices": "auto", "precision": "bf16-mixed", "limit_val_batches": 0.5},
        {"plain": "words", "and": [1, {"more": None}]},
    ],
)
def test_a_value_of_the_annotated_type_passes(node):
    check_arguments(node)


def test_text_that_reads_as_a_number_says_how_to_write_it():
    with pytest.raises(UserError) as refusal:
        check_arguments({**LINF, "bound": "0.05"}, "x")
    assert 'write 0.05 without quotes, or "${oc.decode:${oc.env:NAME}}"' in str(refusal.value)
    with pytest.raises(UserError) as refusal:
        check_arguments({**LINF, "bound": "fast"}, "x")
    assert "oc.decode" not in str(refusal.value)


@pytest.mark.parametrize(
    ("variable", "value", "word"),
    [
        ("LR", "0.05", "optimizer.lr=${oc.env:LR}"),
        ("EPOCHS", "2", "dataset.recipe.epochs=${oc.env:EPOCHS}"),
        ("SEED", "3", "seed=${oc.env:SEED,0}"),
    ],
)
def test_what_the_refusal_of_an_environment_variable_says_works_when_typed(
    door, outputs, monkeypatch, variable, value, word
):
    monkeypatch.setenv(variable, value)
    result = door("train", "defense=normal", word, f"outputs={outputs}", *QUICK)
    assert (result.code, len(result.err.strip().splitlines())) == (2, 1), result.err
    instead = re.search(r"write '(\S+)'$", result.err.strip())[1]
    result = door("train", "defense=normal", instead, "--cfg", "job", "--resolve")
    assert result.code == 0
    key = word.partition("=")[0]
    assert str(OmegaConf.select(OmegaConf.create(result.out), key)) == value
    assert not isinstance(OmegaConf.select(OmegaConf.create(result.out), key), str)
