"""The commands: their results, and the one line of an error."""

import errno
import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import version

import polars as pl
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from gauntlet.config.build import build_classifier, build_data, build_reference, build_suite
from gauntlet.evaluation import Grid, Kind, evaluate, read_records, read_run
from gauntlet.models.weights import load_weights
from gauntlet.runs.references import fitted_before, with_references
from tests.conftest import QUICK, own_environment

FOLDER = {"card.json", "config.yaml", "data.json", "metrics.csv", "provenance.json", "report.md"}


def records(run):
    """All records of a run by attack, without the column `seconds`."""
    identities = sorted((run / "records").glob("*/identity.json"))
    kinds = {file.parent: Kind(json.loads(file.read_text())["kind"]) for file in identities}
    return {location.name: read_records(location, kind).drop("seconds") for location, kind in kinds.items()}


def assert_same_records(one, other):
    assert one.keys() == other.keys()
    for name, frame in one.items():
        assert frame.equals(other[name], null_equal=True), name


def test_a_run_folder_holds_everything(trained):
    assert {file.name for file in trained.iterdir() if file.is_file()} - {".lock"} == FOLDER
    assert (trained / "checkpoints" / "final.safetensors").exists()
    assert (trained / "checkpoints" / "last.ckpt").exists()
    assert (trained / "pictures" / "quick.png").stat().st_size > 1000
    assert len(pl.read_csv(trained / "metrics.csv")) >= 2
    assert json.loads((trained / "provenance.json").read_text())[0]["packages"]["torch"] == version("torch")
    assert all(len(frame) == 40 for frame in records(trained).values())
    assert len(records(trained)) == 4


def test_the_same_command_again_does_nothing_twice(door, run):
    before = {file: file.stat().st_mtime_ns for file in run.rglob("*.parquet")} | {
        file: file.stat().st_mtime_ns for file in (run / "checkpoints").iterdir()
    }
    result = door(
        "train", "defense=normal", "trainer.max_epochs=3", f"outputs={run.parents[2]}", *QUICK, f"hydra.run.dir={run}"
    )
    assert result.code == 0, result.err
    assert {file: file.stat().st_mtime_ns for file in before} == before
    assert "union" in result.out


def test_restart_keeps_the_old_run_under_another_name(door, run):
    words = ("defense=normal", "trainer.max_epochs=3", f"outputs={run.parents[2]}", *QUICK, f"hydra.run.dir={run}")
    assert door("train", *words, "restart=true").code == 0
    old = run.with_name(f"{run.name}.old1")
    assert (old / "checkpoints" / "final.safetensors").exists()
    new, former = (load_file(location / "checkpoints" / "final.safetensors") for location in (run, old))
    assert all(torch.equal(new[name], former[name]) for name in former)  # the same config gives the same weights


def test_evaluate_gives_the_same_records_as_the_evaluation_after_training(door, run):
    expected = records(run)
    shutil.rmtree(run / "records")
    result = door(
        "evaluate", f"checkpoint={run}", "evaluation.examples=40", "evaluation.chunk=20", f"outputs={run.parents[2]}"
    )
    assert result.code == 0, result.err
    assert_same_records(records(run), expected)


def test_evaluate_takes_a_foreign_file_with_its_model_and_dataset(door, run, tmp_path):
    expected = records(run)
    file = tmp_path / "foreign.safetensors"
    shutil.copy(run / "checkpoints" / "final.safetensors", file)
    words = ("dataset=digits", "model=small_resnet", "model.width=4", "evaluation.examples=40", "evaluation.chunk=20")
    result = door("evaluate", f"checkpoint={file}", f"outputs={run.parents[2]}", *words)
    assert result.code == 0, result.err
    (location,) = (run.parents[2] / "evaluate").glob("foreign-*")
    assert_same_records(records(location), expected)


def test_evaluate_takes_the_checkpoint_training_goes_on_from(door, run):
    result = door(
        "evaluate",
        f"checkpoint={run}/checkpoints/last.ckpt",
        f"outputs={run.parents[2]}",
        *("attack_suite=clean", "evaluation.examples=40", "evaluation.chunk=20"),
    )
    assert result.code == 0, result.err
    (location,) = (run.parents[2] / "evaluate").glob("last-*")
    (clean,) = records(location).values()
    (expected,) = (frame for name, frame in records(run).items() if name.startswith("clean"))
    assert clean["prediction"].equals(expected["prediction"])


