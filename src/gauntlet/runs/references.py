"""The reference network of a small dataset is trained on the dataset itself: once, as a run of its own.

A config says `weights: reference/<experiment>`; that experiment of `conf/experiment/reference` is fitted on the
dataset if nobody has done so yet, and the value becomes the path of its weights.
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
from gauntlet.errors import UserError
from gauntlet.identity import digest
from gauntlet.runs.failures import ASKED_FOR_TRACES
from gauntlet.runs.folder import RunFolder

_MARK = "reference/"
_POLL = 2.0  # seconds between two looks at a fit that another job is at: a thousand jobs share one file system
_STARTERS = ("TORCHELASTIC_", "SUBMITIT_", "PMI_", "PMIX_", "OMPI_")
_SERVICES = ("WANDB_SERVICE", "_WANDB_SERVICE")  # a process of W&B that serves this command alone


def with_references(config: Any, weights: Mapping[str, Path]) -> Any:
    """The config with every `reference/<experiment>` replaced by the path of its weights."""
    if isinstance(config, dict):
        return {key: with_references(value, weights) for key, value in config.items()}
    if isinstance(config, list):
        return [with_references(value, weights) for value in config]
    return str(weights[config]) if isinstance(config, str) and config in weights else config


def without_weights(config: Any) -> Any:
    """The config with every network that is still to be fitted as `unfitted` makes it."""
    if isinstance(config, dict):
        if str(config.get("weights", "")).startswith(_MARK):
            return {"_target_": f"{__name__}.{unfitted.__name__}", "network": config["network"]}
        return {key: without_weights(value) for key, value in config.items()}
    return [without_weights(value) for value in config] if isinstance(config, list) else config


@torch.no_grad()
def unfitted(network: nn.Module) -> nn.Module:
    """The network with weights that every copy of it has: attacks that are to look through one network then do."""
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        parameter.normal_(std=0.05, generator=generator)
    return network


def references(config: Any) -> dict[str, Any]:
    """The network node of every `weights: reference/…` in a config, by that value."""
    found: dict[str, Any] = {}
    for value in config.values() if isinstance(config, dict) else config if isinstance(config, list) else ():
        found |= references(value)
    if isinstance(config, dict) and str(config.get("weights", "")).startswith(_MARK):
        found[config["weights"]] = config["network"]
    return found


def fitted(config: Mapping[str, Any], data: ImageData, others: Sequence[Path] = ()) -> dict[str, Path]:
    """The weights of every reference a config needs, fitted now where they are missing.

    Args:
        config: resolved.
        data: its dataset; another one, by fingerprint, has other references.
        others: output folders beside the config's own that may hold them already.
    """
    known = fitted_before(config, data, others)
    nodes = {name: node for name, node in sorted(references(dict(config)).items()) if name not in known}
    return known | {name: _fitted(name, node, config, data) for name, node in nodes.items()}


def fitted_before(config: Mapping[str, Any], data: ImageData, others: Sequence[Path] = ()) -> dict[str, Path]:
    """The weights of those references a config needs that were fitted already, in its outputs or in others."""
    found: dict[str, Path] = {}
    for outputs in (*reversed(others), config["outputs"]):
        for name in references(dict(config)):
            place = place_of({**config, "outputs": outputs}, name.removeprefix(_MARK), data)
            if (weights := RunFolder(place).weights).exists():
                found[name] = weights
    return found


def outputs_of(run: Path | None) -> list[Path]:
    """Where the references of a run are, wherever it was moved with its output folder."""
    return [place for place in run.parents if (place / "references").is_dir()] if run else []


def _fitted(reference: str, node: Any, config: Mapping[str, Any], data: ImageData) -> Path:
    experiment = reference.removeprefix(_MARK)
    place = place_of(config, experiment, data)
    weights = RunFolder(place).weights
    if weights.exists():
        return weights
    rehearse(instantiate(node, experiment), data, f"the perceptual network {experiment}")
    place.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(place.with_name(f".{place.name}.lock"))
    with lock.acquire(poll_interval=_POLL):  # the other ranks and jobs of a sweep wait here
        place.mkdir(parents=True, exist_ok=True)
        with FileLock(place / ".lock"):  # the fit of a run that was killed may still be at work: wait for it
            pass
        if not weights.exists():
            print(
                f"fitting the perceptual network {experiment} on {config['names']['dataset']} first, once, in"
                f" {config['dataset']['reference_recipe']['epochs']} epochs: {place}\n(instead:"
                f" dataset.reference.network.weights=<file> for weights you have, dataset.reference=null for no"
                f" column of distances)",
                flush=True,
            )
            if subprocess.run(_command(config, experiment, place), env=_environment()).returncode:
                raise UserError(f"the perceptual network {experiment} could not be fitted: see above")
    return weights


def place_of(config: Mapping[str, Any], experiment: str, data: ImageData) -> Path:
    """The run folder of a reference network: a function of the dataset's content and of how it is fitted."""
    dataset = f"{config['names']['dataset']}-{data.fingerprint[:12]}"
    recipe = digest([config["dataset"].get(key) for key in ("reference_recipe", "classes", "augmentation")])
    return Path(config["outputs"]).absolute() / "references" / dataset / f"{experiment}-{recipe[:8]}"


def _command(config: Mapping[str, Any], experiment: str, place: Path) -> list[str]:
    dataset = {key: value for key, value in config["dataset"].items() if key not in ("reference", "recipe", "extra")}
    return [
        *(sys.executable, "-P", "-m", "gauntlet.cli.main"),
        *(f"dataset={config['names']['dataset']}", f"+experiment/reference={experiment}"),
        *(["++dataset.augmentation=null"] if dataset.get("augmentation") else []),  # what was taken out stays out
        *(f"++dataset.{leaf}" for leaf in _leaves(dataset)),
        *(f"allow={as_value(config['allow'])}", f"outputs={as_value(str(config['outputs']))}"),
        *(f"hydra.run.dir={as_value(str(place))}", f"hydra.searchpath={as_value(_searched())}"),
    ]


def _searched() -> list[str]:
    """Where else the user keeps configs: `--config-dir` and `hydra.searchpath`. His own dataset is found there only."""
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


def _environment() -> dict[str, str]:
    """What this command saw, its module search path included, without what makes it one of a process group."""
    hidden = {*RANKS, *_SERVICES, *(() if ASKED_FOR_TRACES else ("HYDRA_FULL_ERROR",))}
    seen = {name: value for name, value in os.environ.items() if name not in hidden and not name.startswith(_STARTERS)}
    return seen | {"PYTHONPATH": os.pathsep.join(os.path.abspath(place) for place in sys.path)}  # noqa: PTH100
