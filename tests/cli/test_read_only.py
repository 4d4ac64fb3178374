"""A read-only run folder can be shown, dry-run, and evaluated into other outputs."""

import ctypes
import json
import shutil
from contextlib import contextmanager

import pytest

from gauntlet import status
from gauntlet.files import read_json
from gauntlet.runs.failures import note_failure
from tests.conftest import QUICK

SMALL = ("evaluation.examples=40", "evaluation.chunk=20")


class Header(ctypes.Structure):
    """Of the system calls that read and set capabilities."""

    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class Capabilities(ctypes.Structure):
    """Sets of bits, in two words."""

    _fields_ = tuple((name, ctypes.c_uint32) for word in "01" for name in (f"effective{word}", f"p{word}", f"i{word}"))


@contextmanager
def permissions_count():
    """Drop CAP_DAC_OVERRIDE, with which root ignores permissions."""
    libc, header, given = ctypes.CDLL(None, use_errno=True), Header(0x20080522, 0), Capabilities()
    assert libc.capget(ctypes.byref(header), ctypes.byref(given)) == 0
    fewer = Capabilities.from_buffer_copy(given)
    fewer.effective0 &= ~0b110
    assert libc.capset(ctypes.byref(header), ctypes.byref(fewer)) == 0
    try:
        yield
    finally:
        assert libc.capset(ctypes.byref(header), ctypes.byref(given)) == 0


@pytest.fixture
def frozen(run):
    """A finished read-only run folder, and its files."""
    (run / ".lock").touch()
    paths = [run, *run.rglob("*")]
    modes = {folder: folder.stat().st_mode for folder in paths}
    for folder in paths:
        folder.chmod(modes[folder] & ~0o222)
    with permissions_count():
        with pytest.raises(PermissionError):
            (run / "new").touch()
        yield run
    for folder in paths:
        folder.chmod(modes[folder])


def test_a_finished_run_is_shown_again(door, frozen):
    words = ("defense=normal", "trainer.max_epochs=3", f"outputs={frozen.parents[2]}", *QUICK)
    result = door("train", *words, f"hydra.run.dir={frozen}")
    assert result.code == 0, result.err
    assert "union" in result.out
    result = door("evaluate", f"checkpoint={frozen}", *SMALL, "logger=csv")
    assert result.code == 0, result.err
    assert "union" in result.out


def test_it_is_dry_run(door, frozen):
    result = door("evaluate", f"checkpoint={frozen}", *SMALL, "dry_run=true", "suite=other")
    assert result.code == 0, result.err
    assert "nothing was written" in result.out


def test_it_is_evaluated_into_other_outputs(door, frozen, tmp_path):
    """With the reference network of the run, which is not fitted again."""
    result = door("evaluate", f"checkpoint={frozen}", *SMALL, "logger=csv", f"outputs={tmp_path}/mine")
    assert result.code == 0, result.err
    assert "fitting the perceptual network" not in result.out
    (card,) = (tmp_path / "mine" / "evaluate").glob("*/card.json")
    assert read_json(card) == read_json(frozen / "card.json")
    assert {folder.name for folder in (card.parent / "records").iterdir()} == {
        folder.name for folder in (frozen / "records").iterdir()
    }


def test_a_missing_suite_is_one_line_that_can_be_followed(door, frozen, tmp_path):
    words = (f"checkpoint={frozen}", "attack_suite=clean", "suite=other", "evaluation.examples=5", "logger=csv")
    result = door("evaluate", *words)
    assert (result.code, len(result.err.strip().splitlines())) == (2, 1), result.err
    assert "outputs=<folder>" in result.err
    assert door("evaluate", *words, f"outputs={tmp_path}/mine").code == 0


def test_a_dry_run_leaves_a_failure_as_it_is(door, run):
    note_failure(run, "RuntimeError: as it was")
    before = (run / "error.json").read_bytes()
    assert door("evaluate", f"checkpoint={run}", *SMALL, "dry_run=true").code == 0
    assert (run / "error.json").read_bytes() == before
    assert status.state_of(run) == "failed"
    assert door("evaluate", f"checkpoint={run}", "dry_run=true", "trained_on=banana").code == 2
    assert (run / "error.json").read_bytes() == before


def test_a_run_inside_the_outputs_that_are_given_is_evaluated_in_its_own_folder(door, run):
    shutil.rmtree(run / "records")
    assert door("evaluate", f"checkpoint={run}", *SMALL, "logger=csv", f"outputs={run.parents[2]}").code == 0
    assert json.loads((run / "suites" / "quick.json").read_text())["examples"] == 40
    assert not (run.parents[2] / "evaluate").exists()
