"""Sweeps on a real SLURM without accounting: killed, requeued, rerun, and complete in the end."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.slurm.cluster import Cluster, missing

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

ROOT = Path(__file__).parents[2]
WANDB_HEADER = 7  # bytes of its file that say what it is
STEP = 9  # step of the gate, in the second of three epochs of 7 steps
WORDS = (
    *("defense=normal", "dataset.recipe.batch_size=200", "trainer.max_epochs=3", "model.width=4", "trainer=cpu"),
    *("attack_suite=clean", "dataset.reference=null", "evaluation.examples=40", "evaluation.chunk=20"),
)
SLURM = ("hydra/launcher=slurm", "hydra.launcher.cpus_per_task=1", "hydra.launcher.mem_gb=1")


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    if absent := missing():
        pytest.skip(f"no {', '.join(absent)}: apt-get install slurmctld slurmd slurm-client munge")
    with Cluster(tmp_path_factory.mktemp("slurm")) as cluster:
        cluster.env |= {"WANDB_MODE": "offline", "WANDB_SILENT": "true"}
        yield cluster


@pytest.fixture(autouse=True)
def queue(slurm):
    """What a test leaves in the queue, or waiting for it, is no other's."""
    yield
    slurm.clear()
    while slurm.sweeps:
        slurm.sweeps.pop().kill()


def gate(outputs):
    return f"+callbacks.gate={{_target_: tests.slurm.gate.Gate, step: {STEP}, open: {outputs / 'open'}}}"


def command(outputs, *words):
    sweep = ["-m"] if any("," in word for word in words) else []
    return [sys.executable, "train.py", *sweep, *WORDS, "allow=[tests]", f"outputs={outputs}", gate(outputs), *words]


def begin(slurm, outputs, *words):
    """A sweep whose jobs all wait at the gate, and their ids in order."""
    outputs.mkdir()
    seeds = next(word for word in words if word.startswith("seed=")).removeprefix("seed=").split(",")
    ranks = 2 if "trainer.devices=2" in words else 1
    with (outputs / "output.txt").open("w") as result:
        full = command(outputs, *SLURM, *words)
        sweep = subprocess.Popen(full, cwd=ROOT, env=slurm.env, stdout=result, stderr=subprocess.STDOUT)
    slurm.sweeps.append(sweep)
    at_gate = [f"digits/*/seed{seed}-*/at_gate.{rank}" for seed in seeds for rank in range(ranks)]
    until(
        lambda: sweep.poll() is not None or all(list(outputs.glob(each)) for each in at_gate), lambda: messages(outputs)
    )
    assert sweep.poll() is None, messages(outputs)
    jobs = sorted(slurm.jobs(), key=lambda job: int(job.split("_")[1]))
    return sweep, jobs


def until(condition, otherwise, seconds=420):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, otherwise()
        time.sleep(0.2)


def messages(outputs):
    """What the sweep and its jobs printed."""
    files = [outputs / "output.txt", *outputs.glob(".submitit/*/*_log.out")]
    return "\n".join(f"== {file.name}\n{file.read_text()}" for file in files)


def folder(outputs, seed):
    (actual,) = outputs.glob(f"digits/*/seed{seed}-*")
    return actual


def status(outputs, slurm):
    done = [sys.executable, "-m", "gauntlet.status", str(outputs)]
    return subprocess.run(done, cwd=ROOT, env=slurm.env, capture_output=True, text=True, check=True).stdout


def weights(run):
    return load_file(run / "checkpoints" / "final.safetensors")


def wandb_runs(run, env):
    """Id and group of every offline W&B run in a run folder, but of those killed before W&B wrote a first record."""
    actual = []
    for path in run.glob("wandb/offline-run-*"):
        (file,) = path.glob("run-*.wandb")
        if file.stat().st_size <= WANDB_HEADER:
            continue
        read = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(path)]
        lines = subprocess.run(read, env=env, capture_output=True, text=True, check=True).stdout.splitlines()
        (record,) = (entry["run"] for entry in map(json.loads, lines) if entry["type"] == "run")
        actual.append((record["run_id"], record["run_group"]))
    return actual


