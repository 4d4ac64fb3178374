"""The revision that a run records is that of Gauntlet's own source tree, and of nothing else."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from gauntlet.runs import folder
from gauntlet.runs.folder import provenance

QUIET = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}


def git(path, *words):
    author = ("-c", "user.name=a", "-c", "user.email=a@b")
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")} | QUIET
    command = ["git", "-C", path, *author, *words]
    return subprocess.run(command, check=True, capture_output=True, text=True, env=clean).stdout.strip()


def repository(path):
    path.mkdir(parents=True)
    git(path, "init", "-q")
    (path / "file").write_text("")
    git(path, "add", ".")
    git(path, "commit", "-qm", ascii(path.name))
    return git(path, "rev-parse", "HEAD")[:12]


def installed(path, monkeypatch):
    """Gauntlet's module, as if it lay there."""
    file = path / "gauntlet" / "runs" / "folder.py"
    file.parent.mkdir(parents=True)
    shutil.copy(Path(folder.__file__), file)
    monkeypatch.setattr(folder, "__file__", str(file))


@pytest.mark.parametrize("name", ["tree", "Ünïcode", os.fsdecode(b"l\xe4ufe")])
def test_the_revision_is_that_of_the_source_tree(tmp_path, monkeypatch, name):
    revision = repository(tmp_path / name)
    installed(tmp_path / name / "src", monkeypatch)
    assert provenance()["revision"] == revision
    (tmp_path / name / "file").write_text("changed")
    assert provenance()["revision"] == f"{revision}+"


def test_the_repository_around_an_environment_is_ignored(tmp_path, monkeypatch):
    repository(tmp_path / "theirs")
    installed(tmp_path / "theirs" / ".venv" / "lib" / "python3.11" / "site-packages", monkeypatch)
    assert provenance()["revision"] is None


def test_a_source_tree_inside_another_repository_is_not_that_repository(tmp_path, monkeypatch):
    repository(tmp_path / "theirs")
    installed(tmp_path / "theirs" / "vendored" / "src", monkeypatch)
    assert provenance()["revision"] is None


def test_git_s_environment_variables_are_ignored(tmp_path, monkeypatch):
    revision, other = repository(tmp_path / "tree"), repository(tmp_path / "other")
    installed(tmp_path / "tree" / "src", monkeypatch)
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other" / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(tmp_path / "other"))
    assert provenance()["revision"] == revision != other


def test_without_git_there_is_no_revision(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert provenance()["revision"] is None
