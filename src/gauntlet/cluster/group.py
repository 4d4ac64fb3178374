"""What the processes of one command have in common: a word by which they share what one of them found out."""

from __future__ import annotations

import os
from uuid import uuid4

from submitit import JobEnvironment
from torch import distributed
from torch.distributed.rendezvous import rendezvous

from gauntlet.cluster.ranks import ranks


def group() -> str | None:
    """The same word in all processes that were started together, and in no others, before or after.

    None for a process alone, and where nothing around the processes is the same for all of them and only them.
    """
    if distributed.is_available() and distributed.is_initialized():
        drawn = [uuid4().hex]
        distributed.broadcast_object_list(drawn)
        return drawn[0]
    here = ranks()
    if here.world == 1:
        return None
    if here.starter == "SLURM_NTASKS":
        step = (os.environ[key] for key in ("SLURM_JOB_ID", "SLURM_STEP_ID"))
        return "-".join(["slurm", *step, os.environ.get("SLURM_RESTART_COUNT", "0")])
    if os.environ.get("SUBMITIT_EXECUTOR") == "local":  # a number of a process, and so not the only one of its kind
        call = JobEnvironment().paths.submitted_pickle
        return f"local-{call.name}-{call.stat().st_mtime_ns}"
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":  # its server outlives the processes
        store, _, _ = next(rendezvous("env://"))
        return f"torchrun-{store.compare_set('gauntlet/group', '', uuid4().hex).decode()}"
    return None
