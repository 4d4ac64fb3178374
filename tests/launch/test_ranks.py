"""Who starts processes and how many, read from the environment that really comes with each starter."""

import os

import pytest

from gauntlet.errors import UserError
from gauntlet.launch.ranks import check_processes, ranks, take_ranks_of_local_job

TORCHRUN = {"RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}
BATCH = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "2", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_JOB_NAME": "t"}
SRUN = BATCH | {"SLURM_STEP_ID": "0", "SLURM_PROCID": "1", "SLURM_LOCALID": "1"}
SHELL = SRUN | {"SLURM_JOB_NAME": "bash"}
LOCAL = {
    **{"SUBMITIT_EXECUTOR": "local", "SUBMITIT_LOCAL_NTASKS": "2", "SUBMITIT_LOCAL_JOB_ID": "70001"},
    **{"SUBMITIT_LOCAL_GLOBALID": "1"},
}


@pytest.fixture
def environment(monkeypatch):
    return lambda variables: monkeypatch.setattr(os, "environ", dict(variables))


@pytest.mark.parametrize(
    ("variables", "expected"),
    [({}, (0, 0, 1)), (TORCHRUN, (3, 1, 4)), (SRUN, (1, 1, 2)), (BATCH, (0, 0, 1)), (SHELL, (0, 0, 1))],
)
def test_rank_local_rank_and_world(environment, variables, expected):
    environment(variables)
    assert ranks()[:3] == expected


@pytest.mark.parametrize(
    ("variables", "devices", "nodes"),
    [({}, 4, 1), (TORCHRUN, 2, 2), (SRUN, 2, 1), (SRUN, 1, 2), (BATCH, 1, 1), (SHELL, 2, 1)],
)
def test_as_many_as_the_trainer_counts_on(environment, variables, devices, nodes):
    """Where nobody starts processes, or a shell hides SLURM, Lightning starts them itself."""
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
