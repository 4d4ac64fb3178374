"""Composed configs: where they are found, how they are resolved, checked and told apart."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from gauntlet.config.command_line import decoding
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
    "callbacks",  # but for those that do more than look on
    "outputs",
    "folder",
    "restart",
    "allow",
}
"""Keys that do not change what training computes: a run folder is shared by all their values."""

_LOOKING_ON = {
    "gauntlet": {"EpochLines", "KeepResumable", "Speed", "TrainingPictures", "progress"},
    "lightning": {
        *("DeviceStatsMonitor", "LearningRateMonitor", "ModelCheckpoint", "ModelSummary", "OnExceptionCheckpoint"),
        *("ProgressBar", "RichModelSummary", "RichProgressBar", "ThroughputMonitor", "TQDMProgressBar"),
    },
}
"""Callbacks by package that are known to leave training alone. Any other belongs to what training depends on."""

WAYS_TO_DATA = ("root", "workers")
"""Keys of `dataset` that say where it lies and how it is read. What it is, its fingerprint says."""


def register_resolvers() -> None:
    """`${frac:8,255}`; a run's name, `${digest:}`; folders, `${run_of:}`, `${expanded:}`, …; a job's `${gpus:}`."""
    OmegaConf.register_new_resolver("frac", lambda above, below: above / below, replace=True)
    OmegaConf.register_new_resolver("digest", lambda *, _root_: digest_of(_root_)[:8], replace=True)
    OmegaConf.register_new_resolver("run_of", folder_of_checkpoint, replace=True)
    OmegaConf.register_new_resolver("gpus", lambda *, _root_: _gpus_per_node(_root_), replace=True)
    OmegaConf.register_new_resolver("evaluations", lambda outputs: str(_evaluations(outputs)), replace=True)
    OmegaConf.register_new_resolver("expanded", lambda path: str(Path(str(path)).expanduser()), replace=True)


def digest_of(config: DictConfig) -> str:
    """SHA-256 of everything that training depends on."""
    return hashlib.sha256(json.dumps(training_part(plain(config)), sort_keys=True).encode()).hexdigest()


def training_part(config: Mapping[str, Any]) -> dict[str, Any]:
    """What training depends on, of a resolved config."""
    part = {key: value for key, value in config.items() if key not in _NOT_TRAINING}
    if isinstance(dataset := part.get("dataset"), Mapping):
        part["dataset"] = _wherever(dataset)
        if isinstance(extra := dataset.get("extra"), Mapping):
            part["dataset"]["extra"] = _wherever(extra)
    if acting := _acting(config):
        part["callbacks"] = acting
    return part


def regime_of(config: Mapping[str, Any]) -> str:
    """What made the weights, as a table calls it: `at_linf`, `at_linf+averaged`, `normal+EarlyStopping+mixed0.7`."""
    names = ["averaged" if _averages(node) else _class_of(node)[1] for node in _acting(config).values()]
    extra = config["dataset"].get("extra")
    parts = [config["names"]["defense"], *dict.fromkeys(names)]
    return "+".join([*parts, *([f"mixed{extra['share']}"] if extra else [])])


def _acting(config: Mapping[str, Any]) -> dict[str, Any]:
    """The nodes of all callbacks but those that are known to look on."""
    nodes = {name: node for name, node in (config.get("callbacks") or {}).items() if node is not None}
    return {name: node for name, node in nodes.items() if not _looks_on(node)}


def _looks_on(callback: Any) -> bool:
    package, name = _class_of(callback)
    return name in _LOOKING_ON.get(package, ())


def _class_of(callback: Any) -> tuple[str, str]:
    """The package and the name of what a node builds."""
    target = str(callback.get("_target_", "")) if isinstance(callback, Mapping) else str(callback)
    return target.split(".")[0], target.split(".")[-1]


def _wherever(data: Mapping[str, Any]) -> dict[str, Any]:
    """What a source of data is, without the ways to it."""
    return {key: value for key, value in data.items() if key not in WAYS_TO_DATA}


def _averages(callback: Any) -> bool:
    """Whether a callback's node makes an average of the weights that were trained."""
    package, name = _class_of(callback)
    return package in _LOOKING_ON and name.endswith("Averaging")


