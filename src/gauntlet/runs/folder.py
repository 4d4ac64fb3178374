"""Run folders: one config, one training, its records. The same command resumes in the same folder."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from gauntlet import __version__
from gauntlet.cluster.ranks import restarted
from gauntlet.config.compose import training_part
from gauntlet.descriptions import differences
from gauntlet.errors import InUse, UserError
from gauntlet.files import read_json, write_atomically

_LOCK_TIMEOUT = 1.0  # seconds; `gauntlet.status` holds the lock for a moment while it tests it
_RESTART_TIMEOUT = 120.0  # seconds after which network file systems release the locks of a dead machine
_PACKAGES = (
    *("torch", "torchvision", "lightning", "hydra-core", "omegaconf", "lpips", "torchmetrics", "polars", "numpy"),
    *("scipy", "pillow"),  # compute corruptions
)


@dataclass(frozen=True)
class RunFolder:
    """The folder of `hydra.run.dir`."""

    path: Path

    @property
    def weights(self) -> Path:
        """File of the trained classifier; exists once training is done."""
        return self.path / "checkpoints" / "final.safetensors"

    @property
    def records(self) -> Path:
        """Folder of the grid's records."""
        return self.path / "records"

    def config(self) -> dict[str, Any]:
        """Read the config with which the folder was begun.

        Raises:
            UserError: it is missing or no config of a training run.
        """
        try:
            config = yaml.safe_load((self.path / "config.yaml").read_bytes())
        except (OSError, yaml.YAMLError):
            config = None
        if not isinstance(config, dict) or not {"dataset", "model", "names"} <= config.keys():
            raise UserError(f"{self.path} is no run folder: it has no config.yaml of a training run")
        return config

    def check(self, config: Mapping[str, Any]) -> None:
        """Refuse a config that trains otherwise than the one the folder was begun with.

        Raises:
            UserError: with the differences.
        """
        if (self.path / "config.yaml").exists():
            changed = differences(training_part(self.config()), training_part(config))
            if changed:
                more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
                raise UserError(
                    f"{self.path} holds a run of another config ({'; '.join(changed[:3])}{more}):"
                    f" choose another hydra.run.dir, or leave it out"
                )

    def check_data(self, fingerprint: str) -> None:
        """Refuse data of another fingerprint than the folder was begun with.

        Raises:
            UserError: with both fingerprints.
        """
        file = self.path / "data.json"
        begun = read_json(file)["fingerprint"] if file.exists() else fingerprint
        if begun != fingerprint:
            raise UserError(
                f"{self.path} holds a run on other data (fingerprint {begun[:12]}…, dataset.root has"
                f" {fingerprint[:12]}…): choose another outputs=<folder>, or restart=true"
            )

    def begin(self, config: Mapping[str, Any], fingerprint: str) -> None:
        """Write the config and the fingerprint of the data, and add this start to the provenance."""
        if not (self.path / "data.json").exists():
            write_atomically(self.path / "data.json", json.dumps({"fingerprint": fingerprint}) + "\n")
        if not (self.path / "config.yaml").exists():
            write_atomically(self.path / "config.yaml", yaml.safe_dump(dict(config), sort_keys=False))
        file = self.path / "provenance.json"
        starts = read_json(file) if file.exists() else []
        try:
            write_atomically(file, json.dumps([*starts, provenance()], indent=1) + "\n")
        except UserError:
            if not self.weights.exists():  # a finished run may lie on a read-only disk
                raise

    def in_use(self) -> bool:
        """Return whether a process, on any machine that shares the file system's locks, works in the folder."""
        return _is_locked(self.path / ".lock") or any(_is_locked(lock) for lock in self.records.glob("*/.*.lock"))

    def move_aside(self) -> None:
        """Move the content to `<folder>.old<number>`; the folder and its lock stay."""
        content = sorted(path for path in self.path.iterdir() if path.name != ".lock")
        if not content:
            return
        number = 1
        while (aside := self.path.with_name(f"{self.path.name}.old{number}")).exists():
            number += 1
        aside.mkdir()
        # in this order `checkpoints` goes before `config.yaml`: a kill in between leaves no checkpoint to resume from
        for path in content:
            path.rename(aside / path.name)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the folder for one process group. A finished run on a read-only disk is used without a lock.

        The lock of a killed process is released. A network file system may take a while for that, so a job that
        SLURM has restarted waits longer.

        Raises:
            InUse: another process holds the lock.
            UserError: the folder cannot be written to.
        """
        lock = FileLock(self.path / ".lock", timeout=_RESTART_TIMEOUT if restarted() else _LOCK_TIMEOUT)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except Timeout:
            raise InUse(f"{self.path} is in use by another process: wait for it, or choose another seed") from None
        except OSError as error:
            if not self.weights.exists():
                reason = f"{self.path} cannot be written to ({error.strerror})"
                raise UserError(f"{reason}: choose outputs=<folder>") from None
        try:
            yield
        finally:
            lock.release()


def _is_locked(file: Path) -> bool:
    if not file.exists():
        return False
    try:
        with FileLock(file, timeout=0):
            return False
    except Timeout:
        return True
    except OSError:  # a lock file of another user
        return False


def provenance() -> dict[str, Any]:
    """Return time, command, versions and machine of this start: recorded, never compared."""
    versions = {dist.name: dist.version for dist in distributions() if dist.name in _PACKAGES}
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": sys.argv,
        "gauntlet": __version__,
        "revision": _revision(),
        "python": platform.python_version(),
        "packages": dict(sorted(versions.items())),
        "host": platform.node(),
        "machine": f"{platform.system()} {platform.machine()}",
    }


def _revision() -> str | None:
    """Return the git revision of the source tree, with a + where it has changes; None for an installed package.

    Other repositories, around the environment or named by GIT_DIR, are ignored.
    """
    tree = Path(__file__).resolve().parents[3]
    if not (tree / "src" / "gauntlet" / "runs" / Path(__file__).name).exists():
        return None
    try:
        top = _git(tree, "rev-parse", "--show-toplevel")
        if not Path(os.fsdecode(top)).samefile(tree):
            return None
        return _git(tree, "describe", "--always", "--abbrev=12", "--dirty=+").decode("ascii", "replace")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(tree: Path, *words: str) -> bytes:
    """Return git's output for the repository around a folder, ignoring GIT_* variables."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "-C", os.fspath(tree), *words]
    return subprocess.run(command, env=plain, capture_output=True, check=True, timeout=10).stdout.removesuffix(b"\n")
