"""Every command of README.md and docs/ works as on its page: composed always, run where that can be done here.

A command is made small by the words in `SMALL`; commands that cannot be run here are in `COMPOSED` with the reason. A
command that is no command of Gauntlet's and not in `PROGRAMS`, and a placeholder that is not in `PLACEHOLDERS`, fails.
"""

import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser

from gauntlet.config.compose import CONF, check_named_row, plain, register_resolvers
from gauntlet.config.instantiate import check_targets
from gauntlet.errors import UserError
from gauntlet.models import small_resnet
from gauntlet.models.weights import save_weights
from tests.docs.pages import PAGES, ROOT, Command, blocks, commands, commands_of, write_files

pytestmark = pytest.mark.skipif(not (ROOT / "docs").is_dir(), reason="no docs in this installation")

DOORS = {
    "python train.py": "train",
    "python evaluate.py": "evaluate",
    "python report.py": "report",
    "gauntlet-train": "train",
    "gauntlet-evaluate": "evaluate",
    "gauntlet-report": "report",
    "torchrun --nproc-per-node=4 train.py": "train",
    "torchrun --nproc-per-node=4 evaluate.py": "evaluate",
}
"""What Hydra composes."""

PROGRAMS = {
    "python -m gauntlet.status": "run",
    "python -m gauntlet.models.convert": "run",
    "python scripts/wandb_workspace.py": "help",
    "python scripts/configuration_reference.py": "help",
    ".venv/bin/python -m scripts.bench": "never",
    "make": "dry",
    "pip install": "never",
    "export PYTHONPATH=$PWD": "never",
}
"""Commands without Hydra: `run` runs them, `help` reads their options, `dry` shows their plan."""

FEW = ("evaluation.examples=40", "evaluation.chunk=20", "evaluation.probed=2")  # examples as in the finished run
SMALL = {
    "train": ("trainer=cpu", "trainer.max_epochs=1", "dataset.recipe.batch_size=130", *FEW),
    "evaluate": FEW,
    "report": (),
}
"""Words behind a command that keep it to seconds; `logger=csv` too, unless the command says something about it."""

SHORTER = {
    "defense=normal,at_linf,at_l2,pat_alexnet seed=0,1,2": "defense=normal,at_linf seed=0,1",
}
"""Sweeps of which fewer jobs show the same."""

RUN = "outputs/digits/finished/seed0"
PLACEHOLDERS = {r"<(other )?run>": RUN, r"<(folder|ILSVRC)[^>]*>": "somewhere", "<you>": "someone"}
"""Replacements of placeholders, by pattern; the run is a finished one."""

COMPOSED = {
    "hydra/launcher=slurm": "needs a cluster: tests/slurm runs such sweeps on one",
    "hydra/launcher=local": "two processes a job: tests/cluster/test_launchers.py starts them",
    "torchrun": "four processes: tests/cluster/test_torchrun.py starts two",
    "glob(*)": "ten trainings of ResNet-50",
    "trades.safetensors": "the file is the TRADES authors': tests/config/test_external.py has one like it",
    "model=resnet18": "hours on a CPU",
    "model.name=resnext50_32x4d": "hours on a CPU",
    "dataset=cifar10": "needs CIFAR-10, and more than a CPU",
    "dataset=imagenet100": "needs ILSVRC, and more than a CPU",
    "<folder": "needs what the reader has there; docs/own_dataset.md has pictures",
    "resnet32.pt": "the files are the ReColorAdv authors': tests/models/test_convert.py reads them",
    "weights/": "made of those files",
    "runs=outputs/evaluate suite=paper": "made of those files",
    "+experiment/miniature": "tests/docs/test_table.py runs two rows of it",
    "runs=[outputs/table": "made by it",
    "attack_suite=ua2": "minutes: tests/cli/test_ua2.py runs it with fewer steps",
    "attack_suite=corruptions_imagenet": "needs images of 224×224",
    "delta.safetensors": "made of one of those files",
    "attack_suite=strong": "minutes for each example that stays correct",
}
"""Fragments of commands that are composed and not run, and why."""

BY_ANOTHER_TEST = ("own_threat_model.md", "own_certificate.md")  # tests/docs/test_own_*.py

ALL = [command for page in PAGES for command in commands(page)]
STORIES = [page for page in PAGES if commands(page) and page.name not in BY_ANOTHER_TEST]


def begins(command, known):
    """The longest known beginning of a command; a command without one fails."""
    actual = [each for each in known if command.text == each or command.text.startswith(f"{each} ")]
    return max(actual, key=len, default=None)


