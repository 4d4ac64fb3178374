"""Every named defense trains from the command line."""

import polars as pl
import pytest

from gauntlet.config.compose import CONF
from tests.conftest import QUICK

DEFENSES = sorted(file.stem for file in (CONF / "defense").glob("*.yaml"))


@pytest.mark.slow
@pytest.mark.parametrize("defense", DEFENSES)
def test_it_trains_an_epoch_and_is_evaluated(door, outputs, defense):
    small = ("trainer.max_epochs=1", "dataset.recipe.batch_size=65", "attack_suite=clean")
    result = door("train", f"defense={defense}", *QUICK, *small, f"outputs={outputs}")
    assert result.code == 0, result.err
    (metrics,) = outputs.glob(f"digits/{defense}-*/*/metrics.csv")
    logged = pl.read_csv(metrics)
    assert {"val/accuracy", "lr-SGD"} <= set(logged.columns)
    assert logged["val/accuracy"].drop_nulls().len() == 1
    attacked = defense != "normal"
    assert any(name.startswith("val/adversarial_accuracy") for name in logged.columns) == attacked
    assert any(metrics.parent.glob("pictures/training-0001.png")) == attacked
