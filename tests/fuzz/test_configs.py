"""Commands with mistakes: all is checked and work begins, or one line says what to change and nothing is left."""

import shutil
import tempfile
from functools import cache
from pathlib import Path

import pytest
import sklearn.datasets
from hypothesis import given
from hypothesis import strategies as st

from gauntlet.cli import evaluate, train
from gauntlet.runs import folder, references
from tests.fuzz.commands import changes, key_of, keys_of
from tests.fuzz.doors import CheckedError, Door, one_line
from tests.fuzz.settings import cases

SMALL = ("logger=csv", "trainer=cpu", "evaluation.examples=8")
BASES = {
    "normal": ("defense=normal", "model=linear", "attack_suite=clean", "dataset.reference=null", *SMALL),
    "adversarial": ("defense=at_linf", "model=linear", "attack_suite=quick", *SMALL),
    "perceptual": ("defense=pat_self", "model=small_resnet", "model.width=4", "attack_suite=clean", *SMALL),
    "trades": (
        "defense=trades_linf",
        "model=linear",
        "attack_suite=strong",
        "dataset.reference=null",
        "callbacks=averaging",
        *SMALL,
    ),
}


def first_step(trainer, defense, data, *_):
    """What training begins with: the optimizer and the schedule."""
    optimizer = defense.optimizer_of(defense.classifier.parameters())
    schedule = defense.schedule_of(optimizer, steps_per_epoch=len(data.batches(lambda: 0)))
    optimizer.step()
    schedule.step()
    raise CheckedError


@pytest.fixture
def hurried(monkeypatch):
    """What costs time and depends on no config."""
    monkeypatch.setattr(train, "_fit", first_step)
    monkeypatch.setattr(references, "fit_command", work)
    monkeypatch.setattr(folder, "provenance", dict)
    monkeypatch.setattr(sklearn.datasets, "load_digits", cache(sklearn.datasets.load_digits))
    return monkeypatch


def written(place):
    """Files below a folder and their sizes, locks aside."""
    return {file: file.stat().st_size for file in place.rglob("*") if file.is_file() and file.name != ".lock"}


@cases(few=24)
def test_a_training_command_is_checked_and_begins_or_is_refused_in_a_line(profile, hurried, tmp_path):
    hurried.chdir(tmp_path)
    doors = {name: Door("train", words) for name, words in BASES.items()}
    keys = {name: sorted(keys_of(door.config)) for name, door in doors.items()}
    own = {name: [key for key in found if not key.startswith("hydra")] for name, found in keys.items()}

    @profile
    @given(commands(doors, own))
    def check(command):
        name, words = command
        outputs = Path(tempfile.mkdtemp(dir=tmp_path))
        code, out, err = doors[name](
            hurried, *words, *([] if any("outputs" in word for word in words) else [f"outputs={outputs}"])
        )
        if code is not None:
            assert code == 2, (out, err)
            one_line(err)
            assert not written(outputs)
        shutil.rmtree(outputs, ignore_errors=True)

    check()


@cases(few=12)
def test_a_command_that_evaluates_or_reports_is_done_or_refused_in_a_line(profile, hurried, trained, tmp_path):
    hurried.chdir(tmp_path)
    hurried.setattr(evaluate, "run_suite", work)
    run = shutil.copytree(trained.parents[2], tmp_path / "runs", symlinks=True) / trained.relative_to(
        trained.parents[2]
    )
    small = ("evaluation.examples=8", "evaluation.chunk=4", "logger=csv", f"checkpoint={run}")
    file = shutil.copy(run / "checkpoints" / "final.safetensors", tmp_path / "foreign.safetensors")
    own = ("dataset=digits", "model=small_resnet", "model.width=4", f"outputs={tmp_path}/elsewhere")
    doors = {
        "clean": Door("evaluate", ("attack_suite=clean", *small)),
        "quick": Door("evaluate", ("attack_suite=quick", f"outputs={tmp_path}/elsewhere", *small)),
        "foreign": Door("evaluate", ("attack_suite=quick", *own, *small[:-1], f"checkpoint={file}")),
        "report": Door("report", (f"runs={run}", "folder=null")),
    }
    keys = {
        name: [key for key in sorted(keys_of(door.config)) if not key.startswith("hydra")]
        for name, door in doors.items()
    }
    before = written(tmp_path / "runs")

    @profile
    @given(commands(doors, keys))
    def check(command):
        name, words = command
        code, out, err = doors[name](hurried, *words)
        if code not in (None, 0):
            assert code == 2, (out, err)
            one_line(err)
        assert written(tmp_path / "runs").keys() >= before.keys()
        if code == 2:
            assert not written(tmp_path / "elsewhere")
        shutil.rmtree(tmp_path / "elsewhere", ignore_errors=True)

    check()


def work(*_):
    """Everything was checked."""
    raise CheckedError


def commands(doors, keys):
    """A door, and one or two changes."""
    return st.sampled_from(sorted(doors)).flatmap(
        lambda name: st.tuples(st.just(name), st.lists(changes(keys[name]), min_size=1, max_size=2, unique_by=key_of))
    )
