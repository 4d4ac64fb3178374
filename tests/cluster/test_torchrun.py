"""Several processes on one machine: torchrun's, and those of the launcher of local sweeps."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.conftest import QUICK, own_environment

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

ROOT = Path(__file__).parents[2]
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
SMALL = [word for word in QUICK if not word.startswith("model.")]
WORDS = (
    *("defense=at_l2", "model=linear", "defense.attack.steps=2", "trainer.max_epochs=2", "attack_suite=clean"),
    *("dataset.reference=null", *SMALL),
)


def train(outputs, *words, start=TORCHRUN):
    command = [*start, "train.py", *WORDS, f"outputs={outputs}", *words]
    messages = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, cwd=ROOT, env=own_environment(), **messages)


def finished(outputs):
    (card,) = outputs.glob("digits/*/*/card.json")
    return card.parent


def weights(outputs):
    return load_file(finished(outputs) / "checkpoints" / "final.safetensors")


def test_two_processes_of_a_batch_follow_one_of_twice_the_batch(tmp_path):
    """Adversarial training without BatchNorm: what is left is the order of a sum in float32.

    Under L2, whose steps are smooth: the signs of L∞ flip where a gradient is nearly zero.
    """
    runs = [
        train(tmp_path / "two", "dataset.recipe.batch_size=50"),
        train(tmp_path / "one", "dataset.recipe.batch_size=100", start=(sys.executable,)),
    ]
    messages = [run.communicate()[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], messages
    two, one = weights(tmp_path / "two"), weights(tmp_path / "one")
    assert all(two[name].allclose(one[name], rtol=0, atol=1e-4) for name in one)
    assert messages[0].count("epoch 2/2") == 1
    assert len(list((tmp_path / "two").rglob("*.parquet"))) == 2


def at_gate(outputs, rank, process):
    deadline = time.monotonic() + 300
    while not (actual := list(outputs.glob(f"digits/*/*/at_gate.{rank}"))):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.1)
    time.sleep(0.2)
    return int(actual[0].read_text())


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGTERM])
def test_a_dead_rank_ends_the_other_and_the_same_command_resumes(tmp_path, blow):
    """SIGKILL takes one rank: torchrun says which and ends the other. SIGTERM to torchrun: both stop at one step."""
    gate = f"{{_target_: tests.slurm.gate.Gate, step: 15, open: {tmp_path / 'open'}}}"
    words = ("dataset.recipe.batch_size=50", f"+callbacks.gate={gate}", "allow=[tests]")
    run = train(tmp_path, *words)
    first, second = (at_gate(tmp_path, rank, run) for rank in range(2))
    if blow == signal.SIGKILL:
        os.kill(second, blow)
    else:
        run.send_signal(blow)
        time.sleep(1)
    (tmp_path / "open").touch()
    result, _ = run.communicate(timeout=120)
    assert run.returncode
    if blow == signal.SIGKILL:
        assert re.search(rf"exitcode: -9\) local_rank: 1 \(pid: {second}\)", result), result
    else:
        assert result.count("the same command goes on from the last checkpoint") == 2, result
    with pytest.raises(ProcessLookupError):
        os.kill(first, 0)
    again = train(tmp_path, *words)
    result, _ = again.communicate(timeout=400)
    assert again.returncode == 0, result
    assert "going on from" in result
    whole = train(tmp_path / "alone", *words)
    whole.communicate(timeout=400)
    one, other = weights(tmp_path), weights(tmp_path / "alone")
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_another_number_of_devices_is_refused(tmp_path):
    run = train(tmp_path, "trainer.devices=4")
    result, _ = run.communicate(timeout=300)
    assert run.returncode
    assert "gauntlet: trainer" in result
    assert not list(tmp_path.rglob("*.ckpt"))


def test_a_local_sweep_runs_jobs_of_two_ranks_one_after_the_other(tmp_path):
    words = ("-m", "hydra/launcher=local", "trainer.devices=2", "seed=0,1", "dataset.recipe.batch_size=50")
    command = [sys.executable, "train.py", words[0], *WORDS, *words[1:], f"outputs={tmp_path}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.findall("seed=([01]): done", done.stdout) == ["0", "1"]
    assert len(list(tmp_path.glob("digits/*/*/report.md"))) == 2
    logs = [file.read_text() for file in tmp_path.glob(".submitit/*/*_1_log.out")]
    assert len(logs) == 2
    assert all("completed successfully" in log for log in logs)
    assert not any(
        messages in log for log in logs for messages in ("epoch", "chunk", "unseen mean")
    )  # the first rank tells
