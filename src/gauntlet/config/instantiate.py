"""Build objects from config nodes: allowed targets only, with plain lists and dicts as arguments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import hydra.utils
from hydra.errors import HydraException
from lightning import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.loggers import Logger
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import Dataset

from gauntlet.config.arguments import check_arguments
from gauntlet.errors import UserError

_KINDS = (
    nn.Module,
    Optimizer,
    LRScheduler,
    Dataset,
    Callback,
    Logger,
    Trainer,
    LightningModule,
    LightningDataModule,
)
_LIBRARIES = ("torch", "torchvision", "lightning", "torchmetrics", "timm")


def check_targets(config: Any, allow: Sequence[str] = (), path: str = "") -> None:
    """Refuse every `_target_` that is not in gauntlet, no module, optimizer, … of a library, and not in `allow`.

    Raises:
        UserError: with the key.
    """
    if isinstance(config, Mapping):
        if "_target_" in config:
            _check_target(str(config["_target_"]), allow, path)
        for key, value in config.items():
            check_targets(value, allow, f"{path}.{key}".lstrip("."))
    elif isinstance(config, Sequence) and not isinstance(config, str):
        for index, value in enumerate(config):
            check_targets(value, allow, f"{path}[{index}]")


def _check_target(target: str, allow: Sequence[str], path: str) -> None:
    package, *names = target.split(".")
    if not names or not all(name.isidentifier() for name in (package, *names)):
        raise UserError(f"{path}._target_ is {target}: expected the dotted name of a class, such as torch.nn.Linear")
    if package != "gauntlet" and package not in (*_LIBRARIES, *allow):
        raise UserError(f"{path}._target_ is {target}: to run code of your own package add allow=[{package}]")
    resolved = _resolve(target, path)
    if package in _LIBRARIES and not (isinstance(resolved, type) and issubclass(resolved, _KINDS)):
        raise UserError(
            f"{path}._target_ is {target}, which is no module, optimizer, schedule, callback, logger or dataset:"
            f" wrap it in a class of your own package and add allow=[your_package]"
        )
    if package == "gauntlet" and getattr(resolved, "__module__", "").split(".")[0] != "gauntlet":
        raise UserError(f"{path}._target_ is {target}, which gauntlet only imports: name a thing of gauntlet's own")


def _resolve(target: str, path: str) -> Any:
    module, _, name = target.rpartition(".")
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError):
        raise UserError(f"{path}._target_ is {target}, and there is no such thing: check its spelling") from None


def instantiate(node: Any, path: str = "", **given: Any) -> Any:
    """Build the object of a config node. Lists and dicts inside stay plain, never Hydra's own types.

    Args:
        node: plain dicts and lists; their `_target_`s were checked before.
        path: key of the node, for messages.
        given: arguments that no config can hold.

    Raises:
        UserError: an argument has another type than annotated, or the constructor refused it; with the key.
    """
    check_arguments({**node, **given} if isinstance(node, Mapping) else node, path)
    try:
        return hydra.utils.instantiate(node, _convert_="all", **given)
    except (HydraException, TypeError, ValueError) as error:  # of flags such as _partial_ Hydra says it in its own ways
        cause = error.__cause__ or error
        if isinstance(cause, UserError):
            raise cause from None
        key = next((line.split(": ")[1] for line in str(error).splitlines() if line.startswith("full_key: ")), "")
        full_key = ".".join(part for part in (path, key) if part)
        raise UserError(f"{full_key}: {' '.join(str(cause).split())}") from cause
