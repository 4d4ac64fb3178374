"""The options of a sweep for SLURM, read from the submitted script; and ended jobs are noticed."""

import os
import stat

import pytest
import submitit

from gauntlet.cluster.queue import QueueWatcher, one_line
from gauntlet.cluster.sweeps import sweeps_of
from tests.conftest import QUICK

SQUEUE = {"7_0": "PENDING", "7_1": "SUSPENDED", "7_2": "FAILED", "8": "COMPLETING"}


@pytest.fixture
def cluster(monkeypatch, tmp_path):
    """Programs with SLURM's names: submitted jobs never run."""
    path = tmp_path / "bin"
    path.mkdir()
    scripts = {"sbatch": f"cp $1 {tmp_path}/submitted; echo Submitted batch job 7", "srun": "", "squeue": ""}
    for name, does in scripts.items():
        (path / name).write_text(f"#!/bin/sh\n{does}\n")
        (path / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", str(path), prepend=os.pathsep)
    monkeypatch.setattr(submitit.SlurmJob, "_results_timeout_s", 0)
    return tmp_path


def flags(script):
    """The options of the script for sbatch."""
    words = (line.split()[1] for line in script.read_text().splitlines() if line.startswith("#SBATCH"))
    return dict(word.removeprefix("--").partition("=")[::2] for word in words)


def sweep(door, cluster, *words):
    return door("train", "-m", *words, "hydra/launcher=slurm", f"outputs={cluster}/outputs")


@pytest.mark.parametrize(
    ("rows", "jobs"), [("pat*", 6), pytest.param("*", 30, marks=pytest.mark.slow)], ids=["two rows", "the table"]
)
def test_rows_by_seeds_are_one_array_of_jobs(door, cluster, rows, jobs):
    """Each job has its own folder; all of them failed, which is reported."""
    queue = ("account=robust", "partition=gpu", "qos=long", "constraint=a100", "setup=[module load cuda]")
    chosen = [f"hydra.launcher.{word}" for word in queue]
    result = sweep(
        door, cluster, f"+experiment/cifar10=glob({rows})", "seed=0,1,2", "trainer=gpu", "trainer.devices=4", *chosen
    )
    assert result.code == 2
    assert f"gauntlet: {jobs} of {jobs} jobs failed" in result.err
    assert "without a result (GONE)" in result.err
    requested = flags(cluster / "submitted")
    expected = {
        **{
            "array": f"0-{jobs - 1}%{jobs}",
            "nodes": "1",
            "ntasks-per-node": "4",
            "gpus-per-node": "4",
            "cpus-per-task": "4",
        },
        **{"mem": "32GB", "time": "1440", "signal": "USR2@180", "requeue": "", "open-mode": "append"},
        **{"account": "robust", "partition": "gpu", "qos": "long", "constraint": "a100", "job-name": "gauntlet"},
    }
    assert {key: requested[key] for key in expected} == expected
    script = (cluster / "submitted").read_text().splitlines()
    (srun,) = (line for line in script if line.startswith("srun"))
    assert "--kill-on-bad-exit=1" in srun
    assert script.index("module load cuda") < script.index(srun)
    (noted,) = sweeps_of(cluster / "outputs")
    assert len({job.folder for job in noted.jobs}) == jobs
    assert {job.suite for job in noted.jobs} == {"cifar10"}


@pytest.mark.parametrize(
    ("words", "gpus", "tasks"), [(("trainer=cpu", "trainer.devices=2"), None, "2"), (("trainer=gpu",), "1", "1")]
)
def test_a_task_per_device_and_a_gpu_per_task(door, cluster, words, gpus, tasks):
    small = [word for word in QUICK if not word.startswith("trainer=")]
    sweep(door, cluster, "defense=normal", *words, *small, "hydra.launcher.requeue=false")
    requested = flags(cluster / "submitted")
    assert (requested.get("gpus-per-node"), requested["ntasks-per-node"]) == (gpus, tasks)
    assert "no-requeue" in requested
    assert "requeue" not in requested


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("hydra.launcher.timeout_min=5", "at least 6 min"),
        ("hydra.launcher.cpus_per_task=many", "cpus_per_task"),
        ("+hydra.launcher.nodez=2", "nodez"),
    ],
)
def test_an_impossible_slurm_option_is_one_line(door, cluster, word, hint):
    result = sweep(door, cluster, "defense=normal", *QUICK, word)
    assert (result.code, len(result.err.strip().splitlines())) == (2, 1), result.err
    assert hint in result.err
    assert not (cluster / "submitted").exists()