def spoken(command):
    """The command with every placeholder replaced."""
    text = command.text
    for placeholder, thing in PLACEHOLDERS.items():
        text = re.sub(placeholder, thing, text)
    assert not re.search(r"<[^>]+>|…", text), f"{command}: PLACEHOLDERS does not have this placeholder"
    return text


def words_of(command):
    """The words after the program, as the shell passes them; `$(ls …)` stays as it is."""
    text = spoken(command).removeprefix(begins(command, DOORS)).strip()
    return shlex.split(re.sub(r"\$\(ls -d ([^)]*)\)", lambda actual: actual[1].strip(), text))


def is_composed_only(command):
    return any(fragment in command.text for fragment in COMPOSED) or "--cfg" in command.text


@pytest.mark.parametrize("command", ALL, ids=str)
def test_every_command_is_known(command):
    door, program = begins(command, DOORS), begins(command, PROGRAMS)
    assert (door is None) != (program is None), f"{command}: say in DOORS or PROGRAMS what this is"
    spoken(command)


def test_all_exceptions_and_placeholders_are_used():
    text = "\n".join(command.text for command in ALL)
    assert not [fragment for fragment in COMPOSED if fragment not in text]
    assert not [sweep for sweep in SHORTER if sweep not in text]
    assert not [placeholder for placeholder in PLACEHOLDERS if not re.search(placeholder, text)]
    assert not [door for door in (*DOORS, *PROGRAMS) if not re.search(rf"^{re.escape(door)}( |$)", text, re.M)]


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=lambda page: page.stem)
def test_its_commands_name_options_that_there_are(page, tmp_path, monkeypatch):
    write_files(page, tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for command in commands(page):
        if door := begins(command, DOORS):
            compose_command(command, DOORS[door], tmp_path)


def compose_command(command, door, folder):
    words = [word for word in words_of(command) if word not in ("-m", "--cfg", "job")]
    own = "--config-dir" in words
    if own:
        words = [word for word in words if word not in ("--config-dir", "conf")]
        words.append(f"hydra.searchpath=[file://{folder / 'conf'}]")
    if door == "evaluate":  # what the run folder or the card would say
        given = {word.lstrip("+").partition("=")[0].partition("/")[0] for word in words}
        card = {"dataset": "dataset=digits", "model": "model=small_resnet"}
        words += [] if "experiment" in given else [word for key, word in card.items() if key not in given]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        register_resolvers()
        for job in jobs_of(words) if " -m " in f" {command.text} " else [words]:
            compose_job(door, job, command)


def jobs_of(words):
    """The jobs of a sweep: every value of every choice in one of them at least."""
    parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
    choices = []
    for override, word in zip(parser.parse_overrides(words), words, strict=True):
        key = override.get_key_element()
        swept = override.is_sweep_override()
        choices.append([f"{key}={value}" for value in override.sweep_string_iterator()] if swept else [word])
    count = max(len(values) for values in choices)
    return [[values[number % len(values)] for values in choices] for number in range(count)]


def compose_job(door, words, command):
    try:
        config = compose(door, words, return_hydra_config=True)
        HydraConfig.instance().set_config(config)
        whole = plain(config)
    except Exception as error:
        pytest.fail(f"{command}: {' '.join(str(error).split())}")
    check_targets(whole, whole.get("allow", ()))
    if door == "train":
        check_named_row(whole)


@pytest.mark.parametrize(
    "text",
    [
        "python train.py defense=norml",
        "python train.py defense=normal optimizer.lrr=1",
        "python train.py -m defense=normal,nonsense",
        "python train.py defense=at_linf threat_model=l2",
        "python train.py defense=normal model=custom model.network._target_=os.system",
        "python evaluate.py checkpoint=<run> attack_suit=quick",
        "python report.py run=outputs",
        "python tran.py defense=normal",
        "python evaluate.py checkpoint=<something>",
        "python evaluate.py checkpoint=…",
    ],
)
def test_a_wrong_command_is_noticed(text, tmp_path):
    command = Command("page.md", text)
    with pytest.raises((pytest.fail.Exception, AssertionError, UserError)):  # noqa: PT012
        test_every_command_is_known(command)
        compose_command(command, DOORS[begins(command, DOORS)], tmp_path)


@pytest.mark.parametrize("command", [command for command in ALL if begins(command, ["make"])], ids=str)
def test_make_knows_its_targets(command):
    if shutil.which("make") is None or not (ROOT / "Makefile").exists():
        pytest.skip("make, or the Makefile, is not here")
    shown = subprocess.run(["make", "-n", *shlex.split(spoken(command))[1:]], cwd=ROOT, capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    assert ".venv/bin/" in shown.stdout


SCRIPTS = [command for command in ALL if command.text.startswith("python scripts/")]


@pytest.mark.parametrize("command", SCRIPTS, ids=str)
def test_scripts_have_the_options(command):
    script, *words = shlex.split(spoken(command))[1:]
    messages = subprocess.run(
        [sys.executable, ROOT / script, "--help"], capture_output=True, text=True, check=True
    ).stdout
    assert not [word for word in words if word.startswith("--") and word not in messages]


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.name not in BY_ANOTHER_TEST], ids=lambda page: page.stem
)
def test_its_python_runs(page, tmp_path, monkeypatch):
    scripts = [block.text for block in blocks(page) if block.language == "python" and not block.file]
    if not scripts:
        pytest.skip("no Python on this page")
    finalize(page, tmp_path, monkeypatch)
    for script in scripts:
        run_python(script)