def plain(config: DictConfig) -> dict[str, Any]:
    """The config as plain dicts and lists, resolved; Hydra's own node left out.

    Raises:
        OmegaConfBaseException: something is missing or refers to nothing.
    """
    own = OmegaConf.masked_copy(config, [str(key) for key in config if key not in ("hydra", "folder")])
    resolved = OmegaConf.to_container(own, resolve=True, throw_on_missing=True)
    assert isinstance(resolved, dict)
    return {str(key): value for key, value in resolved.items()}


def check_plain_words(config: Mapping[str, Any]) -> None:
    """Refuse what would be taken in a way nobody means, of the keys that are no object's arguments.

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
    if not re.fullmatch(r"\w[\w.+-]*", suite := str(config["suite"])):
        raise UserError(f"suite={suite}: expected a name for files, of letters, digits, dots, + and -")
    if not isinstance(config["allow"], list):
        raise UserError(f"allow={config['allow']}: expected a list of packages, allow=[{config['allow']}]")


def check_named_row(config: Mapping[str, Any]) -> None:
    """Refuse a named defense whose own choice was overridden: its name would lie.

    Raises:
        UserError: naming the general form to use instead.
    """
    for group, option in (config["defense"].get("row") or {}).items():
        chosen = config["names"][group]
        if chosen != option:
            name, general = config["names"]["defense"], config["names"]["defense"].split("_")[0]
            raise UserError(
                f"defense={name} means {group}={option}, but {group}={chosen} was chosen:"
                f" write defense={general} {group}={chosen}"
            )


def _gpus_per_node(config: DictConfig) -> int | None:
    """One for each process of a job; none are asked for where it was told to compute on CPUs."""
    device = OmegaConf.select(config, "trainer.accelerator") or OmegaConf.select(config, "evaluation.device")
    return None if str(device).startswith("cpu") else int(OmegaConf.select(config, "trainer.devices") or 1)


def check_root(config: Mapping[str, Any]) -> None:
    """Refuse a `dataset.root` that somebody wrote and that is not there: only the default place is made and filled.

    Raises:
        UserError: naming it.
    """
    root = config["dataset"].get("root")
    written = any(word.lstrip("+").startswith("dataset.root=") for word in HydraConfig.get().overrides.task)
    if written and root is not None and not Path(root).exists():
        raise UserError(
            f"dataset.root={root}: there is no such folder; what can be fetched is fetched into an empty one"
        )


def folder_of_checkpoint(checkpoint: str, outputs: str | None) -> str:
    """The run folder whose result a checkpoint is, unless it lies outside of the outputs that were given.

    For any other file a folder in these outputs, named after it and its content.
    """
    path = Path(checkpoint).absolute()
    home = run_of(path)
    weights = home / "checkpoints" / "final.safetensors" if home else None
    if home and path in (home, weights) and (outputs is None or _lies_in(home, outputs)):
        return str(home)
    file = weights if weights and path == home else path
    content = hashlib.sha256(file.read_bytes()).hexdigest()[:8] if file.is_file() else "missing"
    return str(_evaluations(outputs) / f"{(home if file == weights and home else path).stem}-{content}")


def _lies_in(folder: Path, outputs: str) -> bool:
    return folder.resolve().is_relative_to(Path(outputs).expanduser().resolve())


def _evaluations(outputs: str | None) -> Path:
    """Where evaluations of foreign files go, and Hydra's note of a sweep."""
    return Path(outputs or "outputs").expanduser().absolute() / "evaluate"


def run_of(checkpoint: Path) -> Path | None:
    """The run folder that a checkpoint is or lies in, if there is one."""
    places = (checkpoint, *checkpoint.parents[:2])
    return next((place for place in places if (place / "config.yaml").is_file()), None)