def test_a_second_suite_shares_the_files_of_the_attacks_it_has_in_common(door, run):
    before = set(run.rglob("*.parquet"))
    words = ("attack_suite=clean", "evaluation.examples=40", "evaluation.chunk=20")
    assert door("evaluate", f"checkpoint={run}", f"outputs={run.parents[2]}", *words).code == 0
    assert set(run.rglob("*.parquet")) == before
    assert "attack suite clean" in (run / "report.md").read_text().lower()


def test_report_shows_several_runs_as_one_table(door, run, tmp_path):
    shutil.copytree(run, run.with_name("second"))
    location = tmp_path / "report"
    result = door("report", f"runs={run.parents[2]}", f"folder={location}")
    assert result.code == 0, result.err
    for name in ("table.md", "table.csv", "table.tex", "report.html"):
        assert (location / name).read_text().count("resnet/seed0") >= 2, name
    assert "unseen mean" in result.out
    assert str(location / "report.html") in result.out
    before = set(tmp_path.rglob("*"))
    assert door("report", f"runs={run}", "folder=null").code == 0
    assert set(tmp_path.rglob("*")) == before


SMALL = ("evaluation.examples=40", "evaluation.chunk=20")


def test_the_library_gives_the_records_of_the_command(run):
    config = yaml.safe_load((run / "config.yaml").read_text())
    ready = with_references(config, fitted_before(config, data := build_data(config)))
    classifier = build_classifier(config, data, 0)
    load_weights(classifier, load_file(run / "checkpoints" / "final.safetensors"), "final")
    suite, reference = build_suite(ready, classifier, data), build_reference(ready, data)
    actual = evaluate(classifier, data, suite, Grid(chunk=20, examples=40), reference=reference)
    expected = {name.rsplit("-", 1)[0]: frame for name, frame in records(run).items()}
    assert_same_records({name: frame.drop("seconds") for name, frame in actual.items()}, expected)


def test_clean_accuracy_is_printed_before_any_attack_begins(door, run):
    shutil.rmtree(run / "records")
    result = door("evaluate", f"checkpoint={run}", "attack_suite=clean", "suite=again", *SMALL)
    clean = result.out.index("clean accuracy")
    assert "% on the first 20; images in [0, 1]" in result.out
    assert clean < result.out.index("clean: chunk 1 of 2")


