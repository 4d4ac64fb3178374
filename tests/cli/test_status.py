"""The status of a sweep, from folders alone: every state, and the command for the remaining jobs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from gauntlet import status
from gauntlet.cluster.sweeps import Job, Sweep
from gauntlet.runs.failures import failures_noted, note_failure
from gauntlet.runs.folder import RunFolder
from tests.conftest import QUICK


def write(file, content):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content if isinstance(content, str) else json.dumps(content))


def begun(folder, epochs=4, logged=()):
    """A run folder as training leaves it; `logged` are (step, epoch)."""
    names = {"dataset": "digits", "model": "linear", "defense": "normal"}
    config = {"dataset": {}, "model": {}, "names": names, "suite": "quick", "trainer": {"max_epochs": epochs}}
    write(folder / "config.yaml", config)
    write(folder / "provenance.json", [{"command": ["train.py", "defense=normal"]}])
    lines = [f"{step},{epoch},0.5" for step, epoch in logged]
    write(folder / "metrics.csv", "\n".join(["step,epoch,speed/step_seconds", *lines]))
    return folder


def done(folder, suite="quick"):
    begun(folder)
    write(folder / "card.json", {"checkpoint": "abc"})
    write(folder / "checkpoints" / "final.safetensors", "")
    write(folder / "suites" / f"{suite}.json", {"checkpoint": "abc"})
    write(folder / "report.md", "")
    return folder


def test_a_folder_has_the_state_of_its_run(tmp_path):
    assert status.state_of(tmp_path / "nothing") == "waiting"
    assert status.state_of(begun(tmp_path / "stopped")) == "stopped"
    assert status.state_of(done(tmp_path / "done")) == "done"
    note_failure(begun(tmp_path / "failed"), "UserError: no")
    assert status.state_of(tmp_path / "failed") == "failed"
    with RunFolder(tmp_path / "failed").locked():
        assert status.state_of(tmp_path / "failed") == "running"
    assert status.state_of(tmp_path / "failed") == "failed"


def test_a_locked_chunk_means_running(tmp_path):
    from gauntlet.evaluation import Kind, RecordFolder

    done(tmp_path)
    with RecordFolder(tmp_path / "records", "linf", Kind.ATTACK, {}).taking(0):
        assert status.state_of(tmp_path) == "running"
    assert status.state_of(tmp_path) == "done"


def test_done_means_done_with_the_requested_suite_and_these_weights(tmp_path):
    done(tmp_path)
    assert status.state_of(tmp_path, "quick") == "done"
    assert status.state_of(tmp_path, "strong") == "stopped"
    write(tmp_path / "card.json", {"checkpoint": "other weights"})
    assert status.state_of(tmp_path, "quick") == "stopped"


def test_the_time_left_is_known_once_an_epoch_is_whole(tmp_path):
    assert status.progress_of(begun(tmp_path / "a", logged=[(4, 0)])) == "epoch 1 of 4"
    steps = [(4, 0), (9, 0), (14, 1), (19, 1), (24, 2)]  # 10 steps an epoch, half a second each; 15 are left
    assert status.progress_of(begun(tmp_path / "b", logged=steps)) == "epoch 3 of 4, 8 s of training left"
    assert status.progress_of(begun(tmp_path / "c")) == "no step logged yet"


def test_status_does_not_refuse_a_run_its_folder(tmp_path):
    """Status takes the lock for a moment; a start waits that long."""
    import threading

    from filelock import FileLock

    (tmp_path / ".lock").touch()
    lock = FileLock(tmp_path / ".lock", thread_local=False)
    lock.acquire()
    threading.Timer(0.2, lock.release).start()
    with RunFolder(tmp_path).locked():
        pass


def test_a_failure_is_kept_in_a_run_that_has_begun_and_the_next_start_removes_it(tmp_path):
    def fail(folder, always):
        with pytest.raises(RuntimeError), failures_noted(folder, always):
            raise RuntimeError("first line\nsecond line")

    fail(tmp_path / "new", always=False)
    assert not (tmp_path / "new").exists()
    fail(tmp_path / "job", always=True)
    fail(begun(tmp_path / "begun"), always=False)
    for name in ("job", "begun"):
        assert status.failure_of(tmp_path / name) == "RuntimeError: first line"
        with failures_noted(tmp_path / name, always=False):
            assert status.failure_of(tmp_path / name) is None


def test_a_start_in_a_folder_in_use_is_no_failure_of_the_run_that_uses_it(tmp_path):
    folder = RunFolder(begun(tmp_path))
    with folder.locked():
        from gauntlet.errors import InUse

        with pytest.raises(InUse), failures_noted(tmp_path, always=True), folder.locked():
            pass
    assert status.failure_of(tmp_path) is None


@pytest.fixture
def outputs(tmp_path):
    """Four jobs of a sweep in four states, a run outside of sweeps, and folders that are no runs."""
    path = tmp_path / "outputs"
    names = ("done", "failed", "stopped", "waiting")
    folders = {name: path / "digits" / "normal" / name for name in names}
    done(folders["done"])
    note_failure(begun(folders["failed"]), "NotFiniteError: the training loss is nan")
    begun(folders["stopped"], logged=[(4, 0)])
    note_failure(begun(path / "digits" / "alone"), "RuntimeError: alone")
    done(path / "references" / "digits" / "alexnet")
    command = ["train.py", "-m", "defense=normal", "seed=glob(*)", "hydra.sweeper.only=all"]
    Sweep(command, str(Path.cwd()), [Job(folder, "quick") for folder in folders.values()]).save(path)
    return path


def test_numbers_errors_and_what_to_run_again(outputs, capsys):
    status.main([str(outputs)])
    result = capsys.readouterr().out
    assert result.startswith("5 runs: 2 failed, 1 stopped, 1 waiting, 1 done\n")
    assert "digits/normal/failed  NotFiniteError: the training loss is nan" in result
    assert "digits/normal/stopped  epoch 1 of 4" in result
    assert result.endswith(
        "  python train.py -m defense=normal 'seed=glob(*)' hydra.sweeper.only=failed\n"
        "  python train.py defense=normal\n"
    )


def test_a_folder_of_the_sweep_is_shown_alone_and_a_moved_one_is_found(outputs, capsys):
    moved = outputs.rename(outputs.with_name("moved"))
    status.main([str(moved / "digits" / "normal")])
    assert capsys.readouterr().out.startswith("4 runs: 1 failed, 1 stopped, 1 waiting, 1 done\n")


@pytest.mark.parametrize("made", [True, False])
def test_no_runs_is_one_line(tmp_path, capsys, made):
    path = tmp_path / "empty"
    if made:
        path.mkdir()
    with pytest.raises(SystemExit) as stop:
        status.main([str(path)])
    assert stop.value.code == 2
    assert str(path) in capsys.readouterr().err


def test_status_needs_no_torch(outputs):
    """A second, where importing torch takes ten on a busy login node."""
    script = (
        f"import sys; from gauntlet import status; status.main([{str(outputs)!r}]); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True).returncode == 0


SMALL = ("defense=normal", "attack_suite=clean", "dataset.reference=null", "trainer.max_epochs=1", *QUICK)


def test_a_sweep_runs_only_failed_jobs_again(door, tmp_path):
    path = tmp_path / "outputs"
    result = door("train", "-m", *SMALL, "seed=0,1", "optimizer.lr=0.1,-1", f"outputs={path}")
    assert result.code == 2
    runs, again = status.survey([path])
    assert sorted(run.state for run in runs) == ["done", "done", "failed", "failed"]
    assert {run.detail for run in runs} == {"", "UserError: optimizer: Invalid learning rate: -1"}
    assert again == [status.shell_command([*sys.argv, "hydra.sweeper.only=failed"])]
    before = {file: file.stat().st_mtime_ns for file in path.glob("*/*/*/checkpoints/*")}
    result = door("train", *sys.argv[1:], "hydra.sweeper.only=failed")
    assert "2 of 4 jobs are failed" in result.out
    assert {file: file.stat().st_mtime_ns for file in before} == before
    result = door("train", "-m", *SMALL, "seed=0,1", f"outputs={path}", "hydra.sweeper.only=unfinished")
    assert (result.code, "0 of 2 jobs are unfinished" in result.out) == (0, False)


@pytest.mark.parametrize("words", [("+experiment/cifar10=glob(nothing*)",), ("hydra.sweeper.only=some",)])
def test_a_sweep_of_nothing_is_one_line(door, tmp_path, words):
    result = door("train", "-m", *SMALL, *words, f"outputs={tmp_path / 'outputs'}")
    assert (result.code, len(result.err.strip().splitlines())) == (2, 1), result.err
    assert "glob" in result.err or "unfinished" in result.err
