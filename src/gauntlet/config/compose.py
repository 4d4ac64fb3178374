"""Composed configs: where they lie, how they are resolved, checked and identified."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from gauntlet.config.command_line import decoding, shown
from gauntlet.errors import UserError

_PACKAGED = Path(__file__).parents[1] / "conf"  # in a wheel
_SOURCE = Path(__file__).parents[3] / "conf"  # in a source tree
CONF = _PACKAGED if _PACKAGED.is_dir() else _SOURCE

_NOT_TRAINING = {
    "hydra",
    "attack_suite",
    "suite",
    "evaluation",
    "mode",
    "logger",
    "callbacks",  # except those that change training
    "outputs",
    "folder",
    "restart",
    "allow",
}
"""Keys that do not change what training computes: runs that differ only there share a folder."""

_PASSIVE = {
    "gauntlet": {"EpochLines", "KeepResumable", "Speed", "TrainingPictures", "progress"},
    "lightning": {
        *("DeviceStatsMonitor", "LearningRateMonitor", "ModelCheckpoint", "ModelSummary", "OnExceptionCheckpoint"),
        *("ProgressBar", "RichModelSummary", "RichProgressBar", "ThroughputMonitor", "TQDMProgressBar"),
    },
}
"""Callbacks by package that do not change training. Any other callback is part of a run's identity."""

WAYS_TO_DATA = ("root", "workers")
"""Keys of `dataset` that say where it lies and how it is read; its identity is its fingerprint."""


def register_resolvers() -> None:
    """Register `${frac:8,255}`, `${digest:}`, `${run_of:}`, `${gpus:}`, `${evaluations:}` and `${expanded:}`."""
    OmegaConf.register_new_resolver("frac", lambda above, below: above / below, replace=True)
    OmegaConf.register_new_resolver("digest", lambda *, _root_: digest_of(_root_)[:8], replace=True)
    OmegaConf.register_new_resolver("run_of", folder_of_checkpoint, replace=True)
    OmegaConf.register_new_resolver("gpus", lambda *, _root_: _gpus_per_node(_root_), replace=True)
    OmegaConf.register_new_resolver("evaluations", lambda outputs: str(_evaluations(outputs)), replace=True)
    OmegaConf.register_new_resolver("expanded", lambda path: str(Path(str(path)).expanduser()), replace=True)


def digest_of(config: DictConfig) -> str:
    """Return the SHA-256 of everything that training depends on."""
    return hashlib.sha256(json.dumps(training_part(plain(config)), sort_keys=True).encode()).hexdigest()


