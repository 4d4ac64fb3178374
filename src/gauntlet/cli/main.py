"""Entry points of the commands: compose a config, run the job, report user errors in one line.

Exit codes: 0 success; 2 an error in the request; 1 anything else, with its traceback.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shlex
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

from gauntlet.config.command_line import expand_home, prepared, quoted
from gauntlet.config.compose import CONF, register_resolvers
from gauntlet.config.parts import path_of
from gauntlet.errors import UserError, first_line
from gauntlet.runs.failures import TRACES_REQUESTED, failures_noted
from gauntlet.terminal import steady_output

_NO_NAME = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|[+-]?inf|nan|null|true|false", re.IGNORECASE)
"""What Hydra reads as something else than the name of an option."""


def train() -> None:
    """`python train.py defense=pat_alexnet`."""

    def job(composed: DictConfig) -> None:
        from gauntlet.cli.train import train  # and torch with it: help and configs are shown without

        train(composed)

    _run_command("train", job)


def evaluate() -> None:
    """`python evaluate.py checkpoint=<run folder or file> attack_suite=quick`."""

    def job(composed: DictConfig) -> None:
        from gauntlet.cli.evaluate import evaluate  # and torch with it: help and configs are shown without

        evaluate(composed)

    _run_command("evaluate", job)


def report() -> None:
    """`python report.py runs=outputs/digits`."""

    def job(composed: DictConfig) -> None:
        from gauntlet.cli.report import report  # and torch with it: help and configs are shown without

        report(composed)

    _run_command("report", job)


def _run_command(config: str, job: Callable[[DictConfig], None]) -> None:
    with steady_output():
        _compose_and_run(config, job)


def _compose_and_run(config: str, job: Callable[[DictConfig], None]) -> None:
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises errors instead of printing them
    _quiet()
    register_resolvers()
    refused: list[Exception] = []
    folders: dict[Path, Path] = {}
    began = False

    def task(composed: DictConfig) -> None:
        nonlocal began
        began = True
        _quiet()  # the task may run in a process of its own
        _restore_working_directory()
        expand_home(composed)
        folder = Path(HydraConfig.get().runtime.output_dir)
        sweeping = HydraConfig.get().mode is RunMode.MULTIRUN
        outputs = composed.get("outputs")
        by_default = outputs is None and config != "train"
        folders[folder] = Path("outputs" if by_default else str(outputs)).absolute()
        read_only = config == "report" or composed.get("dry_run")
        noted = nullcontext() if read_only else failures_noted(folder, always=sweeping and config == "train")
        try:
            if not by_default:
                path_of(outputs, "outputs")
            with steady_output(), noted:
                job(composed)
        except (UserError, OmegaConfBaseException, OSError) as error:
            if sweeping:  # the launcher needs the error to count the job as failed
                raise
            refused.append(error)

    try:
        sys.argv[1:] = prepared(sys.argv[1:])
        _check_words(sys.argv)
        _name_sweep(sys.argv)
        if config == "train" and _is_help_requested(sys.argv):
            sys.argv.append("defense=normal")  # the help shows a complete config, which needs a defense
        hydra.main(version_base="1.3", config_path=str(CONF), config_name=config)(task)()
        for error in refused:
            raise error
        for folder, outputs in folders.items():
            _remove_if_empty(folder, outputs)
    except KeyboardInterrupt:
        print("gauntlet: stopped; the same command goes on from here", file=sys.stderr)
        sys.exit(130)
    except (UserError, HydraException, OmegaConfBaseException, OSError) as error:
        if TRACES_REQUESTED:
            raise
        for folder, outputs in folders.items():
            _remove_if_empty(folder, outputs)
        print(f"gauntlet: {_one_line(error)}", file=sys.stderr)
        sys.exit(2)
    except Exception as error:
        if began or TRACES_REQUESTED:
            raise
        # Hydra has no error of its own for overrides such as members.name=x, where members is a list
        advice = "check the keys; a list is given as a whole, key=[a,b]"
        print(f"gauntlet: the config cannot be composed ({_one_line(error)}): {advice}", file=sys.stderr)
        sys.exit(2)


def _quiet() -> None:
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for message in (
        *(".*does not have many workers.*", ".*treespec, LeafSpec.*", ".*Checkpoint directory.*exists.*"),
        ".*`srun` command is available.*",  # commands on the login node are meant to run without srun
        ".*smaller than the logging interval.*",  # the first step is logged in any case
        ".*ended before the epoch ended.*",  # `EpochBatches` resumes within an epoch
    ):
        warnings.filterwarnings("ignore", message)


def _restore_working_directory() -> None:
    """Undo `hydra.job.chdir`: relative paths refer to the directory of the command, in every process."""
    if HydraConfig.get().job.chdir:
        os.chdir(HydraConfig.get().runtime.cwd)
        print("hydra.job.chdir=true: relative paths still mean where the command was given", flush=True)


def _is_help_requested(words: Sequence[str]) -> bool:
    return bool({"-h", "--help"} & set(words)) and not any(word.startswith("defense=") for word in words)


def _check_words(words: Sequence[str]) -> None:
    """Refuse words that Hydra would misread or fail on with an unclear message."""
    if "outputs=" in words:  # the run folder would be made in the root of the file system
        raise UserError("outputs= is empty: say where run folders go with outputs=<folder>, or leave it out")
    for word in words:
        group, given, option = word.lstrip("+~").partition("=")
        group = group.partition("@")[0]
        if given and not group:
            raise UserError(f"{word} has no key: expected key=value")
        if given and (CONF / group).is_dir() and _NO_NAME.fullmatch(option):
            names = sorted(file.stem for file in (CONF / group).glob("*.yaml"))
            raise UserError(f"{word}: an option of {group} is a name, one of {', '.join(names)}")


def _name_sweep(words: Sequence[str]) -> None:
    """Set `WANDB_RUN_GROUP` for a sweep unless it is set: one group for all jobs, the same for the same command.

    The jobs inherit it with their environment. The launcher (`hydra/launcher=…`) and the choice of jobs
    (`hydra.sweeper.only=failed`) do not change the name.
    """
    if {"-m", "--multirun"} & set(words):
        named = sorted(word for word in words[1:] if not word.lstrip("+~").startswith(("hydra.", "hydra/")))
        name = hashlib.sha256(" ".join(named).encode()).hexdigest()[:8]
        os.environ.setdefault("WANDB_RUN_GROUP", f"sweep-{name}")


def _remove_if_empty(folder: Path, outputs: Path) -> None:
    """Remove a run folder that stayed empty, and its empty parents up to `outputs`: Hydra makes it before any check."""
    if not folder.is_dir() or any(file.name != ".lock" for file in folder.iterdir()):
        return
    with suppress(OSError, Timeout):  # another process holds the lock, or a parent is not empty
        with FileLock(folder / ".lock", timeout=0):
            (folder / ".lock").unlink()
        for path in (folder, *folder.parents):
            if path == folder or path.is_relative_to(outputs):
                path.rmdir()


def _one_line(error: BaseException) -> str:
    """Return the message without the line breaks and the stack of keys of Hydra and OmegaConf."""
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}; choose a folder you can read and write (outputs=<folder>)"
    if missing := re.search(r"Missing mandatory value: (\w+)", str(error)):
        full_key = re.search(rf"full_key: (\S+\.{missing[1]})\b", str(error))  # not the key that refers to it
        return f"{(full_key or missing)[1]}=… is missing: say which"
    if missing_bound := re.search(r"dataset\.train_bounds\.(\w+)' not found", str(error)):
        name = missing_bound[1]
        return (
            f"distance={name} has no bound in dataset.train_bounds: choose one that has (ssim and linf measure, but"
            f" bound no perceptual training), or give yours with +dataset.train_bounds.{name}=…"
        )
    if isinstance(error, OverrideParseException):
        return _misread(error.override)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = " ".join(line for line in lines if not line.startswith(("object_type", "reference_type", "set_struct")))
    if text.startswith("Error merging override") and error.__cause__:
        text = f"{text}: {first_line(error.__cause__)}"
    return text or type(error).__name__


def _misread(word: str) -> str:
    """Say why Hydra's grammar does not take a word, and what to write."""
    key, _, value = word.partition("=")
    if not key.isascii():
        return f"{word}: a key has letters from A to Z, digits, _ and dots, and {key.lstrip('+~')} has others"
    instead = shlex.quote(f"{key or 'key'}={quoted(value or 'value')}")
    return f"{word} is no key=value: put what has spaces or signs in quotes of its own, {instead}"


if __name__ == "__main__":
    train()