def test_several_checkpoints_in_one_sweep(door, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    second = shutil.copytree(run, run.with_name("second"))
    shutil.rmtree(second / "records")
    missing = run.with_name("third")
    result = door("evaluate", "-m", f"checkpoint={second},{missing},{run}", "attack_suite=quick", *SMALL)
    assert result.code == 2
    hydras, ours = result.err.strip().splitlines()
    assert hydras.startswith("Error executing job with overrides")
    assert ours.startswith(f"gauntlet: no checkpoint at {missing}")
    assert result.out.count("union") >= 2  # the others are evaluated all the same
    assert_same_records(records(second), records(run))
    assert not missing.exists()


def test_survivors_have_a_union_and_no_columns_of_their_own(door, run):
    full = read_run(run, "quick")
    result = door("evaluate", f"checkpoint={run}", "mode=survivors", *SMALL)
    assert result.code == 0, result.err
    actual = read_run(run, "quick-survivors")
    assert actual.survivors == ["linf", "l2"]
    assert actual.complete
    assert actual.cells["linf"] is actual.cells["l2"] is actual.cells["unseen mean"] is None
    assert actual.cells["union"] == full.cells["union"]
    assert actual.cells["perceptual"] == full.cells["perceptual"]
    assert "linf, l2 ran on survivors" in " ".join(result.out.split())
    assert read_run(run, "quick").cells == full.cells


def test_a_changed_attack_is_named(door, run):
    words = (f"checkpoint={run}", "suite=other", "attack_suite.attacks.linf.steps=21", *SMALL)
    result = door("evaluate", *words)
    assert "linf is measured anew, because it changed: entry.steps: 20 → 21" in result.out
    assert result.out.count("measured anew") == 1


@pytest.mark.parametrize("location", ["the run's own folder", "a foreign file's"])
def test_a_dry_run_shows_what_it_would_cost_and_writes_nothing(door, run, tmp_path, location):
    file = shutil.copy(run / "checkpoints" / "final.safetensors", tmp_path / "foreign.safetensors")
    foreign = (f"checkpoint={file}", "dataset=digits", "model=small_resnet", "model.width=4", f"outputs={tmp_path}/new")
    words = foreign if location == "a foreign file's" else (f"checkpoint={run}",)
    before = {thing: thing.stat().st_mtime_ns for thing in tmp_path.rglob("*")}
    result = door("evaluate", *words, "evaluation.chunk=20", "evaluation.examples=60", "dry_run=true")
    assert result.code == 0, result.err
    assert {thing: thing.stat().st_mtime_ns for thing in tmp_path.rglob("*")} == before
    assert "forwards" in result.out
    assert "nothing was written" in result.out
    (linf,) = (line for line in result.out.splitlines() if line.split("│")[1:2] == [" linf       "])
    assert [part.strip() for part in linf.split("│")[2:6]] == ["0.1", "60", "0", "3"]


def test_a_full_disk_is_one_line_and_the_same_command_resumes(door, run, monkeypatch):
    expected, sync, count = records(run), os.fsync, 0
    shutil.rmtree(run / "records")

    def full(descriptor):
        nonlocal count
        count += 1
        if count == 5:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    result = door("evaluate", f"checkpoint={run}", *SMALL)
    assert (result.code, len(result.err.strip().splitlines())) == (2, 1)
    assert "No space left on device" in result.err
    monkeypatch.undo()
    assert len(list(run.rglob("*.parquet"))) == 2  # of clean, after its identity; linf had its own and no more
    assert door("evaluate", f"checkpoint={run}", *SMALL).code == 0
    assert_same_records(records(run), expected)


@pytest.mark.slow
def test_two_simultaneous_evaluations_of_one_run_give_its_records(run):
    expected = records(run)
    shutil.rmtree(run / "records")
    command = [sys.executable, "evaluate.py", f"checkpoint={run}", *SMALL]
    messages = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    both = [subprocess.Popen(command, env=own_environment(), **messages) for _ in range(2)]
    result = [process.communicate() for process in both]
    assert [process.returncode for process in both] == [0, 0], result
    assert all("union" in out for out, _ in result)
    assert_same_records(records(run), expected)


REFUSED = {
    "unknown option": (("defense=par",), "par"),
    "unknown key": (("defense=normal", "trainer.epochs=3"), "epochs"),
    "no defense": ((), "defense"),
    "named row with another threat model": (("defense=at_linf", "threat_model=l2"), "defense=at threat_model=l2"),
    "named row with another distance": (("defense=pat_self", "distance=reference"), "defense=pat distance=reference"),
    "units": (("defense=at_linf", "threat_model.bound=8"), "8/255"),
    "bound 0 in training": (("defense=at_linf", "threat_model.bound=0"), "above 0"),
    "negative bound": (("defense=at_l2", "threat_model.bound=-1"), "negative"),
    "self distance without taps": (("defense=pat_self", "model=linear"), "taps"),
    "images too small for the distance": (
        ("defense=pat_alexnet", "dataset.module.size=8", "dataset.shape=[3,8,8]"),
        "8, 8",
    ),
    "shape that is not the images'": (("defense=normal", "dataset.shape=[3,28,28]"), "[3, 32, 32]"),
    "a GPU that is not there": (("defense=normal", "trainer=gpu"), "CUDA"),
    "foreign code": (("defense=normal", "model._target_=os.system"), "allow=[os]"),
    "a library's function": (("defense=normal", "model._target_=torch.hub.load"), "torch.hub.load"),
    "a union of strangers": (("defense=normal", "attack_suite.aggregates.union.members=[fog]"), "fog"),
    "an unused bound": (("defense=normal", "threat_model.bound=0.1"), "threat_model"),
    "a perceptual bound below nothing": (("defense=pat_self", "threat_model.bound=-1"), "negative"),
    "a perceptual attack on another threat": (("defense=pat", "threat_model=linf"), "NeuralPerceptual"),
    "a seed that is no number": (("defense=normal", "seed=abc"), "integer"),
    "a negative rate": (("defense=normal", "optimizer.lr=-1"), "optimizer"),
    "an optimizer's unknown argument": (("defense=normal", "+optimizer.bogus=1"), "bogus"),
    "no epoch": (("defense=normal", "trainer.max_epochs=-1"), "max_epochs"),
    "steps of several batches": (("defense=normal", "+trainer.accumulate_grad_batches=2"), "accumulate"),
    "a time after which training ends": (("defense=normal", "+trainer.max_time='00:00:01:00'"), "trainer.max_time: tr"),
    "inference mode": (("defense=normal", "trainer.inference_mode=true"), "attacks in validation need gradients"),
    "one batch of training": (("defense=normal", "+trainer.fast_dev_run=true"), "trainer.fast_dev_run: training is"),
    "a few batches of training": (("defense=normal", "+trainer.limit_train_batches=3"), "trainer.limit_train_batches:"),
    "Lightning's own order": (("defense=normal", "trainer.use_distributed_sampler=true"), "trainer.use_distributed_s"),
    "a callback in the trainer": (
        ("defense=normal", "+trainer.callbacks=[]"),
        "trainer.callbacks: callbacks are callb",
    ),
    "steps of several batches by a callback": (
        (
            "defense=normal",
            "+callbacks.x._target_=lightning.pytorch.callbacks.GradientAccumulationScheduler",
            "+callbacks.x.scheduling={0:2}",
        ),
        "callbacks.x is GradientAccumulationScheduler: a step is a batch: change dataset.recipe.batch_size",
    ),
    "an average with a schedule of its own": (
        (
            "defense=normal",
            "+callbacks.x._target_=lightning.pytorch.callbacks.StochasticWeightAveraging",
            "+callbacks.x.swa_lrs=0.1",
        ),
        "callbacks=averaging",
    ),
    "a callback that ends training by the clock": (
        (
            "defense=normal",
            "+callbacks.x._target_=lightning.pytorch.callbacks.Timer",
            "+callbacks.x.duration='00:00:01:00'",
        ),
        "callbacks.x is Timer: the end of training may not depend on the machine",
    ),
    "a callback that is none": (
        ("defense=normal", "+callbacks.x._target_=torch.nn.Flatten"),
        "callbacks.x is a Flatten: expected a Lightning callback",
    ),
    "a device that is none": (("defense=normal", "evaluation.device=gpu"), "evaluation.device=gpu"),
    "classes in words": (("defense=normal", "dataset.classes=ten"), "dataset.classes is ten: expected how many"),
    "too few classes": (("defense=normal", "dataset.classes=5"), "run up to 9: write 10"),
    "half an example": (("defense=normal", "dataset.recipe.batch_size=2.5"), "batch_size is 2.5: expected an integer"),
    "a mean of no channel": (("defense=normal", "dataset.mean=0.5"), "model.mean is 0.5: expected a list"),
    "steps in words": (("defense=at_linf", "defense.attack.steps=few"), "defense.attack.steps is few: expected an int"),
    "a seed of 100 bits": (("defense=normal", f"seed={2**100}"), "integer of 64 bits"),
    "a switch between on and off": (("defense=normal", "restart=maybe"), "restart=maybe: expected true or false"),
    "a suite's name that leaves its folder": (("defense=normal", "suite=../x"), "suite=../x: expected a name"),
    "a package that is no list": (("defense=normal", "allow=os"), "allow=[os]"),
    "a perceptual attack without a distance": (("defense=normal", "dataset.reference=null"), "there is no distance"),
    "a network for larger images": (
        ("defense=normal", "model=torchvision", "model.name=alexnet"),
        "cannot take the dataset's [3, 32, 32] images (but takes [3, 64, 64]): choose one that does",
    ),
    "a network for grey images": (
        ("defense=normal", "model=linear", "model.mean=[0.5]", "model.std=[0.5]", "model.shape=[1,32,32]"),
        "cannot take the dataset's [3, 32, 32] images (but takes [1, 32, 32])",
    ),
    "a model of a library without its name": (("defense=normal", "model=torchvision"), "model.name=… is missing"),
    "outputs without a folder": (("defense=normal", "outputs="), "outputs= is empty"),
    "a value without a key": (("defense=normal", "=5"), "=5 has no key: expected key=value"),
    "a number for an option": (
        ("defense=normal", "model=50"),
        "model=50: an option of model is a name, one of alexnet,",
    ),
    "a number for an added option": (("defense=normal", "+dataset@x=1e3"), "+dataset@x=1e3: an option of dataset is a"),
    "a path in other letters": (("defense=normal", "dataset.root=/ü"), "quotes of its own"),
    "no steps": (("defense=pat_self", "defense.attack.steps=0"), "steps"),
    "no suite": (
        ("defense=normal", "attack_suite=null"),
        "attack_suite=null: an option of attack_suite is a name, one of autoattack",
    ),
    "a truth for an option": (("defense=normal", "logger=true"), "logger=true: an option of logger is a name, one of"),
    "a suite of another kind": (
        ("defense=normal", "++attack_suite._target_=gauntlet.threats.Linf", "++attack_suite.bound=0.1"),
        "attack_suite: ",
    ),
    "data of another kind": (
        ("defense=normal", "dataset.module={_target_:gauntlet.evaluation.Union,members:[a]}"),
        "dataset.module",
    ),
    "a trainer that was taken away": (("defense=normal", "~trainer"), "trainer is missing: expected a mapping"),
    "a device that was taken away": (
        ("defense=normal", "~evaluation.device"),
        "evaluation.device is missing: expected",
    ),
    "a number for augmentation": (
        ("defense=normal", "dataset.augmentation=2"),
        "augmentation is 2: expected a mapping",
    ),
    "a word for a module": (("defense=normal", "dataset.module=abc"), "dataset.module is abc: expected a mapping"),
    "a list for a name": (("defense=normal", "names.defense=[a]"), "names.defense is ['a']: expected"),
    "a number for a row": (("defense=at_linf", "defense.row=1.5"), "defense.row is 1.5: expected a mapping, or null"),
    "an attack without a threat model": (
        ("defense=normal", "attack_suite.attacks.l2.threat_model=null"),
        "attack_suite.attacks.l2: ",
    ),
    "a flag of Hydra's in words": (
        ("defense=normal", "+attack_suite.aggregates.union._partial_=x"),
        "_partial_ flag must",
    ),
    "an item of a list by a name": (
        ("defense=normal", "attack_suite.aggregates.union.members._target_=0"),
        "a list is given as a whole, key=[a,b]",
    ),
    "an item of a list taken away": (("defense=normal", "~dataset.mean.0"), "a list is given as a whole, key=[a,b]"),
    "a word for a schedule": (
        ("defense=normal", "defense.schedule=abc"),
        "schedule is abc: expected a node with the _target_ of a",
    ),
    "a schedule of another kind": (
        ("defense=normal", "defense.schedule={_target_:gauntlet.data.Digits,_partial_:true}"),
        "schedule: ",
    ),
    "a reference without its network": (
        ("defense=pat_alexnet", "~dataset.reference.network.network"),
        "weights=reference/alexnet_cifar was given without a network",
    ),
    "a key in other letters": (
        ("defense=normal", "+evaluation.ü=3"),
        "a key has letters from A to Z, digits, _ and dots",
    ),
    "half an interpolation": (
        ("defense=normal", "suite=${"),
        "put what has spaces or signs in quotes of its own, 'suite=\"",
    ),
    "a key of a list": (("defense=normal", "+allow.bogus=1"), "Error merging override +allow.bogus=1: "),
    "an interpolation of nothing": (("defense=normal", "seed=${.}"), "Error merging override seed=${.}: "),
    "a recipe without a batch size": (
        ("defense=normal", "~dataset.recipe.batch_size"),
        "dataset.recipe.batch_size is missing: expected how many images",
    ),
    "no package": (("defense=normal", "allow=null"), "allow=null: expected a list of packages, allow=[]"),
    "a rate without end": (("defense=normal", "optimizer.lr=inf"), "optimizer.lr is inf: expected a finite number"),
    "a rate that is no number": (("defense=normal", "optimizer.lr=nan"), "lr is nan: expected a number"),
    "a warm-up without end": (
        ("defense=normal", "dataset.recipe.warmup_epochs=inf"),
        "schedule: warmup_epochs is inf: expected a number of epochs, at least 0",
    ),
    "a mapping for a number": (
        ("defense=at_linf", "threat_model.bound={a:1}"),
        "defense.attack.threat_model.bound is {'a': 1}: expected a number",
    ),
    "a number for a threat model": (
        ("defense=normal", "attack_suite.attacks.l2.threat_model=0.5"),
        "threat_model is 0.5: expected a node with the _target_ of a SearchableThreatModel",
    ),
    "a target that is no name": (
        ("defense=normal", "model._target_=5"),
        "model._target_ is 5: expected the dotted name",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_invalid_request_is_one_line_and_leaves_no_files(door, outputs, case):
    if case == "a GPU that is not there" and torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    words, hint = REFUSED[case]
    small = [word for word in QUICK if not (word == "trainer=cpu" and "trainer=gpu" in words)]
    small = [word for word in small if not (word.startswith("model.") and any("model" in w for w in words))]
    result = door("train", *words, f"outputs={outputs}", *small)
    assert result.code == 2
    assert hint in result.err, result.err
    assert len(result.err.strip().splitlines()) == 1, result.err
    assert [location.name for location in outputs.iterdir()] == ["references"]


@pytest.mark.parametrize("outputs", ["0", "0.5", "null", "[a]"])
def test_outputs_that_are_no_path_are_one_line_and_leave_nothing(door, tmp_path, monkeypatch, outputs):
    monkeypatch.chdir(tmp_path)
    said = door("train", "defense=normal", f"outputs={outputs}", *QUICK)
    assert (said.code, len(said.err.strip().splitlines())) == (2, 1), said.err
    assert "expected a path; for a file or folder of that name write outputs=./" in said.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("word", ["--help", "-h"])
def test_help_needs_no_defense(door, word):
    result = door("train", word)
    assert (result.code, result.err) == (0, "")
    assert "pat_self" in result.out, "the choices of every group"
    assert "max_epochs" in result.out, "a whole config"
    result = door("train", word, "defense=trades_linf")
    assert "beta" in result.out


EVALUATED = {
    "a name that nothing has": (("trained_on=banana",), "trained_on banana: expected names of threat models (linf,"),
    "one of several": (("trained_on=[linf,fog]",), "trained_on fog: expected"),
    "examples in words": (("evaluation.examples=all",), "evaluation.examples is all: expected an integer or null"),
    "a suite without a name": (("suite=",), "suite='': expected a name"),
    "a switch between on and off": (("dry_run=maybe",), "dry_run=maybe: expected true or false"),
    "names in words": (("names=''",), "names is '': expected a mapping"),
    "a bound in words": (
        ("attack_suite=quick", "bounds=[1]", "dataset.bounds.linf=small"),
        "dataset.bounds.linf is small: expected a number",
    ),
    "a word for bounds": (("dataset.train_bounds=small",), "train_bounds is small: expected a mapping, or null"),
    "a number for a suite's name": (("suite=5",), "suite=5: expected a name for files"),
    "a truth for a suite's name": (("suite=true",), "suite=true: expected a name for files"),
    "a baseline without corruptions": (("baseline=alexnet",), "baseline=alexnet is for suites of whole corruptions"),
    "a mapping for weights": (("evaluation.calibrated_lpips={}",), "evaluation.calibrated_lpips={}: expected a path"),
}


@pytest.mark.parametrize("case", EVALUATED)
def test_an_invalid_evaluation_is_one_line_and_leaves_no_files(door, run, tmp_path, case):
    words, hint = EVALUATED[case]
    file = shutil.copy(run / "checkpoints" / "final.safetensors", tmp_path / "foreign.safetensors")
    foreign = ("dataset=digits", "model=small_resnet", "model.width=4", "dataset.reference=null", "logger=csv")
    location = tmp_path / "new"
    result = door("evaluate", f"checkpoint={file}", *foreign, "attack_suite=clean", f"outputs={location}", *words)
    assert (result.code, len(result.err.strip().splitlines())) == (2, 1), result.err
    assert hint in result.err
    assert not location.exists()


def test_one_name_of_a_threat_model_is_a_list_of_one(door, run, tmp_path):
    file = shutil.copy(run / "checkpoints" / "final.safetensors", tmp_path / "foreign.safetensors")
    foreign = ("dataset=digits", "model=small_resnet", "model.width=4", "dataset.reference=null", "logger=csv")
    words = ("attack_suite=clean", "trained_on=linf", f"outputs={tmp_path / 'new'}", "evaluation.examples=5")
    assert door("evaluate", f"checkpoint={file}", *foreign, *words).code == 0
    (card,) = (tmp_path / "new").rglob("card.json")
    assert json.loads(card.read_text())["trained_on"] == ["linf"]


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("runs=[]",), "runs=[]: expected a run folder"),
        (("runs=",), "runs=: expected a run folder"),
        (("folder=file",), "file/table.md could not be written (file is a file): choose another folder"),
        (("against=nowhere",), "nowhere has no card.json"),
        (("against=0",), "against=0: expected a path; for a file or folder of that name write against=./0"),
        (("folder=4",), "folder=4: expected a path"),
        (('folder="\0"',), "folder=\\x00: expected a path, which has no null character"),
        (('runs="\0"',), "runs=\\x00: expected a path, which has no null character"),
        (("+folder.seed=0",), "expected a path"),
    ],
)
def test_an_invalid_report_is_one_line(door, run, tmp_path, monkeypatch, words, hint):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    result = door("report", *([] if words[0].startswith("runs") else [f"runs={run}"]), *words)
    assert (result.code, len(result.err.strip().splitlines())) == (2, 1), result.err
    assert hint in result.err
    assert (tmp_path / "file").read_text() == ""


