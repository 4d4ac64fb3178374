"""Killed, with a full disk, twice, in three processes: the records are those of one undisturbed process."""

import multiprocessing
import os
import random
import signal
import threading
import time
from pathlib import Path

import pytest

from gauntlet.errors import UserError
from gauntlet.evaluation import runner
from tests.evaluation import tiny


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return tiny.records(tiny.run(tmp_path_factory.mktemp("whole")))


@pytest.fixture(scope="module")
def forks():
    """Processes that begin with everything imported, from a server that has never computed anything."""
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path.cwd()), os.environ.get("PYTHONPATH", "")])
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.evaluation.tiny"])
    return context


def lines(log):
    return log.read_text().splitlines() if log.exists() else []


def until(condition):
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def kill_somewhere(forks, folder, log, chance):
    """SIGKILL at a random moment of a random chunk: while it is measured, written, or just after."""
    process = forks.Process(target=tiny.process, args=(folder, log, 0, 1, 0.0))
    process.start()
    after = chance.randrange(1, tiny.CHUNKS)
    until(lambda: len(lines(log)) >= after or not process.is_alive())
    time.sleep(chance.uniform(0, 0.04))
    process.kill()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)


@pytest.mark.parametrize("seed", [*range(3), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(3, 30))])
def test_killed_at_any_moment_it_finishes_with_the_same_records(forks, whole, tmp_path, monkeypatch, seed):
    log, chance, kills = tmp_path / "log", random.Random(seed), 1 + seed % 3
    for _ in range(kills):
        kill_somewhere(forks, tmp_path / "records", log, chance)
    monkeypatch.setattr(runner, "measure_chunk", tiny.noting(log))
    assert tiny.same(tiny.records(tiny.run(tmp_path / "records")), whole)
    assert len(set(lines(log))) == tiny.CHUNKS
    assert len(lines(log)) <= tiny.CHUNKS + kills  # at most one chunk was done again
    leftovers = [file.name for file in tmp_path.glob("records/*/.*") if not file.name.startswith(".identity")]
    assert leftovers == []


@pytest.mark.parametrize("world", [1, 2, 3])
def test_processes_at_once_share_the_chunks_and_give_the_records_of_one(forks, whole, tmp_path, world):
    log = tmp_path / "log"
    processes = [forks.Process(target=tiny.process, args=(tmp_path, log, rank, world, 0.01)) for rank in range(world)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0] * world
    assert sorted(lines(log)) == sorted(set(lines(log)))
    assert len(lines(log)) == tiny.CHUNKS
    assert tiny.same(tiny.records(tiny.GRID.folders(tiny.model(), tiny.suite(), tmp_path)), whole)


def test_two_processes_that_know_nothing_of_each_other_do_no_harm(forks, whole, tmp_path):
    log = tmp_path / "log"
    processes = [forks.Process(target=tiny.process, args=(tmp_path, log, 0, 1, 0.01)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0]
    assert len(lines(log)) == tiny.CHUNKS
    assert tiny.same(tiny.records(tiny.GRID.folders(tiny.model(), tiny.suite(), tmp_path)), whole)


def test_a_chunk_of_another_process_is_waited_for_and_taken_over_when_it_dies(forks, whole, tmp_path, monkeypatch):
    log, (here, there) = tmp_path / "log", forks.Pipe()
    holder = forks.Process(target=tiny.hold, args=(tmp_path, there))
    holder.start()
    assert here.poll(120)
    assert here.recv() is True
    monkeypatch.setattr(runner, "measure_chunk", tiny.noting(log))

    def kill_when_only_his_is_left():
        until(lambda: len(lines(log)) == tiny.CHUNKS - 1)
        holder.kill()

    killer = threading.Thread(target=kill_when_only_his_is_left)
    killer.start()
    result = tiny.records(tiny.run(tmp_path))
    killer.join()
    assert lines(log)[-1] == "clean-0.0 100"
    assert len(lines(log)) == tiny.CHUNKS
    assert tiny.same(result, whole)


@pytest.mark.parametrize("limit", [500, 3000])
def test_a_full_disk_is_one_clear_line_and_leaves_nothing_half_written(forks, whole, tmp_path, limit):
    here, there = forks.Pipe()
    process = forks.Process(target=tiny.fill, args=(tmp_path, limit, there))
    process.start()
    assert here.poll(120)
    message = here.recv()
    process.join()
    assert "could not be written (File too large): make room" in message
    assert {file.name for file in tmp_path.rglob("*") if file.is_file()} <= {"identity.json", ".00000.lock"}
    assert tiny.same(tiny.records(tiny.run(tmp_path)), whole)


def test_a_disk_that_fills_up_on_the_way_keeps_what_was_done(whole, tmp_path, monkeypatch):
    sync, count = os.fsync, 0

    def full(descriptor):
        nonlocal count
        count += 1
        if count == 9:
            raise OSError(28, "No space left on device")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="No space left on device"):
        tiny.run(tmp_path)
    monkeypatch.undo()
    assert len(list(tmp_path.rglob("*.parquet"))) == 8 - 2  # two attacks have their identity
    assert tiny.same(tiny.records(tiny.run(tmp_path)), whole)


@pytest.mark.parametrize("kills", [0, 1, 2])
def test_logits_are_compared_by_one_process_for_all_that_were_started_together(forks, tmp_path, kills):
    """A comparison is two forwards: the logits, and the same again. Where it is killed, another process does it."""
    log, said = tmp_path / "log", forks.Queue()
    begun = (tmp_path, log, "a group", 0.2, said)
    processes = [forks.Process(target=tiny.recognise, args=begun) for _ in range(3)]
    for process in processes:
        process.start()
    for kill in range(kills):
        until(lambda seen=kill: len(lines(log)) > seen)
        at_it = int(lines(log)[-1].split()[0])
        next(process for process in processes if process.pid == at_it).kill()
    for process in processes:
        process.join(120)
    assert sorted(process.exitcode for process in processes) == [-signal.SIGKILL] * kills + [0] * (3 - kills)
    assert [said.get(timeout=10) for _ in range(3 - kills)] == [0] * (3 - kills)
    assert len(lines(log)) == kills + 2
    assert len({line.split()[0] for line in lines(log)}) == kills + 1


def test_logits_are_compared_again_by_a_later_command_and_by_one_that_knows_nothing_of_others(forks, tmp_path):
    log, said = tmp_path / "log", forks.Queue()
    for forwards, group in ((2, "first"), (2, "first"), (4, "second"), (6, None), (8, None), (8, "second")):
        process = forks.Process(target=tiny.recognise, args=(tmp_path, log, group, 0.0, said))
        process.start()
        process.join(120)
        assert said.get(timeout=10) == 0
        assert len(lines(log)) == forwards
