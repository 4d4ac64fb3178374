"""The jobs of a sweep through submitit: on SLURM, or on this machine; every job one process per rank."""

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
"""What Hydra's launcher for submitit is called with inside a job."""


class _Jobs(BaseSubmititLauncher):  # type: ignore[misc]
    """Submit the jobs, wait until the last has ended, then say which failed."""

    folders: Sequence[Path] = ()
    """Of the jobs, in order; the sweeper says."""

    def __getstate__(self) -> dict[str, Any]:
        """What a job is given: nothing of the others."""
        return {key: value for key, value in vars(self).items() if key != "folders"}

    def __call__(self, *call: Any) -> JobReturn:
        """In a job, once per rank."""
        from gauntlet.cluster.ranks import take_ranks_of_local_job

        take_ranks_of_local_job()
        return super().__call__(*call)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the jobs.

        Raises:
            UserError: how many failed and where to read why, after all have ended.
        """
        from gauntlet.runs.failures import note_failure

        if not job_overrides:
            return []
        assert self.config is not None
        place, state = str(self.config.hydra.sweep.dir), Singleton.get_state()
        calls = [
            (list(words), "hydra.sweep.dir", initial_job_idx + number, f"job_id_for_{initial_job_idx + number}", state)
            for number, words in enumerate(job_overrides)
        ]
        shared = set.intersection(*(set(words) for words in job_overrides)) if len(job_overrides) > 1 else set()
        names = [" ".join(word for word in filter_overrides(words) if word not in shared) for words in job_overrides]
        ended: dict[int, Ended] = {}
        for end in self.run(calls):
            ended[end.number] = end
            print(f"job {len(ended)} of {len(names)} ended: {names[end.number]}: {end.error or 'done'}", flush=True)
            if end.error:
                note_failure(self.folders[end.number], end.error)  # a job that was killed left no word there
        failed = [number for number in sorted(ended) if ended[number].error]
        if failed:
            raise UserError(
                f"{len(failed)} of {len(names)} jobs failed, {names[failed[0]]} with: {ended[failed[0]].error}"
                f" (all of it, and how to run them again: python -m gauntlet.status {place})"
            )
        return [ended[number].job.task(0).result() for number in sorted(ended)]

    @abstractmethod
    def run(self, calls: Sequence[Call]) -> Iterator[Ended]:
        """Submit one job per call and wait for all of them."""


class Slurm(_Jobs):
    """One SLURM job per job of the sweep, all of them one job array; a task is a rank."""

    def run(self, calls: Sequence[Call]) -> Iterator[Ended]:
        """An array of jobs; their states come from the queue, with or without accounting."""
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
            executor.update_parameters(**{k if k in general else f"slurm_{k}": v for k, v in params.items()})
            jobs = executor.map_array(self, *zip(*calls, strict=True))
        except (RuntimeError, NameError, AssertionError, submitit.core.utils.FailedJobError) as error:
            raise UserError(f"hydra/launcher=slurm: {' '.join(str(error).split())[:300]}") from error
        array = jobs[0].job_id.split("_")[0]
        print(
            f"{len(jobs)} jobs submitted as {array}; they outlive this command, scancel {array} ends them", flush=True
        )
        yield from wait_for(dict(enumerate(jobs)))


class Local(_Jobs):
    """Jobs on this machine, some at a time, each on GPUs of its own."""

    def run(self, calls: Sequence[Call]) -> Iterator[Ended]:
        """The next job starts when one has ended, on the GPUs of that one."""
        from gauntlet.cluster.queue import LocalJobs, wait_for

        params = {key: value for key, value in self.params.items() if value is not None}
        folder, parallel = params.pop("submitit_folder"), params.pop("parallel")
        gpus = params.get("gpus_per_node", 0)
        executor = LocalJobs(folder, max_num_timeout=params.pop("max_num_timeout"))
        places = [_gpus()[slot * gpus : (slot + 1) * gpus] for slot in range(parallel)]
        if any(len(place) < gpus for place in places):
            raise UserError(
                f"{parallel} jobs of {gpus} GPUs at a time need {parallel * gpus}, and there are {len(_gpus())}:"
                f" set hydra.launcher.parallel, or trainer=cpu"
            )
        waiting, running, at = deque(enumerate(calls)), dict[int, Any](), dict[int, list[str]]()

        def start() -> None:
            while waiting and places:
                number, call = waiting.popleft()
                at[number] = places.pop(0)
                executor.update_parameters(**params, visible_gpus=at[number])
                running[number] = executor.submit(self, *call)

        start()
        for end in wait_for(running):
            places.append(at[end.number])
            yield end
            start()


def _gpus() -> list[str]:
    """Those this process may use, as CUDA calls them: numbers, `GPU-…`, or parts of one, `MIG-…`."""
    import torch

    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").strip()
    if not visible:
        return [str(gpu) for gpu in range(torch.cuda.device_count())]
    named = [gpu.strip() for gpu in visible.split(",")]
    return list(takewhile(lambda gpu: gpu and not gpu.startswith("-"), named))  # CUDA stops at the first that is none