def test_no_slurm_is_one_line(door, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    result = door("train", "-m", "defense=normal", *QUICK, "hydra/launcher=slurm", f"outputs={tmp_path}/outputs")
    assert result.code == 2
    assert "srun" in result.err


def test_the_queue_knows_which_jobs_may_still_run(monkeypatch):
    watcher = QueueWatcher()
    answer = "\n".join(f"{job}|{state}" for job, state in SQUEUE.items())
    monkeypatch.setattr("subprocess.check_output", lambda *_, **__: answer.encode())
    for job in [*SQUEUE, "9"]:
        watcher.register_job(job)
    watcher.update()
    done = {job: watcher.is_done(job, mode="cache") for job in [*SQUEUE, "9"]}
    assert done == {"7_0": False, "7_1": False, "7_2": True, "8": False, "9": True}


def test_a_queue_that_does_not_answer_ends_no_job(monkeypatch):
    def refuse(*_, **__):
        raise OSError("slurm_load_jobs error: Unable to contact slurm controller")

    monkeypatch.setattr("subprocess.check_output", refuse)
    watcher = QueueWatcher()
    watcher.register_job("7")
    assert watcher.get_state("7") == "UNKNOWN"
    assert not watcher.is_done("7")


def test_errors_of_jobs_are_one_line():
    from submitit.core.utils import FailedJobError, UncompletedJobError

    from gauntlet.errors import UserError

    killed = ["Job 7 (task: 0) with path x", "has not produced any output (state: OUT_OF_MEMORY)", "---", "a", "b"]
    assert one_line(UncompletedJobError("\n".join(killed))).endswith("result (OUT_OF_MEMORY); its last output: b")
    trace = ["Job (task=0) failed during processing with trace:", "---", "Traceback", "ValueError: no", "", "---"]
    assert one_line(FailedJobError("\n".join([*trace, "You can check full logs", "  - /x"]))) == "ValueError: no"
    assert one_line(UserError("say so")) == "say so"
    assert one_line(RuntimeError("why\nmore")) == "RuntimeError: why"


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        ("MIG-4f1d2d5e-aa2d-5f9a-9b4a-6c8d3b1a0e7f", ["MIG-4f1d2d5e-aa2d-5f9a-9b4a-6c8d3b1a0e7f"]),
        ("GPU-5ebe9f43, GPU-ac33c7f1", ["GPU-5ebe9f43", "GPU-ac33c7f1"]),
        ("3,1", ["3", "1"]),
        ("0,-1,1", ["0"]),
        ("-1", []),
    ],
)
def test_gpus_by_the_names_that_cuda_has_for_them(monkeypatch, visible, expected):
    from hydra_plugins.gauntlet_sweeps.launchers import visible_gpus

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert visible_gpus() == expected


def test_a_local_job_sees_the_part_of_a_gpu_that_it_was_given(monkeypatch, tmp_path):
    from gauntlet.cluster.queue import LocalJobs

    started = {}
    monkeypatch.setattr("submitit.local.local.start_controller", lambda **given: started.update(given) or Process())
    executor = LocalJobs(tmp_path)
    executor.update_parameters(gpus_per_node=1, tasks_per_node=1, visible_gpus=["MIG-4f1d"])
    executor.submit(print)
    assert started["cuda_devices"] == "MIG-4f1d"


class Process:
    """Of a job that never starts."""

    pid = 7

    def poll(self):
        return 0
