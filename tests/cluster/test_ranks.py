"""What starts processes and how many, read from the real environment of each starter."""

import os

import pytest

from gauntlet.cluster.ranks import check_processes, ranks, settle_processes, take_ranks_of_local_job
from gauntlet.errors import UserError

TORCHRUN = {"RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}
BATCH = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "2", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_JOB_NAME": "t"}
SRUN = BATCH | {"SLURM_STEP_ID": "0", "SLURM_PROCID": "1", "SLURM_LOCALID": "1"}
SHELL = SRUN | {"SLURM_JOB_NAME": "bash"}
ZSH = BATCH | {"SLURM_JOB_NAME": "zsh", "SLURM_NTASKS": "4"}
PTY = SRUN | {"SLURM_PTY_PORT": "40123", "SLURM_NTASKS": "4"}
SALLOC = SRUN | {"SLURM_STEP_ID": "4294967290", "SLURM_NTASKS": "4"}
LOCAL = {
    **{"SUBMITIT_EXECUTOR": "local", "SUBMITIT_LOCAL_NTASKS": "2", "SUBMITIT_LOCAL_JOB_ID": "70001"},
    **{"SUBMITIT_LOCAL_GLOBALID": "1"},
}


@pytest.fixture
def environment(monkeypatch):
    return lambda variables: monkeypatch.setattr(os, "environ", dict(variables))


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        *[({}, (0, 0, 1)), (TORCHRUN, (3, 1, 4)), (SRUN, (1, 1, 2)), (BATCH, (0, 0, 1)), (SHELL, (0, 0, 1))],
        *[(ZSH, (0, 0, 1)), (PTY, (0, 0, 1)), (SALLOC, (0, 0, 1))],
    ],
)
def test_rank_local_rank_and_world(environment, variables, expected):
    environment(variables)
    assert ranks()[:3] == expected


@pytest.mark.parametrize(
    ("variables", "devices", "nodes"),
    [({}, 4, 1), (TORCHRUN, 2, 2), (SRUN, 2, 1), (SRUN, 1, 2), (BATCH, 1, 1), (SHELL, 2, 1)],
)
def test_as_many_as_the_trainer_counts_on(environment, variables, devices, nodes):
    """Without a starter, or in a shell that hides SLURM, Lightning starts the processes itself."""
    environment(variables)
    check_processes(devices, nodes)


@pytest.mark.parametrize(
    ("variables", "devices", "nodes", "hints"),
    [
        (SRUN, 1, 1, ["SLURM_NTASKS is 2", "1 × 1 = 1", "trainer.devices"]),
        (SRUN, 4, 2, ["SLURM_NTASKS is 2", "4 × 2 = 8", "srun --nodes=2 --ntasks-per-node=4"]),
        (BATCH, 2, 1, ["only this process was started", "srun --nodes=1 --ntasks-per-node=2"]),
        (TORCHRUN, 2, 1, ["4 processes were started", "torchrun --nproc-per-node=2"]),
    ],
)
def test_another_number_is_refused_with_the_way_out(environment, variables, devices, nodes, hints):
    environment(variables)
    with pytest.raises(UserError) as refusal:
        check_processes(devices, nodes)
    assert all(hint in str(refusal.value) for hint in hints), refusal.value


def test_the_tasks_of_a_local_job_are_ranks_that_meet(environment):
    from lightning.pytorch.utilities import rank_zero_only

    environment(LOCAL)
    before = rank_zero_only.rank
    try:
        take_ranks_of_local_job()
        assert ranks()[:3] == (1, 1, 2)
        assert rank_zero_only.rank == 1
    finally:
        rank_zero_only.rank = before
    assert os.environ["MASTER_PORT"] == str(15000 + 70001 % 15000)


def test_the_tasks_of_a_local_job_are_ranks_inside_an_allocation_of_one_task(environment):
    from lightning.pytorch.plugins.environments import SLURMEnvironment
    from lightning.pytorch.utilities import rank_zero_only

    environment(SRUN | {"SLURM_NTASKS": "1", "SLURM_TMPDIR": "/scratch"} | LOCAL)
    before = rank_zero_only.rank
    try:
        take_ranks_of_local_job()
        assert ranks()[:3] == (1, 1, 2)
        assert not SLURMEnvironment.detect()
        assert os.environ["SLURM_TMPDIR"] == "/scratch"
    finally:
        rank_zero_only.rank = before


def test_a_local_job_of_one_task_is_alone_inside_an_allocation_of_several(environment):
    environment(SRUN | LOCAL | {"SUBMITIT_LOCAL_NTASKS": "1"})
    take_ranks_of_local_job()
    assert ranks()[:3] == (0, 0, 1)


@pytest.mark.parametrize("variables", [BATCH, SHELL, ZSH, PTY, SALLOC])
def test_a_process_that_srun_did_not_start_trains_alone(environment, variables):
    """Lightning itself refuses these with an unrelated message, or waits for ever."""
    from lightning import Trainer

    environment(variables)
    settle_processes(1, 1)
    trainer = Trainer(accelerator="cpu", devices=1, logger=False, enable_checkpointing=False)
    assert trainer.world_size == 1
    assert os.environ["SLURM_JOB_ID"] == "7"


def test_tasks_of_srun_need_not_be_counted_per_node(environment):
    from lightning.pytorch.plugins.environments import SLURMEnvironment

    environment(SRUN)
    settle_processes(2, 1)
    assert SLURMEnvironment().world_size() == 2
    environment(SRUN | {"SLURM_NTASKS": "4", "SLURM_STEP_TASKS_PER_NODE": "2(x2)"})
    settle_processes(2, 2)
    assert os.environ["SLURM_NTASKS_PER_NODE"] == "2"


def test_tasks_that_srun_spread_unevenly_are_refused(environment):
    environment(SRUN | {"SLURM_NTASKS": "4", "SLURM_STEP_TASKS_PER_NODE": "3,1"})
    with pytest.raises(UserError, match=r"placed 3,1 tasks per node.*srun --nodes=2 --ntasks-per-node=2"):
        settle_processes(2, 2)
