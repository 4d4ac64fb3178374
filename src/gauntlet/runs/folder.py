"""Run folders: one config, one training, its records. The same command again goes on in the same folder."""

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
from gauntlet.errors import InUse, UserError
from gauntlet.files import read_json, write_atomically

_GLANCE = 1.0  # seconds that a look at the lock by `gauntlet.status` may take
_LEASE = 120.0  # seconds after which network file systems give up the locks of a dead machine
_PACKAGES = (
    *("torch", "torchvision", "lightning", "hydra-core", "omegaconf", "lpips", "torchmetrics", "polars", "numpy"),
    *("scipy", "pillow"),  # corruptions are computed by them
)


@dataclass(frozen=True)
class RunFolder:
    """What `hydra.run.dir` points to."""

    path: Path

    @property
    def weights(self) -> Path:
        """The trained classifier; there once training is done."""
        return self.path / "checkpoints" / "final.safetensors"

    @property
    def records(self) -> Path:
        """Where the grid writes."""
        return self.path / "records"

    def config(self) -> dict[str, Any]:
        """The config the folder was begun with.

        Raises:
            UserError: there is none, or it is no config.
        """
        try:
            config = yaml.safe_load((self.path / "config.yaml").read_bytes())
        except (OSError, yaml.YAMLError):
            config = None
        if not isinstance(config, dict) or not {"dataset", "model", "names"} <= config.keys():
            raise UserError(f"{self.path} is no run folder: it has no config.yaml of a training run")
        return config

    def check(self, config: Mapping[str, Any]) -> None:
        """Refuse to go on with another config than the folder was begun with.

        Raises:
            UserError: naming what differs.
        """
        from gauntlet.identity import differences  # and torch with it: a look at a folder goes without

        if (self.path / "config.yaml").exists():
            changed = differences(training_part(self.config()), training_part(config))
            if changed:
                more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
                raise UserError(
                    f"{self.path} holds a run of another config ({'; '.join(changed[:3])}{more}):"
                    f" choose another hydra.run.dir, or leave it out"
                )

    def check_data(self, fingerprint: str) -> None:
        """Refuse to go on with other data than the folder was begun with, wherever they lie.

        Raises:
            UserError: naming both fingerprints.
        """
        file = self.path / "data.json"
        begun = read_json(file)["fingerprint"] if file.exists() else fingerprint
        if begun != fingerprint:
            raise UserError(
                f"{self.path} holds a run on other data (fingerprint {begun[:12]}…, dataset.root has"
                f" {fingerprint[:12]}…): choose another outputs=<folder>, or restart=true"
            )

    def begin(self, config: Mapping[str, Any], fingerprint: str) -> None:
        """Write the config and what the data are, and add this start to the provenance."""
        if not (self.path / "data.json").exists():
            write_atomically(self.path / "data.json", json.dumps({"fingerprint": fingerprint}) + "\n")
        if not (self.path / "config.yaml").exists():
            write_atomically(self.path / "config.yaml", yaml.safe_dump(dict(config), sort_keys=False))
        file = self.path / "provenance.json"
        starts = read_json(file) if file.exists() else []
        try:
            write_atomically(file, json.dumps([*starts, provenance()], indent=1) + "\n")
        except UserError:
            if not self.weights.exists():  # a finished run on a read-only disk is only looked at
                raise

    def at_work(self) -> bool:
        """Whether a process is training or evaluating here, on whichever machine shares the file system's locks."""
        return _held(self.path / ".lock") or any(_held(lock) for lock in self.records.glob("*/.*.lock"))

    def move_aside(self) -> None:
        """Keep what is there under another name; the folder stays, with its lock."""
        things = sorted(thing for thing in self.path.iterdir() if thing.name != ".lock")
        if not things:
            return
        number = 1
        while (aside := self.path.with_name(f"{self.path.name}.old{number}")).exists():
            number += 1
        aside.mkdir()
        for thing in things:  # `checkpoints` before `config.yaml`: a kill in between leaves nothing to go on from
            thing.rename(aside / thing.name)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One process group at a time; a finished run on a read-only disk, where nothing is trained, has no lock.

        A killed process lets go of the folder. Where the file system takes a while to notice, on another node, a job
        that SLURM has started again waits for its former self.

        Raises:
            InUse: another one is at work.
            UserError: the folder cannot be written to.
        """
        lock = FileLock(self.path / ".lock", timeout=_LEASE if restarted() else _GLANCE)
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


def _held(file: Path) -> bool:
    if not file.exists():
        return False
    try:
        with FileLock(file, timeout=0):
            return False
    except Timeout:
        return True
    except OSError:  # not ours to open
        return False


def provenance() -> dict[str, Any]:
    """Who, when, with what: recorded, never compared."""
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
    """The git revision of the source tree, with a + where it has changes; None for an installed package.

    An environment may lie inside the repository of something else, and GIT_DIR may name any: neither is asked.
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
    """What git says of the repository that a folder lies in, whatever the environment says of another."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "-C", os.fspath(tree), *words]
    return subprocess.run(command, env=plain, capture_output=True, check=True, timeout=10).stdout.removesuffix(b"\n")