def assert_a_wandb_run_per_job(outputs, seeds, env):
    """A job that was killed has two offline folders, both of one run: `wandb sync` puts them together."""
    names = [{path.name.split("-")[-1] for path in folder(outputs, seed).glob("wandb/offline-run-*")} for seed in seeds]
    runs = [set(wandb_runs(folder(outputs, seed), env)) for seed in seeds]
    assert [len(each) for each in runs] == [len(each) for each in names] == [1] * len(runs), (runs, names)
    assert len(set.union(*runs)) == len(seeds)
    (group,) = {group for each in runs for _, group in each}
    assert group.startswith("sweep-")


def test_a_sweep_survives_a_notice_and_a_kill(slurm, tmp_path):
    """Seed 0 gets the signal of its time limit and is requeued; seed 1 is killed; seed 2 is left alone."""
    outputs = tmp_path / "outputs"
    sweep, (first, *_) = begin(slurm, outputs, "seed=0,1,2")
    slurm.ask("scancel", "--signal=USR2", first)
    os.kill(int((folder(outputs, 1) / "at_gate.0").read_text()), signal.SIGKILL)
    time.sleep(2)
    (outputs / "open").touch()
    slurm.start_again(first)
    assert sweep.wait(420) == 2, messages(outputs)  # and no hang, although there is no sacct
    result = (outputs / "output.txt").read_text()
    assert "1 of 3 jobs failed, seed=1 with: it ended without a result (FAILED)" in result, messages(outputs)
    assert "going on from" in messages(outputs)

    glance = status(outputs, slurm)
    assert glance.startswith("3 runs: 1 failed, 2 done")
    assert not (folder(outputs, 1) / "report.md").exists()
    before = {file: file.stat().st_mtime_ns for seed in (0, 2) for file in folder(outputs, seed).rglob("*.parquet")}
    again = glance.strip().splitlines()[-1].strip()
    assert again.endswith("hydra.sweeper.only=failed")
    words = shlex.split(again.split("&&")[-1])
    rerun = subprocess.run([sys.executable, *words[1:]], cwd=ROOT, env=slurm.env, capture_output=True, text=True)
    assert rerun.returncode == 0, rerun.stdout + rerun.stderr + messages(outputs)
    assert "1 of 3 jobs are failed" in rerun.stdout
    assert {file: file.stat().st_mtime_ns for file in before} == before

    assert status(outputs, slurm).startswith("3 runs: 3 done")
    table = subprocess.run(
        [sys.executable, "report.py", f"runs={outputs}", "suite=clean"], cwd=ROOT, capture_output=True, text=True
    )
    assert [f"seed{seed}" in table.stdout for seed in range(3)] == [True] * 3, table.stdout + table.stderr
    assert_a_wandb_run_per_job(outputs, range(3), slurm.env)

    alone = tmp_path / "alone"
    alone.mkdir()
    (alone / "open").touch()
    subprocess.run(command(alone, "seed=0", "logger=csv"), cwd=ROOT, check=True, capture_output=True)
    one, other = weights(folder(alone, 0)), weights(folder(outputs, 0))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_jobs_of_two_ranks_are_requeued_and_finish(slurm, tmp_path):
    """One by submitit's notice, one by the cluster's own hand."""
    outputs = tmp_path / "outputs"
    sweep, (first, second) = begin(slurm, outputs, "seed=0,1", "trainer.devices=2")
    slurm.ask("scancel", "--signal=USR2", first)
    slurm.ask("scontrol", "requeue", second)
    time.sleep(2)
    (outputs / "open").touch()
    slurm.start_again(first)
    slurm.start_again(second)
    assert sweep.wait(600) == 0, messages(outputs)
    assert messages(outputs).count("going on from") == 4  # ranks
    assert status(outputs, slurm).startswith("2 runs: 2 done")
    assert_a_wandb_run_per_job(outputs, range(2), slurm.env)


@pytest.mark.parametrize(
    ("start", "devices", "hint"),
    [
        (("srun", "-n1"), 2, "srun --nodes=1 --ntasks-per-node=2"),
        (("srun", "-n2", "--ntasks-per-node=2"), 1, "SLURM_NTASKS is 2"),
    ],
)
def test_another_number_of_tasks_than_devices_is_refused(slurm, tmp_path, start, devices, hint):
    words = command(tmp_path, f"trainer.devices={devices}", "logger=csv")
    done = subprocess.run([*start, *words], cwd=ROOT, env=slurm.env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2
    assert hint in done.stderr
    assert not list(tmp_path.rglob("*.ckpt"))