def test_an_invalid_output_folder_is_one_line(door, tmp_path):
    (tmp_path / "file").write_text("")
    result = door("train", "defense=normal", f"outputs={tmp_path}/file/outputs", *QUICK)
    assert (result.code, len(result.err.strip().splitlines())) == (2, 1)
    assert "outputs=" in result.err


def test_a_folder_of_another_config_is_refused_and_what_differs_is_named(door, run):
    before = (run / "config.yaml").read_text()
    result = door("train", "defense=normal", "trainer.max_epochs=3", "seed=1", *QUICK, f"hydra.run.dir={run}")
    assert (result.code, len(result.err.strip().splitlines())) == (2, 1)
    assert "seed: 0 → 1" in result.err
    assert (run / "config.yaml").read_text() == before


def test_a_damaged_checkpoint_to_resume_from_is_one_line(door, run):
    (run / "checkpoints" / "final.safetensors").unlink()
    (run / "checkpoints" / "last.ckpt").write_bytes(b"garbage")
    result = door(
        "train", "defense=normal", "trainer.max_epochs=3", *QUICK, f"hydra.run.dir={run}", f"outputs={run.parents[2]}"
    )
    assert (result.code, len(result.err.strip().splitlines())) == (2, 1), result.err
    assert "last.ckpt is damaged" in result.err


