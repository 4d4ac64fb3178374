"""Checkpoint files of other projects, read without running or importing anything that they mention."""

from __future__ import annotations

import pickletools
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from gauntlet.errors import UserError
from gauntlet.models.weights import checked, read_weights, reason_of

_HOLDERS = ("state_dict", "model", "net", "network")
"""Where training scripts put the state dict beside their optimizer and epoch."""


def read_foreign(file: Path) -> dict[str, Tensor]:
    """The state dict of a checkpoint, whatever lies beside it.

    Raises:
        UserError: it is not there, damaged, or holds no state dict.
    """
    if file.suffix in (".safetensors", ".npz"):
        return read_weights(file)
    if not file.is_file():
        what = f"{file} is a folder" if file.is_dir() else f"no checkpoint at {file}"
        raise UserError(f"{what}: give a .pt, .pth, .th, .ckpt, .safetensors or .npz file")
    try:
        strangers: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
            (_Skipped, name) for name in _foreign_classes(file)
        ]
        with torch.serialization.safe_globals(strangers), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about old pickles; a refusal is one line
            content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle raises anything
        raise UserError(
            f"{file} is damaged or holds more than tensors ({reason_of(error, file)}): nothing of it was run"
        ) from None
    while inner := [name for name in _HOLDERS if isinstance(content, dict) and isinstance(content.get(name), dict)]:
        if len(inner) > 1:
            raise UserError(f"{file} holds both {' and '.join(inner)}: save the one you mean alone")
        content = content[inner[0]]
    named = content.items() if isinstance(content, dict) else ()
    tensors = {name: value for name, value in named if isinstance(name, str) and isinstance(value, Tensor)}
    if not tensors:
        raise UserError(f"{file} holds no state dict: expected tensors by name, alone or under {', '.join(_HOLDERS)}")
    return checked(tensors, file)


class _Skipped:
    """What stands for an object of a class that is not ours: robustness keeps its settings beside the weights."""

    def __init__(self, *_: Any) -> None: ...

    def __setstate__(self, state: Any) -> None: ...


def _foreign_classes(file: Path) -> set[str]:
    """The names of all classes and functions a checkpoint mentions, read without running anything."""
    with file.open("rb") as stream:
        if not zipfile.is_zipfile(stream):
            stream.seek(0)
            return _globals(stream, pickles=5)  # magic, protocol, system, the object, the names of its storages
    with zipfile.ZipFile(file) as archive:
        inside = [name for name in archive.namelist() if name.endswith("data.pkl")]
        if not inside:
            raise ValueError("it is a zip archive without tensors")
        return _globals(archive.open(inside[0]), pickles=1)


def _globals(stream: IO[bytes], pickles: int) -> set[str]:
    named = (arg for _ in range(pickles) for op, arg, _ in pickletools.genops(stream) if op.name == "GLOBAL")
    return {str(arg).replace(" ", ".") for arg in named}
