"""The word that processes of one command share, from what really starts them."""

import os
import subprocess
import sys

import pytest

from gauntlet.cluster.group import group

TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=3", "--no-python")
SAY = (sys.executable, "-c", "from gauntlet.cluster.group import group; print('word:', group(), flush=True)")


def test_a_process_alone_has_none(monkeypatch):
    monkeypatch.setattr(os, "environ", {})
    assert group() is None


def test_tasks_of_a_slurm_step_share_one_that_a_restart_changes(monkeypatch):
    step = {"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_NTASKS": "2", "SLURM_LOCALID": "0", "SLURM_JOB_NAME": "t"}

    def word(**more):
        monkeypatch.setattr(os, "environ", step | {"SLURM_PROCID": "0"} | more)
        return group()

    assert word() == word(SLURM_PROCID="1")
    assert len({word(), word(SLURM_STEP_ID="1"), word(SLURM_JOB_ID="8"), word(SLURM_RESTART_COUNT="1")}) == 4


@pytest.mark.timeout(300)
def test_processes_of_a_torchrun_share_one_that_the_next_torchrun_does_not_have():
    words = []
    for _ in range(2):
        said = subprocess.run([*TORCHRUN, *SAY], capture_output=True, text=True, timeout=250, check=True).stdout
        words.append([line for line in said.splitlines() if line.startswith("word: torchrun-")])
    assert [len(each) for each in words] == [3, 3]
    assert [len(set(each)) for each in words] == [1, 1]
    assert words[0][0] != words[1][0]
