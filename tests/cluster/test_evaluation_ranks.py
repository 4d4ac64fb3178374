"""Two processes under torchrun: the records of one, also after a kill, and one decision about a restart."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from gauntlet.evaluation import Kind, read_records
from tests.conftest import QUICK

TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
LONG = (
    *("suite=long", "attack_suite.attacks.linf.steps=100", "evaluation.probed=1"),
    *("evaluation.examples=40", "evaluation.chunk=5"),
)
PATIENCE = 600  # seconds, on a busy machine
pytestmark = pytest.mark.timeout(5 * PATIENCE)


def start(*words):
    """In a session of its own, so that a test that fails can end all of it."""
    return subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ, start_new_session=True
    )


def finish(process):
    """Its output; a group that does not end fails the test."""
    try:
        result, _ = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        pytest.fail(f"did not end: {process.communicate()[0][-2000:]}")
    return result


def records(run):
    paths = sorted(path for path in (run / "records").iterdir() if path.is_dir())
    return {path.name: read_records(path, Kind.ATTACK).drop("seconds") for path in paths}


def assert_same(one, other):
    assert one.keys() == other.keys()
    assert all(frame.equals(other[name], null_equal=True) for name, frame in one.items())


def chunks(run):
    return list((run / "records").glob("linf-*/*.parquet"))


def child_of_rank(agent, rank):
    """The process id of a rank that torchrun started; None before it exists."""
    listed = Path(f"/proc/{agent.pid}/task/{agent.pid}/children").read_text().split()
    for child in map(int, listed):
        if f"RANK={rank}".encode() in Path(f"/proc/{child}/environ").read_bytes().split(b"\0"):
            return child
    return None


@pytest.fixture
def bare(run):
    """A trained run without an evaluation."""
    for folder in ("records", "suites", "pictures"):
        shutil.rmtree(run / folder)
    return run


@pytest.fixture
def expected(bare, tmp_path):
    """The records of one process."""
    alone = shutil.copytree(bare, tmp_path / "outputs" / "digits" / "normal" / "alone")
    result = finish(process := start(sys.executable, "evaluate.py", f"checkpoint={alone}", *LONG))
    assert process.returncode == 0, result
    return records(alone)


@pytest.mark.slow
def test_two_processes_give_the_records_of_one_and_one_report(bare, expected):
    result = finish(process := start(*TORCHRUN, "evaluate.py", f"checkpoint={bare}", *LONG))
    assert process.returncode == 0, result
    assert_same(records(bare), expected)
    assert result.count("clean accuracy") == result.count("evaluated in") == 1
    assert result.count("linf: chunk 8 of 8") == 1
    assert (bare / "report.md").exists()


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_rank_ends_the_group_and_the_same_command_resumes(bare, expected, rank):
    command = (*TORCHRUN, "evaluate.py", f"checkpoint={bare}", *LONG)
    process, deadline = start(*command), time.monotonic() + PATIENCE
    while len(chunks(bare)) < 2:
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.01)
    os.kill(child_of_rank(process, rank), signal.SIGKILL)
    finish(process)
    assert process.returncode != 0
    done = {file: file.stat().st_mtime_ns for file in chunks(bare)}
    assert 0 < len(done) < 8
    result = finish(process := start(*command))
    assert process.returncode == 0, result
    assert {file: file.stat().st_mtime_ns for file in done} == done
    assert_same(records(bare), expected)


@pytest.mark.slow
def test_a_restart_is_one_for_all_ranks(run):
    """If one rank saw the old weights while the other trained, both would wait for ever."""
    old = load_file(run / "checkpoints" / "final.safetensors")
    pair = ("trainer.devices=2", "trainer.max_epochs=1")
    where = (f"outputs={run.parents[2]}", f"hydra.run.dir={run}")
    command = (*TORCHRUN, "train.py", "defense=normal", *QUICK, *pair, *where, "restart=true")
    for times in (1, 2):
        result = finish(process := start(*command))
        assert process.returncode == 0, result
        assert run.with_name(f"{run.name}.old{times}").exists()
    new = load_file(run / "checkpoints" / "final.safetensors")
    assert not all(torch.equal(new[name], old[name]) for name in old)
