"""Reference networks of small datasets: each is trained on the dataset itself, once, as a run of its own.

Where a config has `weights: reference/<experiment>`, that experiment of `conf/experiment/reference` is fitted on the
dataset unless it has been before, and the value becomes the path of its weights.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from hydra.core.hydra_config import HydraConfig
from torch import nn

from gauntlet.cluster.ranks import RANKS
from gauntlet.config.build import rehearse
from gauntlet.config.command_line import as_value
from gauntlet.config.instantiate import instantiate
from gauntlet.data import ImageData
from gauntlet.descriptions import digest
from gauntlet.errors import UserError
from gauntlet.runs.failures import TRACES_REQUESTED
from gauntlet.runs.folder import RunFolder

_MARK = "reference/"
_POLL = 2.0  # seconds between two attempts to lock: a thousand jobs may share one file system
_STARTERS = ("TORCHELASTIC_", "SUBMITIT_", "PMI_", "PMIX_", "OMPI_")
_SERVICES = ("WANDB_SERVICE", "_WANDB_SERVICE")  # W&B's helper process, which serves this command only


def with_references(config: Any, weights: Mapping[str, Path]) -> Any:
    """Return the config with every `reference/<experiment>` replaced by the path of its weights."""
    if isinstance(config, dict):
        return {key: with_references(value, weights) for key, value in config.items()}
    if isinstance(config, list):
        return [with_references(value, weights) for value in config]
    return str(weights[config]) if isinstance(config, str) and config in weights else config


def without_weights(config: Any) -> Any:
    """Return the config with every reference that has no weights yet replaced by `unfitted`."""
    if isinstance(config, dict):
        if str(config.get("weights", "")).startswith(_MARK):
            return {"_target_": f"{__name__}.{unfitted.__name__}", "network": config["network"]}
        return {key: without_weights(value) for key, value in config.items()}
    return [without_weights(value) for value in config] if isinstance(config, list) else config


@torch.no_grad()
def unfitted(network: nn.Module) -> nn.Module:
    """Return the network with fixed random weights, so that all copies of it are equal and can be shared."""
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        parameter.normal_(std=0.05, generator=generator)
    return network


def references(config: Any) -> dict[str, Any]:
    """Return the network node of every `weights: reference/…` in a config, by that value."""
    nodes: dict[str, Any] = {}
    if isinstance(config, list):
        for value in config:
            nodes |= references(value)
    if isinstance(config, dict):
        for value in config.values():
            nodes |= references(value)
        if str(config.get("weights", "")).startswith(_MARK):
            nodes[config["weights"]] = config["network"]
    return nodes


def fitted(config: Mapping[str, Any], data: ImageData, others: Sequence[Path] = ()) -> dict[str, Path]:
    """Return the weights of every reference a config needs; fit those that are missing.

    Args:
        config: resolved.
        data: its dataset; references belong to its fingerprint.
        others: further output folders that may hold references.
    """
    known = fitted_before(config, data, others)
    nodes = {name: node for name, node in sorted(references(dict(config)).items()) if name not in known}
    return known | {name: _fit(name, node, config, data) for name, node in nodes.items()}


def fitted_before(config: Mapping[str, Any], data: ImageData, others: Sequence[Path] = ()) -> dict[str, Path]:
    """Return the weights of those references a config needs that exist, in its own outputs or in others."""
    known: dict[str, Path] = {}
    for outputs in (*reversed(others), config["outputs"]):  # the config's own come last and win
        for name in references(dict(config)):
            folder = reference_folder({**config, "outputs": outputs}, name.removeprefix(_MARK), data)
            weights = RunFolder(folder).weights
            if weights.exists():
                known[name] = weights
    return known


def outputs_of(run: Path | None) -> list[Path]:
    """Return the folders around a run that hold references, also after the output folder was moved."""
    return [folder for folder in run.parents if (folder / "references").is_dir()] if run else []


def _fit(reference: str, node: Any, config: Mapping[str, Any], data: ImageData) -> Path:
    experiment = reference.removeprefix(_MARK)
    folder = reference_folder(config, experiment, data)
    weights = RunFolder(folder).weights
    if weights.exists():
        return weights
    rehearse(instantiate(node, experiment), data, f"the perceptual network {experiment}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.with_name(f".{folder.name}.lock"))
    with lock.acquire(poll_interval=_POLL):  # the other ranks and jobs of a sweep wait here
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock"):  # a fit may still run although the command that started it was killed
            pass
        if not weights.exists():
            print(
                f"fitting the perceptual network {experiment} on {config['names']['dataset']} first, once, in"
                f" {config['dataset']['reference_recipe']['epochs']} epochs: {folder}\n(instead:"
                f" dataset.reference.network.weights=<file> for weights you have, dataset.reference=null for no"
                f" column of distances)",
                flush=True,
            )
            if subprocess.run(fit_command(config, experiment, folder), env=fit_environment()).returncode:
                raise UserError(f"the perceptual network {experiment} could not be fitted: see above")
    return weights


def reference_folder(config: Mapping[str, Any], experiment: str, data: ImageData) -> Path:
    """Return the run folder of a reference network, which depends on the dataset's content and the recipe."""
    dataset = f"{config['names']['dataset']}-{data.fingerprint[:12]}"
    recipe = digest([config["dataset"].get(key) for key in ("reference_recipe", "classes", "augmentation")])
    return Path(config["outputs"]).absolute() / "references" / dataset / f"{experiment}-{recipe[:8]}"


def fit_command(config: Mapping[str, Any], experiment: str, folder: Path) -> list[str]:
    """Return the command that fits a reference network in a folder."""
    dataset = {key: value for key, value in config["dataset"].items() if key not in ("reference", "recipe", "extra")}
    return [
        *(sys.executable, "-P", "-m", "gauntlet.cli.main"),
        *(f"dataset={config['names']['dataset']}", f"+experiment/reference={experiment}"),
        *(["++dataset.augmentation=null"] if dataset.get("augmentation") else []),  # removes those of the dataset file
        *(f"++dataset.{leaf}" for leaf in _leaves(dataset)),
        *(f"allow={as_value(config['allow'])}", f"outputs={as_value(str(config['outputs']))}"),
        *(f"hydra.run.dir={as_value(str(folder))}", f"hydra.searchpath={as_value(_search_path())}"),
    ]


def _search_path() -> list[str]:
    """Return the user's own config folders, `--config-dir` and `hydra.searchpath`, where the dataset may be defined."""
    if not HydraConfig.initialized():
        return []
    sources = HydraConfig.get().runtime.config_sources
    return [
        f"{source.schema}://{source.path}"
        for source in sources
        if source.provider == "command-line" or source.provider.startswith("hydra.searchpath")
    ]


def _leaves(node: Mapping[str, Any]) -> Iterator[str]:
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from (f"{key}.{leaf}" for leaf in _leaves(value))
        else:
            yield f"{key}={as_value(value)}"


def fit_environment() -> dict[str, str]:
    """Return this command's environment and module search path, without the variables of a process group."""
    hidden = {*RANKS, *_SERVICES}
    if not TRACES_REQUESTED:
        hidden.add("HYDRA_FULL_ERROR")
    kept = {name: value for name, value in os.environ.items() if name not in hidden and not name.startswith(_STARTERS)}
    search_path = os.pathsep.join(os.path.abspath(entry) for entry in sys.path)  # noqa: PTH100
    return kept | {"PYTHONPATH": search_path}
