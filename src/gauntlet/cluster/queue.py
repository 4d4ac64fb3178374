"""Wait for submitted jobs and collect their errors, also of jobs that died without a result."""

from __future__ import annotations

import getpass
import re
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from hydra.core.utils import JobStatus
from submitit.core.core import InfoWatcher
from submitit.core.utils import FailedJobError, UncompletedJobError
from submitit.local.local import LocalExecutor

from gauntlet.errors import UserError, first_line

_POLL = 1.0  # seconds between two checks of the jobs
_GONE = "GONE"
_ENDED = {
    *("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "BOOT_FAIL", "DEADLINE"),
    _GONE,
}


class QueueWatcher(InfoWatcher):
    """States of SLURM jobs, read from `squeue`.

    submitit asks `sacct`; without accounting it waits for ever for a job that died without a result. A job that
    `squeue` no longer lists has ended.
    """

    def _make_command(self) -> list[str] | None:
        if not self._registered - self._finished:
            return None
        return ["squeue", "--noheader", "--array", "--states=all", "--format=%i|%T", f"--user={getpass.getuser()}"]

    def read_info(self, string: bytes | str) -> dict[str, dict[str, str]]:
        """Parse the output of a successful squeue; jobs missing in it are `GONE`."""
        text = string.decode() if isinstance(string, bytes) else string
        known = dict(line.strip().split("|") for line in text.splitlines() if "|" in line)
        return {job: {"State": known.get(job, _GONE)} for job in self._registered}

    def get_state(self, job_id: str, mode: str = "standard") -> str:
        """Return `RUNNING`, `PENDING`, …, or `GONE`; `UNKNOWN` until squeue has answered."""
        return self.get_info(job_id, mode=mode).get("State", "UNKNOWN")

    def is_done(self, job_id: str, mode: str = "standard") -> bool:
        """Return whether the job has ended for good; one being configured, suspended or requeued has not."""
        return self.get_state(job_id, mode=mode) in _ENDED


class LocalJobs(LocalExecutor):
    """submitit's local jobs, on GPUs of any CUDA name; submitit itself accepts numbers only."""

    def _internal_update_parameters(self, visible_gpus: Sequence[str] = (), **others: Any) -> None:
        super()._internal_update_parameters(**others)
        self.parameters["visible_gpus"] = visible_gpus


class Ended(NamedTuple):
    """A job that will not run again."""

    number: int
    job: Any
    error: str | None
    """In one line; None for success."""


def wait_for(running: dict[int, Any]) -> Iterator[Ended]:
    """Yield jobs as they end, successful or not; jobs added to `running` meanwhile are included.

    Args:
        running: submitit's jobs by number; ended jobs are removed.
    """
    while running:
        for number in [number for number, job in running.items() if job.done()]:
            job = running.pop(number)
            yield Ended(number, job, error_of(job))
        if running:
            time.sleep(_POLL)


def error_of(job: Any) -> str | None:
    """Return a job's error in one line, or None. The task with an error of its own precedes those killed with it."""
    tasks = [job.task(number) for number in range(job.num_tasks)]
    errors = [error for error in map(_error_of, tasks) if error is not None]
    return one_line(min(errors, key=_ended_without_result)) if errors else None


def _ended_without_result(error: BaseException) -> bool:
    return isinstance(error, UncompletedJobError) and not isinstance(error, FailedJobError)


def _error_of(task: Any) -> BaseException | None:
    """Return a task's error: Hydra returns an error inside a job as its result, submitit reports all others."""
    error: BaseException | None = task.exception()
    if error is None and (returned := task.result()).status is JobStatus.FAILED:
        error = returned._return_value
    return error


def one_line(error: BaseException) -> str:
    """Shorten an error to one line; of submitit's long messages keep the last line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip(" -")]
    if _ended_without_result(error):
        state = re.search(r"state: (\w+)", str(error))
        return f"it ended without a result ({state[1] if state else 'killed'}); its last output: {lines[-1]}"
    if isinstance(error, FailedJobError):
        trace = [line for line in lines if not line.startswith(("You can check", "- /", "or at paths"))]
        return trace[-1]
    return first_line(error) if isinstance(error, UserError) else f"{type(error).__name__}: {first_line(error)}"
