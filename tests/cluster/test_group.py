"""The key that processes of one command share, from what really starts them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gauntlet.cluster.group import group

TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=3", "--no-python")
PRINT = "from gauntlet.cluster.group import group; print('key:', group(), flush=True)"
TASK = {"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_NTASKS": "2", "SLURM_LOCALID": "0", "SLURM_JOB_NAME": "t"}


def test_a_single_process_has_no_key(monkeypatch):
    monkeypatch.setattr(os, "environ", {})
    assert group() is None


@pytest.fixture
def step(tmp_path):
    """Starts a Python process as a task of a SLURM step, from a parent process of a given name."""

    def start(parent="slurmstepd", **more):
        shell = tmp_path / parent
        shutil.copy(Path("/bin/sh").resolve(), shell)
        environment = os.environ | TASK | {"SLURM_PROCID": "0"} | more
        environment = {name: value for name, value in environment.items() if value}
        command = [shell, "-c", f'{sys.executable} -c "{PRINT}"; :']
        out = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=True).stdout
        return out.partition("key: ")[2].strip()

    return start


@pytest.mark.skipif(not Path("/proc/self/comm").exists(), reason="no /proc here, and no SLURM either")
def test_tasks_of_a_slurm_step_share_a_key_that_a_restart_changes(step):
    key = step()
    assert key == step(SLURM_PROCID="1") == "slurm-7-0-0"
    others = {step(SLURM_STEP_ID="1"), step(SLURM_JOB_ID="8"), step(SLURM_RESTART_COUNT="1")}
    assert len(others - {key}) == 3


def test_commands_of_a_script_in_one_slurm_step_have_no_key(step):
    """The second command of the script must not take over what the first one found."""
    assert step(parent="sh") == "None"
    assert step(SLURM_STEP_ID="") == "None"


@pytest.mark.timeout(300)
def test_processes_of_torchrun_share_a_key_that_the_next_torchrun_does_not_have():
    keys = []
    for _ in range(2):
        command = [*TORCHRUN, sys.executable, "-c", PRINT]
        out = subprocess.run(command, capture_output=True, text=True, timeout=250, check=True).stdout
        keys.append([line for line in out.splitlines() if line.startswith("key: torchrun-")])
    assert [len(one) for one in keys] == [3, 3]
    assert [len(set(one)) for one in keys] == [1, 1]
    assert keys[0][0] != keys[1][0]
