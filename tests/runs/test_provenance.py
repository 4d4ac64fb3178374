"""The revision that a run records is that of Gauntlet's own source tree, and of nothing else."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from gauntlet.runs import folder
from gauntlet.runs.folder import provenance

QUIET = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}


def git(place, *words):
    author = ("-c", "user.name=a", "-c", "user.email=a@b")
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")} | QUIET
    command = ["git", "-C", place, *author, *words]
    return subprocess.run(command, check=True, capture_output=True, text=True, env=clean).stdout.strip()


def repository(place):
    place.mkdir(parents=True)
    git(place, "init", "-q")
    (place / "file").write_text("")
    git(place, "add", ".")
    git(place, "commit", "-qm", ascii(place.name))
    return git(place, "rev-parse", "HEAD")[:12]


def installed(place, monkeypatch):
    """Gauntlet's module, as if it lay there."""
    file = place / "gauntlet" / "runs" / "folder.py"
    file.parent.mkdir(parents=True)
    shutil.copy(Path(folder.__file__), file)
    monkeypatch.setattr(folder, "__file__", str(file))


@pytest.mark.parametrize("name", ["tree", "Ünïcode", os.fsdecode(b"l\xe4ufe")])
def test_the_source_tree_says_its_revision(tmp_path, monkeypatch, name):
    revision = repository(tmp_path / name)
    installed(tmp_path / name / "src", monkeypatch)
    assert provenance()["revision"] == revision
    (tmp_path / name / "file").write_text("changed")
    assert provenance()["revision"] == f"{revision}+"


def test_the_repository_that_an_environment_lies_in_is_not_asked(tmp_path, monkeypatch):
    repository(tmp_path / "theirs")
    installed(tmp_path / "theirs" / ".venv" / "lib" / "python3.11" / "site-packages", monkeypatch)
    assert provenance()["revision"] is None


def test_a_source_tree_inside_another_repository_is_not_that_repository(tmp_path, monkeypatch):
    repository(tmp_path / "theirs")
    installed(tmp_path / "theirs" / "vendored" / "src", monkeypatch)
    assert provenance()["revision"] is None


def test_the_environment_of_git_is_not_asked(tmp_path, monkeypatch):
    revision, other = repository(tmp_path / "tree"), repository(tmp_path / "other")
    installed(tmp_path / "tree" / "src", monkeypatch)
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other" / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(tmp_path / "other"))
    assert provenance()["revision"] == revision != other


def test_without_git_there_is_no_revision(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert provenance()["revision"] is None