def test_a_run_folder_does_not_allow_itself_code(door, run):
    config = yaml.safe_load((run / "config.yaml").read_text())
    config |= {
        "allow": ["tempfile"],
        "model": {"_target_": "tempfile.mkdtemp", "prefix": "own", "dir": str(run.parent)},
    }
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    result = door("evaluate", f"checkpoint={run}", f"outputs={run.parents[2]}")
    assert result.code == 2
    assert "allow=[tempfile]" in result.err
    assert not list(run.parent.glob("own*"))


def test_a_changed_suite_does_not_take_the_name_of_an_existing_one(door, run):
    words = (f"checkpoint={run}", f"outputs={run.parents[2]}", "evaluation.chunk=20")
    result = door("evaluate", *words, "evaluation.examples=20", "attack_suite=quick")
    assert result.code == 2
    assert "suite=<name>" in result.err
    assert door("evaluate", *words, "evaluation.examples=20", "attack_suite=clean", "suite=small").code == 0
    assert "Attack suite small" in (run / "report.md").read_text()


def test_numbers_of_other_weights_are_not_shown(door, run):
    plan = json.loads((run / "suites" / "quick.json").read_text())
    (run / "suites" / "quick.json").write_text(json.dumps(plan | {"checkpoint": "other"}))
    result = door("report", f"runs={run}")
    assert result.code == 2
    assert "other weights" in result.err


