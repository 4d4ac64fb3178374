"""The one way from a config node to an object: only named kinds of things, and plain lists and dicts throughout."""

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
    """Refuse every `_target_` that is neither ours, nor a module, optimizer, … of a library, nor in `allow`.

    Raises:
        UserError: naming the key.
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
    package = target.split(".")[0]
    if package != "gauntlet" and package not in (*_LIBRARIES, *allow):
        raise UserError(f"{path}._target_ is {target}: to run code of your own package add allow=[{package}]")
    found = _found(target, path)
    if package in _LIBRARIES and not (isinstance(found, type) and issubclass(found, _KINDS)):
        raise UserError(
            f"{path}._target_ is {target}, which is no module, optimizer, schedule, callback, logger or dataset:"
            f" wrap it in a class of your own package and add allow=[your_package]"
        )
    if package == "gauntlet" and getattr(found, "__module__", "").split(".")[0] != "gauntlet":
        raise UserError(f"{path}._target_ is {target}, which gauntlet only imports: name a thing of gauntlet's own")


def _found(target: str, path: str) -> Any:
    module, _, name = target.rpartition(".")
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError):
        raise UserError(f"{path}._target_ is {target}, and there is no such thing: check its spelling") from None


def instantiate(node: Any, path: str = "", **given: Any) -> Any:
    """The object of a config node. Lists and dicts inside arrive as lists and dicts, never as Hydra's own types.

    Args:
        node: plain dicts and lists with `_target_`s that were checked.
        path: of the node, for messages.
        given: arguments that no config can hold.

    Raises:
        UserError: an argument is of another kind than the constructor takes, or it refused one; its own words, after
            the key.
    """
    check_arguments({**node, **given} if isinstance(node, Mapping) else node, path)
    try:
        return hydra.utils.instantiate(node, _convert_="all", **given)
    except HydraException as error:
        cause = error.__cause__ or error
        if isinstance(cause, UserError):
            raise cause from None
        key = next((line.split(": ")[1] for line in str(error).splitlines() if line.startswith("full_key: ")), "")
        words = " ".join(str(cause).split())
        raise UserError(f"{'.'.join(part for part in (path, key) if part)}: {words}") from cause