def training_part(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a resolved config that training depends on."""
    part = {key: value for key, value in config.items() if key not in _NOT_TRAINING}
    if isinstance(dataset := part.get("dataset"), Mapping):
        part["dataset"] = _without_location(dataset)
        if isinstance(extra := dataset.get("extra"), Mapping):
            part["dataset"]["extra"] = _without_location(extra)
    if active := _active_callbacks(config):
        part["callbacks"] = active
    return part


def regime_of(config: Mapping[str, Any]) -> str:
    """Name the training regime for tables: `at_linf`, `at_linf+averaged`, `normal+EarlyStopping+mixed0.7`."""
    names = ["averaged" if _averages(node) else _class_of(node)[1] for node in _active_callbacks(config).values()]
    extra = config["dataset"].get("extra")
    parts = [config["names"]["defense"], *dict.fromkeys(names)]
    return "+".join([*parts, *([f"mixed{extra['share']}"] if extra else [])])


def _active_callbacks(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the nodes of all callbacks that may change training."""
    callbacks = config.get("callbacks")
    nodes = callbacks if isinstance(callbacks, Mapping) else {}  # others are refused once the config is composed
    return {name: node for name, node in nodes.items() if node is not None and not _is_passive(node)}


def _is_passive(callback: Any) -> bool:
    package, name = _class_of(callback)
    return name in _PASSIVE.get(package, ())


def _class_of(callback: Any) -> tuple[str, str]:
    """Return package and class name of what a node builds."""
    target = str(callback.get("_target_", "")) if isinstance(callback, Mapping) else str(callback)
    return target.split(".")[0], target.split(".")[-1]


def _without_location(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config of a data source without its location and how it is read."""
    return {key: value for key, value in data.items() if key not in WAYS_TO_DATA}


def _averages(callback: Any) -> bool:
    """Return whether a callback's node averages the trained weights."""
    package, name = _class_of(callback)
    return package in _PASSIVE and name.endswith("Averaging")


def plain(config: DictConfig) -> dict[str, Any]:
    """Return the config as plain dicts and lists, resolved, without Hydra's own node.

    Raises:
        OmegaConfBaseException: a value is missing or an interpolation refers to nothing.
    """
    own = OmegaConf.masked_copy(config, [str(key) for key in config if key not in ("hydra", "folder")])
    resolved = OmegaConf.to_container(own, resolve=True, throw_on_missing=True)
    assert isinstance(resolved, dict)
    return {str(key): value for key, value in resolved.items()}


def check_plain_words(config: Mapping[str, Any]) -> None:
    """Check the types of the keys that are no constructor's arguments.

    Raises:
        UserError: naming the key.
    """
    for key in ("restart", "dry_run"):
        if not isinstance(config.get(key, False), bool):
            raise UserError(f"{key}={config[key]}: expected true or false")
    seed = config.get("seed", 0)
    if not isinstance(seed, int) or isinstance(seed, bool) or not -(2**63) <= seed < 2**63:
        hint = decoding(seed) if isinstance(seed, str) and seed.lstrip("+-").isdecimal() else ""
        raise UserError(f"seed={seed}: expected an integer of 64 bits{hint}")
    if not isinstance(suite := config["suite"], str) or not re.fullmatch(r"\w[\w.+-]*", suite):
        instead = "" if isinstance(suite, str) else ", that is no number, truth or null"
        raise UserError(f"suite={shown(suite)}: expected a name for files, of letters, digits, dots, + and -{instead}")
    if not isinstance(allow := config["allow"], list) or not all(isinstance(name, str) for name in allow):
        instead = f"allow=[{allow}]" if isinstance(allow, str) and allow.isidentifier() else "allow=[], or allow=[name]"
        raise UserError(f"allow={shown(allow)}: expected a list of packages, {instead}")


def check_named_row(config: Mapping[str, Any]) -> None:
    """Refuse a named defense whose own choice was overridden: its name would be wrong.

    Raises:
        UserError: with the general form to use instead.
    """
    name = config["names"]["defense"]
    for group, option in (config["defense"].get("row") or {}).items():
        chosen = config["names"][group]
        if chosen != option:
            general = name.split("_")[0]
            raise UserError(
                f"defense={name} means {group}={option}, but {group}={chosen} was chosen:"
                f" write defense={general} {group}={chosen}"
            )


def _gpus_per_node(config: DictConfig) -> int | None:
    """Return one GPU per process of a job; None on CPUs."""
    device = OmegaConf.select(config, "trainer.accelerator") or OmegaConf.select(config, "evaluation.device")
    return None if str(device).startswith("cpu") else int(OmegaConf.select(config, "trainer.devices") or 1)


def check_root(config: Mapping[str, Any]) -> None:
    """Refuse a missing `dataset.root` given on the command line: only the default folder is created and filled.

    Raises:
        UserError: with the folder.
    """
    root = config["dataset"].get("root")
    written = any(word.lstrip("+").startswith("dataset.root=") for word in HydraConfig.get().overrides.task)
    if written and root is not None and not Path(root).exists():
        raise UserError(
            f"dataset.root={root}: there is no such folder; what can be fetched is fetched into an empty one"
        )


def folder_of_checkpoint(checkpoint: str, outputs: str | None) -> str:
    """Return the run folder whose result a checkpoint is, if it lies in `outputs` (anywhere for None).

    For any other file, return a folder in the outputs named after the file and its content.
    """
    path = Path(checkpoint).absolute()
    home = run_of(path)
    weights = home / "checkpoints" / "final.safetensors" if home else None
    if home and path in (home, weights) and (outputs is None or _lies_in(home, outputs)):
        return str(home)
    file = weights if weights and path == home else path
    content = hashlib.sha256(file.read_bytes()).hexdigest()[:8] if file.is_file() else "missing"
    named_after = home if home and file == weights else path
    return str(_evaluations(outputs) / f"{named_after.stem}-{content}")


def _lies_in(folder: Path, outputs: str) -> bool:
    return folder.resolve().is_relative_to(Path(outputs).expanduser().resolve())


def _evaluations(outputs: str | None) -> Path:
    """Return the folder of evaluations of foreign files, and of Hydra's note of a sweep."""
    return Path(outputs or "outputs").expanduser().absolute() / "evaluate"


def run_of(checkpoint: Path) -> Path | None:
    """Return the run folder that a checkpoint is or lies in; None if there is none."""
    candidates = (checkpoint, *checkpoint.parents[:2])
    return next((folder for folder in candidates if (folder / "config.yaml").is_file()), None)
