"""Rank and number of the processes, which SLURM, torchrun or a sweep's launcher have started."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any, NamedTuple

from gauntlet.errors import UserError

_SLURM = (
    *("SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID", "SLURM_NTASKS", "SLURM_NPROCS", "SLURM_NTASKS_PER_NODE"),
    *("SLURM_NNODES", "SLURM_STEP_ID", "SLURM_STEPID", "SLURM_STEP_NUM_TASKS", "SLURM_STEP_TASKS_PER_NODE"),
    *("SLURM_TASKS_PER_NODE", "SLURM_STEP_NUM_NODES", "SLURM_GTIDS"),
)
RANKS = (
    *("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "ROLE_RANK", "NODE_RANK"),
    *("MASTER_ADDR", "MASTER_PORT", *_SLURM),
)
"""Variables that describe a process group: torchrun's, Lightning's, and those of SLURM that count tasks."""
_SHELLS = ("interactive", "salloc", "sh", "bash", "dash", "zsh", "fish", "ksh", "csh", "tcsh")
_INTERACTIVE_STEP = "4294967290"  # SLURM_INTERACTIVE_STEP in slurm.h: the shell of salloc


class Ranks(NamedTuple):
    """Rank of this process in its group."""

    rank: int
    local: int
    """Rank on its machine."""
    world: int
    starter: str
    """What started the group, for messages."""


def ranks() -> Ranks:
    """Read the variables of torchrun (set by the local launcher, too), else those of srun."""
    if "LOCAL_RANK" in os.environ and "WORLD_SIZE" in os.environ:
        return Ranks(_number("RANK"), _number("LOCAL_RANK"), _number("WORLD_SIZE"), "torchrun --nproc-per-node")
    if _started_by_srun():
        return Ranks(_number("SLURM_PROCID"), _number("SLURM_LOCALID"), _number("SLURM_NTASKS"), "SLURM_NTASKS")
    return Ranks(0, 0, 1, "SLURM_NTASKS" if "SLURM_NTASKS" in os.environ else "")


def check_processes(devices: int, nodes: int) -> None:
    """Refuse a number of processes that differs from the trainer's.

    Lightning takes its share of the data from the trainer and its processes from the environment. With too few
    processes it trains on a part of the data or waits for ever, without an error.

    Raises:
        UserError: with both numbers, and how to make them equal.
    """
    here = ranks()
    wanted = devices * nodes
    if not here.starter or here.world == wanted or _interactive():
        return
    if here.starter == "SLURM_NTASKS":
        started = f"SLURM_NTASKS is {os.environ['SLURM_NTASKS']}"
        if "SLURM_STEP_ID" not in os.environ:
            started += ", of which only this process was started"
        command = f"srun --nodes={nodes} --ntasks-per-node={devices} python train.py …"
    else:
        started = f"{here.world} processes were started"
        command = f"torchrun --nproc-per-node={devices} train.py …"
    raise UserError(
        f"trainer.devices × nodes is {devices} × {nodes} = {wanted}, but {started}:"
        f" use {command}, or set trainer.devices to the processes per node"
    )


def settle_processes(devices: Any, nodes: Any) -> None:
    """Check the processes before the trainer is built, and correct the variables that Lightning reads from SLURM.

    Lightning takes every process in an allocation for one of its tasks, and refuses tasks without a count per node.
    So SLURM's variables are removed where this process was started without srun, and the count per node is added
    where srun did not set it.

    Args:
        devices: of the trainer; a value that is no integer (`auto`) is checked later.
        nodes: of the trainer.

    Raises:
        UserError: as `check_processes`.
    """
    if not (isinstance(devices, int) and isinstance(nodes, int)):
        devices, nodes = ranks().world, 1
    check_processes(devices, nodes)
    here = ranks()
    if here.starter == "torchrun --nproc-per-node":
        return
    if not _started_by_srun():
        _forget(_SLURM)
    elif "SLURM_NTASKS_PER_NODE" not in os.environ:
        placed = os.environ.get("SLURM_STEP_TASKS_PER_NODE", str(devices) if nodes == 1 else "an unknown number")
        if placed != (f"{devices}(x{nodes})" if nodes > 1 else str(devices)):
            raise UserError(
                f"srun placed {placed} tasks per node, trainer.devices is {devices} on each of {nodes}:"
                f" use srun --nodes={nodes} --ntasks-per-node={devices} python train.py …"
            )
        os.environ["SLURM_NTASKS_PER_NODE"] = str(devices)


def restarted() -> bool:
    """Return whether SLURM has restarted this job; its first process may not have ended yet."""
    return _number("SLURM_RESTART_COUNT") > 0


def take_ranks_of_local_job() -> None:
    """Set torchrun's variables from submitit's: the tasks of a local job are ranks.

    Variables of a SLURM allocation around the sweep count other tasks and are removed.
    """
    if os.environ.get("SUBMITIT_EXECUTOR") != "local":
        return
    _forget(RANKS)
    if _number("SUBMITIT_LOCAL_NTASKS") < 2:
        return
    from lightning.pytorch.utilities import rank_zero_only

    rank, tasks = os.environ["SUBMITIT_LOCAL_GLOBALID"], os.environ["SUBMITIT_LOCAL_NTASKS"]
    port = 15000 + _number("SUBMITIT_LOCAL_JOB_ID") % 15000  # the same for all tasks of a job, another for every job
    os.environ.update(RANK=rank, LOCAL_RANK=rank, WORLD_SIZE=tasks)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    rank_zero_only.rank = int(rank)  # type: ignore[attr-defined]  # Lightning read it at import, before it was set


def _number(variable: str) -> int:
    return int(os.environ.get(variable, 0))


def _forget(variables: Iterable[str]) -> None:
    for variable in variables:
        os.environ.pop(variable, None)


def _started_by_srun() -> bool:
    return "SLURM_STEP_ID" in os.environ and not _interactive()


def _interactive() -> bool:
    """Return whether this is a shell inside SLURM, whose allocation's tasks are for a later srun."""
    shell = os.environ.get("SLURM_JOB_NAME") in _SHELLS or "SLURM_PTY_PORT" in os.environ
    return shell or os.environ.get("SLURM_STEP_ID") == _INTERACTIVE_STEP
