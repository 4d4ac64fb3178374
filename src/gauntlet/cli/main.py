"""The front doors: compose a config, do the job, and say in one line what cannot be done.

Exit codes: 0 done; 2 the request cannot be done as asked; 1 anything else, with its traceback.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path

import hydra
from filelock import FileLock, Timeout
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from gauntlet.config.command_line import expand_home, prepared
from gauntlet.config.compose import CONF, register_resolvers
from gauntlet.errors import UserError
from gauntlet.runs.failures import ASKED_FOR_TRACES, failures_noted
from gauntlet.terminal import steady_output

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)


def train() -> None:
    """`python train.py defense=pat_alexnet`."""

    def job(composed: DictConfig) -> None:
        from gauntlet.cli.train import train  # and torch with it: help and configs are shown without

        train(composed)

    _through("train", job)


def evaluate() -> None:
    """`python evaluate.py checkpoint=<run folder or file> attack_suite=quick`."""

    def job(composed: DictConfig) -> None:
        from gauntlet.cli.evaluate import evaluate  # and torch with it: help and configs are shown without

        evaluate(composed)

    _through("evaluate", job)


def report() -> None:
    """`python report.py runs=outputs/digits`."""

    def job(composed: DictConfig) -> None:
        from gauntlet.cli.report import report  # and torch with it: help and configs are shown without

        report(composed)

    _through("report", job)


def _through(config: str, job: Callable[[DictConfig], None]) -> None:
    with steady_output():
        _compose_and_run(config, job)


def _compose_and_run(config: str, job: Callable[[DictConfig], None]) -> None:
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra hands errors over instead of printing them
    _quiet()
    register_resolvers()
    refused: list[Exception] = []
    folders: dict[Path, Path] = {}

    def task(composed: DictConfig) -> None:
        _quiet()  # the task may run in a process of its own
        _stay_where_the_command_was_given()
        expand_home(composed)
        folder, sweeping = Path(HydraConfig.get().runtime.output_dir), HydraConfig.get().mode is RunMode.MULTIRUN
        folders[folder] = Path(composed.get("outputs") or "outputs").absolute()
        try:
            noted = failures_noted(folder, always=sweeping and config == "train")
            with steady_output(), nullcontext() if config == "report" or composed.get("dry_run") else noted:
                job(composed)
        except (UserError, OmegaConfBaseException, OSError) as error:
            if sweeping:  # a launcher has to learn that the job failed
                raise
            refused.append(error)

    try:
        sys.argv[1:] = prepared(sys.argv[1:])
        _check_words(sys.argv)
        _name_sweep(sys.argv)
        if config == "train" and _asks_for_help(sys.argv):
            sys.argv.append("defense=normal")  # Hydra shows a whole config, and there is none without a defense
        hydra.main(version_base="1.3", config_path=str(CONF), config_name=config)(task)()
        for error in refused:
            raise error
        for folder, outputs in folders.items():
            _remove_if_empty(folder, outputs)
    except KeyboardInterrupt:
        print("gauntlet: stopped; the same command goes on from here", file=sys.stderr)
        sys.exit(130)
    except (UserError, HydraException, OmegaConfBaseException, OSError) as error:
        if ASKED_FOR_TRACES:
            raise
        for folder, outputs in folders.items():
            _remove_if_empty(folder, outputs)
        print(f"gauntlet: {_one_line(error)}", file=sys.stderr)
        sys.exit(2)


def _quiet() -> None:
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for message in (
        *(".*does not have many workers.*", ".*treespec, LeafSpec.*", ".*Checkpoint directory.*exists.*"),
        ".*`srun` command is available.*",  # whoever looks at a machine that submits jobs has not forgotten srun
    ):
        warnings.filterwarnings("ignore", message)
    warnings.filterwarnings("ignore", ".*smaller than the logging interval.*")  # the first step is logged all the same
    warnings.filterwarnings("ignore", ".*ended before the epoch ended.*")  # our sampler goes on where it stopped


def _stay_where_the_command_was_given() -> None:
    """Relative paths mean this place, in every process; run folders are named, and nothing is written beside them."""
    if HydraConfig.get().job.chdir:
        os.chdir(HydraConfig.get().runtime.cwd)
        print("hydra.job.chdir=true: relative paths still mean where the command was given", flush=True)


def _asks_for_help(words: Sequence[str]) -> bool:
    return bool({"-h", "--help"} & set(words)) and not any(word.startswith("defense=") for word in words)


def _check_words(words: Sequence[str]) -> None:
    """What Hydra would take in a way nobody means, or break on."""
    if "outputs=" in words:  # the run folder would be made in the root of the file system
        raise UserError("outputs= is empty: say where run folders go with outputs=<folder>, or leave it out")
    for word in words:
        group, given, option = word.lstrip("+~").partition("=")
        group = group.partition("@")[0]
        if given and not group:
            raise UserError(f"{word} has no key: expected key=value")
        if given and (CONF / group).is_dir() and _NUMBER.fullmatch(option):
            names = sorted(file.stem for file in (CONF / group).glob("*.yaml"))
            raise UserError(f"{word}: an option of {group} is a name, one of {', '.join(names)}")


def _name_sweep(words: Sequence[str]) -> None:
    """Put the jobs of a sweep into one W&B group, the same for the same command, unless `WANDB_RUN_GROUP` says which.

    The jobs find it in their environment, on whatever machine they run. How they get there (`hydra/launcher=…`) and
    which of them are run again (`hydra.sweeper.only=failed`) is no part of the name.
    """
    if {"-m", "--multirun"} & set(words):
        said = sorted(word for word in words[1:] if not word.lstrip("+~").startswith(("hydra.", "hydra/")))
        name = hashlib.sha256(" ".join(said).encode()).hexdigest()[:8]
        os.environ.setdefault("WANDB_RUN_GROUP", f"sweep-{name}")


def _remove_if_empty(folder: Path, outputs: Path) -> None:
    """Hydra makes the run folder before anything is checked: take it back, up to `outputs`, where it stayed empty."""
    if not folder.is_dir() or any(file.name != ".lock" for file in folder.iterdir()):
        return
    with suppress(OSError, Timeout):  # a lock that somebody holds is his folder, and rmdir stops at what is not empty
        with FileLock(folder / ".lock", timeout=0):
            (folder / ".lock").unlink()
        for place in (folder, *folder.parents):
            if place == folder or place.is_relative_to(outputs):
                place.rmdir()


def _one_line(error: BaseException) -> str:
    """The message without Hydra's and OmegaConf's line breaks and stack of keys."""
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}; choose a place you can read and write (outputs=<folder>)"
    if found := re.search(r"Missing mandatory value: (\w+)", str(error)):
        whole = re.search(rf"full_key: (\S+\.{found[1]})\b", str(error)) or found  # not the key that asked for it
        return f"{whole[1]}=… is missing: say which"
    if found := re.search(r"dataset\.train_bounds\.(\w+)' not found", str(error)):
        return (
            f"distance={found[1]} has no bound in dataset.train_bounds: choose one that has (ssim and linf measure, but"
            f" bound no perceptual training), or give yours with +dataset.train_bounds.{found[1]}=…"
        )
    if isinstance(error, OverrideParseException):
        value = error.override.partition("=")[2] or "value"
        return f"{error.override} is no key=value: put what has spaces or signs in quotes of its own, 'key=\"{value}\"'"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = " ".join(line for line in lines if not line.startswith(("object_type", "reference_type", "set_struct")))
    return said if said else type(error).__name__


if __name__ == "__main__":
    train()
