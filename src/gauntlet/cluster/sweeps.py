"""What a sweep was asked to do: written down when it starts, so that runs which have no folder yet are known too."""

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
    """The attack suite it ends with, as its table is called."""


@dataclass(frozen=True)
class Sweep:
    """A command that was given with `-m`.

    Args:
        command: its words, the program first.
        directory: where it was given.
        jobs: in order.
    """

    command: Sequence[str]
    directory: str
    jobs: Sequence[Job]

    def save(self, place: Path) -> None:
        """Write it below an output folder, with paths that stay right when the folder is moved."""
        jobs = [[os.path.relpath(job.folder, place), job.suite] for job in self.jobs]
        content = {"command": list(self.command), "directory": self.directory, "jobs": jobs}
        file = place / FOLDER / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.json"
        write_atomically(file, json.dumps(content, indent=1) + "\n")

    def again(self, only: str) -> str:
        """The command for those jobs alone that `failed`, or are `unfinished`."""
        words = [word for word in self.command[1:] if not word.startswith("hydra.sweeper.only=")]
        return shell_command([self.command[0], *words, f"hydra.sweeper.only={only}"], self.directory)


def shell_command(words: Sequence[str], directory: str | None = None) -> str:
    """Words as a line for a shell."""
    start = ["python", words[0]] if words[0].endswith(".py") else [words[0]]
    there = "" if directory in (None, str(Path.cwd())) else f"cd {shlex.quote(str(directory))} && "
    return there + shlex.join([*start, *words[1:]])


def sweeps_of(place: Path) -> list[Sweep]:
    """Those noted in an output folder, the oldest first."""
    notes = [read_json(file) for file in sorted((place / FOLDER).glob("*.json"))]
    return [
        Sweep(
            note["command"],
            note["directory"],
            [Job(Path(os.path.normpath(place / folder)), suite) for folder, suite in note["jobs"]],
        )
        for note in notes
    ]


def job_of(loader: Any, master: DictConfig, overrides: Sequence[str], number: int) -> Job:
    """What a job of a sweep will be.

    Args:
        loader: of configs, Hydra's.
        master: the sweep's own config.
        overrides: of the job.
        number: of the job in the sweep.
    """
    before = HydraConfig.instance().cfg
    try:
        config = loader.load_sweep_config(master, list(overrides))
        with open_dict(config):
            config.hydra.job.id, config.hydra.job.num = str(number), number
        HydraConfig.instance().set_config(config)  # names of choices are looked up there
        places = [str(OmegaConf.select(config, f"hydra.sweep.{key}")) for key in ("dir", "subdir")]
        survivors = "-survivors" if config.hydra.runtime.choices.get("mode") == "survivors" else ""
        return Job(Path(*places).absolute(), f"{config.suite}{survivors}")
    finally:
        HydraConfig.instance().cfg = before
