"""A key that the processes started by one command share, so that one of them can compute a result for all."""

from __future__ import annotations

import os
from pathlib import Path
from uuid import uuid4

from torch import distributed
from torch.distributed.rendezvous import rendezvous

from gauntlet.cluster.ranks import ranks


def group() -> str | None:
    """Return the same key in all processes started together, and another one in any earlier or later command.

    None for a single process, and if nothing identifies exactly the processes of this command.
    """
    if distributed.is_available() and distributed.is_initialized():
        keys = [uuid4().hex]
        distributed.broadcast_object_list(keys)
        return keys[0]
    process = ranks()
    if process.world == 1:
        return None
    if process.starter == "SLURM_NTASKS":
        return _slurm_step()
    if os.environ.get("SUBMITIT_EXECUTOR") == "local":
        from submitit import JobEnvironment  # only jobs of submitit pay for its import

        call = JobEnvironment().paths.submitted_pickle
        return f"local-{call.name}-{call.stat().st_mtime_ns}"  # the name has a process id, which is used again
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":  # torchrun's store outlives its processes
        store, _, _ = next(rendezvous("env://"))
        return f"torchrun-{store.compare_set('gauntlet/group', '', uuid4().hex).decode()}"
    return None


def _slurm_step() -> str | None:
    """Return job, step and restart of a task of srun; None in a script, which may run several commands in one step."""
    job, step = os.environ.get("SLURM_JOB_ID"), os.environ.get("SLURM_STEP_ID")
    if not (job and step and _parent() == "slurmstepd"):
        return None
    return f"slurm-{job}-{step}-{os.environ.get('SLURM_RESTART_COUNT', '0')}"


def _parent() -> str:
    """The name of the parent process; empty if the system does not tell."""
    try:
        return Path(f"/proc/{os.getppid()}/comm").read_text().strip()
    except OSError:
        return ""
