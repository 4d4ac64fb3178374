"""Hydra's basic sweeper, with a note of the sweep for `gauntlet.status`; a sweep without jobs is an error."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

from gauntlet.errors import UserError

_WANTED = {"all": None, "failed": ("failed", "stopped"), "unfinished": ("failed", "stopped", "waiting")}


class GridSweeper(BasicSweeper):
    """Every combination of the choices.

    Args:
        only: `all` jobs, those that `failed` or were stopped, or all `unfinished` ones that are not running.
        max_batch_size: number of jobs given to the launcher at a time; None for all.
    """

    def __init__(self, only: str = "all", max_batch_size: int | None = None) -> None:
        super().__init__(max_batch_size=max_batch_size)
        self.only = only

    def get_job_batch(self) -> Sequence[Sequence[str]]:
        """Return the next jobs; each is composed once, so that errors show before anything runs."""
        from gauntlet.cluster.ranks import ranks
        from gauntlet.cluster.sweeps import Sweep, job_of
        from gauntlet.status import state_of

        if self.only not in _WANTED:
            raise UserError(f"hydra.sweeper.only={self.only}: expected {', '.join(_WANTED)}")
        batch = super().get_job_batch()
        if not batch:
            raise UserError("the sweep has no jobs: no option matches its pattern (quote it: '+experiment/x=glob(*)')")
        assert self.config is not None
        assert self.hydra_context is not None
        loader = self.hydra_context.config_loader
        jobs = [job_of(loader, self.config, words, number) for number, words in enumerate(batch)]
        if ranks().rank == 0:
            Sweep(sys.argv, str(Path.cwd()), jobs).save(Path(str(self.config.hydra.sweep.dir)).absolute())
        wanted = _WANTED[self.only]
        kept = list(range(len(jobs)))
        if wanted is not None:
            kept = [number for number in kept if state_of(*jobs[number]) in wanted]
            print(f"{len(kept)} of {len(batch)} jobs are {self.only}; the others are left alone", flush=True)
        launcher: Any = self.launcher
        if hasattr(launcher, "folders"):  # Slurm or Local; Hydra's own launcher runs the jobs in this process
            launcher.folders = [jobs[number].folder for number in kept]
        return [batch[number] for number in kept]

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Do nothing: `get_job_batch` has composed every job."""
