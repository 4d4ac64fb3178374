"""Launchers of a sweep's jobs through submitit, on SLURM or on this machine, one process per rank."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, filter_overrides
from hydra_plugins.hydra_submitit_launcher.submitit_launcher import BaseSubmititLauncher

from gauntlet.errors import UserError

if TYPE_CHECKING:
    from gauntlet.cluster.queue import Ended

Call = tuple[Any, ...]
"""Arguments of Hydra's submitit launcher inside a job."""


class _Jobs(BaseSubmititLauncher):  # type: ignore[misc]
    """Submits the jobs, waits until all have ended, then reports which failed."""

    folders: Sequence[Path] = ()
    """Run folders of the jobs, in order; set by the sweeper."""

    def __getstate__(self) -> dict[str, Any]:
        """Return the state that is sent to a job, without the folders of the others."""
        return {key: value for key, value in vars(self).items() if key != "folders"}

    def __call__(self, *call: Any) -> JobReturn:
        """Run a job; called in the job, once per rank."""
        from gauntlet.cluster.ranks import take_ranks_of_local_job

        take_ranks_of_local_job()
        return super().__call__(*call)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the jobs.

        Raises:
            UserError: after all have ended, how many failed and where their errors are.
        """
        from gauntlet.runs.failures import note_failure

        if not job_overrides:
            return []
        assert self.config is not None
        folder = str(self.config.hydra.sweep.dir)
        state = Singleton.get_state()
        calls = [
            (list(words), "hydra.sweep.dir", number, f"job_id_for_{number}", state)
            for number, words in enumerate(job_overrides, start=initial_job_idx)
        ]
        names = _job_names(job_overrides)
        ended: dict[int, Ended] = {}
        for end in self.run(calls):
            ended[end.number] = end
            print(f"job {len(ended)} of {len(names)} ended: {names[end.number]}: {end.error or 'done'}", flush=True)
            if end.error:
                note_failure(self.folders[end.number], end.error)  # a killed job could not note its error itself
        failed = [number for number in sorted(ended) if ended[number].error]
        if failed:
            raise UserError(
                f"{len(failed)} of {len(names)} jobs failed, {names[failed[0]]} with: {ended[failed[0]].error}"
                f" (all of it, and how to run them again: python -m gauntlet.status {folder})"
            )
        return [ended[number].job.task(0).result() for number in sorted(ended)]

    @abstractmethod
    def run(self, calls: Sequence[Call]) -> Iterator[Ended]:
        """Submit one job per call and wait for all of them."""


def _job_names(job_overrides: Sequence[Sequence[str]]) -> list[str]:
    """Name each job by the overrides that not all jobs share."""
    shared = set(job_overrides[0]).intersection(*job_overrides) if len(job_overrides) > 1 else set()
    return [" ".join(word for word in filter_overrides(words) if word not in shared) for words in job_overrides]


class Slurm(_Jobs):
    """One SLURM job per job of the sweep, all of them one job array; a task is a rank."""

    def run(self, calls: Sequence[Call]) -> Iterator[Ended]:
        """Submit an array of jobs; their states are read from the queue, so accounting is not needed."""
        import submitit

        from gauntlet.cluster.queue import QueueWatcher, wait_for

        params = {key: value for key, value in self.params.items() if value is not None}
        folder, timeouts = params.pop("submitit_folder"), params.pop("max_num_timeout")
        notice, limit = params["signal_delay_s"], 60 * params["timeout_min"]
        if limit < 2 * notice:
            raise UserError(
                f"hydra.launcher.timeout_min={params['timeout_min']} leaves no time before the notice of"
                f" {notice} s that the job gets of its end: allow at least {-(-2 * notice // 60)} min,"
                f" or set a smaller hydra.launcher.signal_delay_s"
            )
        flags = {"requeue": True} if params.pop("requeue") else {"no-requeue": True}
        params["additional_parameters"] = flags | params.get("additional_parameters", {})
        general = submitit.AutoExecutor._valid_parameters()
        submitit.SlurmJob.watcher = QueueWatcher(delay_s=30)  # type: ignore[assignment]
        try:
            executor = submitit.AutoExecutor(folder, cluster="slurm", slurm_max_num_timeout=timeouts)
            named = {key if key in general else f"slurm_{key}": value for key, value in params.items()}
            executor.update_parameters(**named)
            jobs = executor.map_array(self, *zip(*calls, strict=True))
        except (RuntimeError, NameError, AssertionError, submitit.core.utils.FailedJobError) as error:
            raise UserError(f"hydra/launcher=slurm: {' '.join(str(error).split())[:300]}") from error
        array = jobs[0].job_id.split("_")[0]
        print(
            f"{len(jobs)} jobs submitted as {array}; they outlive this command, scancel {array} ends them", flush=True
        )
        yield from wait_for(dict(enumerate(jobs)))


class Local(_Jobs):
    """Jobs on this machine, `parallel` at a time, each on its own GPUs."""

    def run(self, calls: Sequence[Call]) -> Iterator[Ended]:
        """Run the jobs; the next one starts when one has ended, on its GPUs."""
        from gauntlet.cluster.queue import LocalJobs, wait_for

        params = {key: value for key, value in self.params.items() if value is not None}
        folder, parallel = params.pop("submitit_folder"), params.pop("parallel")
        gpus = params.get("gpus_per_node", 0)
        executor = LocalJobs(folder, max_num_timeout=params.pop("max_num_timeout"))
        available = visible_gpus()
        if len(available) < parallel * gpus:
            raise UserError(
                f"{parallel} jobs of {gpus} GPUs at a time need {parallel * gpus}, and there are {len(available)}:"
                f" set hydra.launcher.parallel, or trainer=cpu"
            )
        free = [available[slot * gpus : (slot + 1) * gpus] for slot in range(parallel)]
        waiting = deque(enumerate(calls))
        running: dict[int, Any] = {}
        used: dict[int, list[str]] = {}

        def start() -> None:
            while waiting and free:
                number, call = waiting.popleft()
                used[number] = free.pop(0)
                executor.update_parameters(**params, visible_gpus=used[number])
                running[number] = executor.submit(self, *call)

        start()
        for end in wait_for(running):
            free.append(used[end.number])
            yield end
            start()


def visible_gpus() -> list[str]:
    """Return the GPUs this process may use, by CUDA's names: numbers, `GPU-…`, or parts of one, `MIG-…`."""
    import torch

    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").strip()
    if not visible:
        return [str(gpu) for gpu in range(torch.cuda.device_count())]
    named = [gpu.strip() for gpu in visible.split(",")]
    return list(takewhile(lambda gpu: gpu and not gpu.startswith("-"), named))  # CUDA ignores all after an invalid one
