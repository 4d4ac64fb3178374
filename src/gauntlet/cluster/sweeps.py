"""Notes of sweeps, written when they start, so that runs without a folder are known too."""

from __future__ import annotations

import json
import os
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict

from gauntlet.files import read_json, write_atomically

FOLDER = ".sweeps"


class Job(NamedTuple):
    """One run of a sweep."""

    folder: Path
    suite: str
    """Name of the table of its attack suite."""


@dataclass(frozen=True)
class Sweep:
    """A command with `-m`.

    Args:
        command: its words, the program first.
        directory: working directory of the command.
        jobs: in order.
    """

    command: Sequence[str]
    directory: str
    jobs: Sequence[Job]

    def save(self, outputs: Path) -> None:
        """Write the note below an output folder, with paths relative to it, so that the folder can be moved."""
        jobs = [[os.path.relpath(job.folder, outputs), job.suite] for job in self.jobs]
        content = {"command": list(self.command), "directory": self.directory, "jobs": jobs}
        file = outputs / FOLDER / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.json"
        write_atomically(file, json.dumps(content, indent=1) + "\n")

    def again(self, only: str) -> str:
        """Return the command for only those jobs that `failed` or are `unfinished`."""
        words = [word for word in self.command[1:] if not word.startswith("hydra.sweeper.only=")]
        return shell_command([self.command[0], *words, f"hydra.sweeper.only={only}"], self.directory)


def shell_command(words: Sequence[str], directory: str | None = None) -> str:
    """Join words into a line for a shell, with a `cd` if the directory is another one."""
    start = ["python", words[0]] if words[0].endswith(".py") else [words[0]]
    change = "" if directory in (None, str(Path.cwd())) else f"cd {shlex.quote(str(directory))} && "
    return change + shlex.join([*start, *words[1:]])


def sweeps_of(outputs: Path) -> list[Sweep]:
    """Read the sweeps noted in an output folder, oldest first."""
    sweeps = []
    for file in sorted((outputs / FOLDER).glob("*.json")):
        note = read_json(file)
        jobs = [Job(Path(os.path.normpath(outputs / folder)), suite) for folder, suite in note["jobs"]]
        sweeps.append(Sweep(note["command"], note["directory"], jobs))
    return sweeps


def job_of(loader: Any, master: DictConfig, overrides: Sequence[str], number: int) -> Job:
    """Compose a job of a sweep.

    Args:
        loader: Hydra's config loader.
        master: config of the sweep.
        overrides: of the job.
        number: of the job in the sweep.
    """
    before = HydraConfig.instance().cfg
    try:
        config = loader.load_sweep_config(master, list(overrides))
        with open_dict(config):
            config.hydra.job.id, config.hydra.job.num = str(number), number
        HydraConfig.instance().set_config(config)  # interpolations read the names of choices from it
        parts = [str(OmegaConf.select(config, f"hydra.sweep.{key}")) for key in ("dir", "subdir")]
        survivors = "-survivors" if config.hydra.runtime.choices.get("mode") == "survivors" else ""
        return Job(Path(*parts).absolute(), f"{config.suite}{survivors}")
    finally:
        HydraConfig.instance().cfg = before
