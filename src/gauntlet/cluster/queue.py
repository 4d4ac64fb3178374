"""Waiting for jobs that others run: none is waited for in vain, and none hides another's error."""

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

_PATIENCE = 1.0  # seconds between two looks at the jobs
_GONE = "GONE"
_ENDED = {
    *("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "BOOT_FAIL", "DEADLINE"),
    _GONE,
}


class QueueWatcher(InfoWatcher):
    """States of SLURM jobs from the queue itself.

    submitit asks `sacct`, and where there is no accounting waits for ever for a job that died without a result. The
    queue always knows, and what it has forgotten is over.
    """

    def _make_command(self) -> list[str] | None:
        every = ["--noheader", "--array", "--states=all", "--format=%i|%T"]
        return ["squeue", *every, f"--user={getpass.getuser()}"] if self._registered - self._finished else None

    def read_info(self, string: bytes | str) -> dict[str, dict[str, str]]:
        """The answer of a squeue that succeeded; jobs that are missing in it are gone."""
        text = string.decode() if isinstance(string, bytes) else string
        known = dict(line.strip().split("|") for line in text.splitlines() if "|" in line)
        return {job: {"State": known.get(job, _GONE)} for job in self._registered}

    def get_state(self, job_id: str, mode: str = "standard") -> str:
        """`RUNNING`, `PENDING`, …, `GONE`; `UNKNOWN` as long as the queue does not answer."""
        return self.get_info(job_id, mode=mode).get("State", "UNKNOWN")

    def is_done(self, job_id: str, mode: str = "standard") -> bool:
        """Whether it will never run again by itself: a job being configured, suspended or requeued may."""
        return self.get_state(job_id, mode=mode) in _ENDED


class LocalJobs(LocalExecutor):
    """submitit's jobs on this machine, on GPUs by any name that CUDA has for them; submitit itself takes numbers."""

    def _internal_update_parameters(self, visible_gpus: Sequence[str] = (), **others: Any) -> None:
        super()._internal_update_parameters(**others)
        self.parameters["visible_gpus"] = visible_gpus


class Ended(NamedTuple):
    """A job that will not run again."""

    number: int
    job: Any
    error: str | None
    """In one line; None if all went well."""


def wait_for(running: dict[int, Any]) -> Iterator[Ended]:
    """Jobs as they end, however they end; those that come to `running` in between are waited for too.

    Args:
        running: jobs of submitit by number; who has ended is taken out.
    """
    while running:
        for number in [number for number, job in running.items() if job.done()]:
            job = running.pop(number)
            yield Ended(number, job, error_of(job))
        if running:
            time.sleep(_PATIENCE)


def error_of(job: Any) -> str | None:
    """What a job died of. Of several tasks one that was only dragged along is not asked if another knows more."""
    tasks = [job.task(number) for number in range(job.num_tasks)]
    errors = [error for error in map(_error_of, tasks) if error is not None]
    return one_line(min(errors, key=_without_a_word)) if errors else None


def _without_a_word(error: BaseException) -> bool:
    return isinstance(error, UncompletedJobError) and not isinstance(error, FailedJobError)


def _error_of(task: Any) -> BaseException | None:
    """Hydra hands over an error inside a job as its result; whatever else ends it is submitit's to report."""
    error: BaseException | None = task.exception()
    if error is None and (returned := task.result()).status is JobStatus.FAILED:
        error = returned._return_value
    return error


def one_line(error: BaseException) -> str:
    """Our errors are one line; of submitit's long ones what was said last."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip(" -")]
    if _without_a_word(error):
        state = re.search(r"state: (\w+)", str(error))
        return f"it ended without a result ({state[1] if state else 'killed'}); the last it said: {lines[-1]}"
    if isinstance(error, FailedJobError):
        trace = [line for line in lines if not line.startswith(("You can check", "- /", "or at paths"))]
        return trace[-1]
    return first_line(error) if isinstance(error, UserError) else f"{type(error).__name__}: {first_line(error)}"