def test_a_refused_start_leaves_the_lock_of_a_live_run_alone(door, outputs):
    from gauntlet.runs.folder import RunFolder

    folder = RunFolder(outputs / "digits" / "live")
    with folder.locked():
        for _ in range(2):
            result = door("train", "defense=normal", f"outputs={outputs}", *QUICK, f"hydra.run.dir={folder.path}")
            assert "in use" in result.err
    assert folder.path.exists()


def test_a_folder_in_use_is_refused(door, run):
    from gauntlet.runs.folder import RunFolder

    with RunFolder(run).locked():
        result = door("train", "defense=normal", "trainer.max_epochs=3", *QUICK, f"hydra.run.dir={run}")
    assert result.code == 2
    assert "in use" in result.err


def wrong_checkpoints(run, tmp_path):
    good = load_file(run / "checkpoints" / "final.safetensors")
    fewer = {n: t[:7] if n.startswith("network.fc") else t for n, t in good.items()}
    save_file(fewer, tmp_path / "seven_classes.safetensors")
    save_file({"fc.weight": torch.zeros(3, 3)}, tmp_path / "other_network.safetensors")
    whole = (run / "checkpoints" / "final.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "cut.ckpt").write_bytes((run / "checkpoints" / "last.ckpt").read_bytes()[:5000])
    (tmp_path / "page.pt").write_text("<html>quota exceeded</html>")
    return {
        "seven_classes.safetensors": "number of classes",
        "other_network.safetensors": "another architecture",
        "cut.safetensors": "damaged",
        "cut.ckpt": "damaged",
        "page.pt": "damaged",
        "nowhere.pt": "no checkpoint",
    }


def test_a_checkpoint_that_does_not_fit_is_one_line_and_leaves_no_files(door, run, tmp_path):
    for name, hint in wrong_checkpoints(run, tmp_path).items():
        words = (f"checkpoint={tmp_path / name}", "dataset=digits", "model=small_resnet", "model.width=4")
        result = door("evaluate", *words, f"outputs={tmp_path / 'new'}")
        assert result.code == 2, name
        assert hint in result.err, name
        assert len(result.err.strip().splitlines()) == 1, result.err
        assert not (tmp_path / "new").exists()


def test_a_foreign_file_without_its_model_is_refused(door, run, tmp_path):
    shutil.copy(run / "checkpoints" / "final.safetensors", tmp_path / "foreign.safetensors")
    result = door("evaluate", f"checkpoint={tmp_path / 'foreign.safetensors'}", f"outputs={tmp_path / 'new'}")
    assert result.code == 2
    assert "dataset=… and model=…" in result.err


@pytest.mark.parametrize(("name", "missing"), [("evaluate", "checkpoint"), ("report", "runs")])
def test_what_is_missing_is_named(door, tmp_path, monkeypatch, name, missing):
    monkeypatch.chdir(tmp_path)
    result = door(name)
    assert (result.code, result.err) == (2, f"gauntlet: {missing}=… is missing: say which\n")


def test_a_report_of_nothing_says_so(door, tmp_path):
    result = door("report", f"runs={tmp_path}")
    assert (result.code, len(result.err.strip().splitlines())) == (2, 1)


@pytest.mark.parametrize("part", ["callbacks", "logger"])
def test_without_callbacks_or_loggers_a_run_is_trained_all_the_same(door, outputs, part):
    small = [word for word in QUICK if not word.startswith("logger=")]
    words = ("defense=normal", "attack_suite=clean", "trainer.max_epochs=1", f"~{part}", f"outputs={outputs}")
    result = door("train", *words, *small)
    assert result.code == 0, result.err