def finalize(page, folder, monkeypatch):
    """A reader's folder with the files of the page."""
    write_files(page, folder)
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)


def run_python(script):
    location = Path("block.py")
    location.write_text(script)
    with torch.random.fork_rng():
        runpy.run_path(str(location), run_name="__main__")


@pytest.fixture
def reader(trained, tmp_path, monkeypatch):
    """A working folder: a finished run, weights of another project, a fitted reference network."""
    run = tmp_path / RUN
    shutil.copytree(trained, run)
    (tmp_path / "outputs" / "references").symlink_to(trained.parents[2] / "references")
    torch.manual_seed(0)
    save_weights(small_resnet(10, [0.305] * 3, [0.342] * 3), tmp_path / "weights.safetensors")
    (tmp_path / "scripts").symlink_to(ROOT / "scripts")
    return tmp_path


def run_command(command, door):
    """Run the command with small settings."""
    if is_composed_only(command):
        return ""
    if known := begins(command, DOORS):
        for all_jobs, some in SHORTER.items():
            command = command._replace(text=command.text.replace(all_jobs, some))
        words = [found_by_ls(word) for word in words_of(command)]
        logger = () if DOORS[known] == "report" or any(word.startswith("logger") for word in words) else ("logger=csv",)
        result = door(DOORS[known], *words, *SMALL[DOORS[known]], *logger)
        assert result.code == 0, f"{command}\n{result.err}"
        return result.out
    if PROGRAMS[begins(command, PROGRAMS)] != "run":
        return ""
    words = [sys.executable, *shlex.split(spoken(command))[1:]]
    paths = {"PYTHONPATH": str(Path(sys.modules["gauntlet"].__file__).parents[1])}
    messages = subprocess.run(words, env=os.environ | paths, capture_output=True, text=True)
    assert messages.returncode == 0, f"{command}\n{messages.stderr}"
    return messages.stdout


def found_by_ls(word):
    """A word with a pattern, replaced by the one matching path."""
    key, equals, pattern = word.partition("=")
    if key not in ("checkpoint", "against") or "*" not in pattern:
        return word
    (path,) = sorted(Path().glob(pattern))
    return f"{key}{equals}{path}"


def test_training_ends_in_a_table(door, reader, monkeypatch):
    monkeypatch.chdir(reader)
    assert "unseen mean" in run_command(given("python train.py defense=normal"), door)
    assert len(list(reader.glob("outputs/digits/normal-small_resnet/*/report.md"))) == 1


def test_a_run_is_measured_under_another_suite_and_reported(door, reader, monkeypatch):
    monkeypatch.chdir(reader)
    assert "unbounded" in run_command(given("python evaluate.py checkpoint=<run> attack_suite=controls"), door)
    assert "normal" in run_command(given("python report.py runs=outputs/digits"), door)
    assert (reader / "outputs" / "report" / "report.html").exists()
    assert "1 done" in run_command(given("python -m gauntlet.status outputs"), door)


def given(text):
    """A command that some page gives."""
    return next(command for command in ALL if command.text == text)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("page", STORIES, ids=lambda page: page.stem)
def test_a_page_runs_from_top_to_bottom(page, door, reader, monkeypatch):
    """Commands use the results of commands above them."""
    finalize(page, reader, monkeypatch)
    for block in blocks(page):
        if block.language == "python" and not block.file:
            run_python(block.text)
        for command in commands_of(block, page):
            run_command(command, door)
