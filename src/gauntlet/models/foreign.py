"""Reads checkpoints of other projects without running or importing anything that they mention."""

from __future__ import annotations

import pickletools
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from gauntlet.errors import UserError
from gauntlet.models.candidates import WHOLE, candidates_in, refuse_several
from gauntlet.models.weights import checked, read_weights, reason_of


def read_foreign(file: Path, weights: str | None = None) -> dict[str, Tensor]:
    """The state dict of a checkpoint, ignoring its other entries.

    Args:
        file: the checkpoint.
        weights: which of several state dicts: its path in the file, such as `state_dict_ema`, or a prefix of the names
            of its tensors.

    Raises:
        UserError: the file is missing or damaged, holds no state dict, or several without a choice.
    """
    if file.suffix in (".safetensors", ".npz"):
        tensors = read_weights(file)
        return tensors if weights is None else _part({WHOLE: tensors}, weights, file)
    if not file.is_file():
        what = f"{file} is a folder" if file.is_dir() else f"no checkpoint at {file}"
        raise UserError(f"{what}: give a .pt, .pth, .th, .ckpt, .safetensors or .npz file")
    try:
        placeholders: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
            (_Placeholder, name) for name in _foreign_classes(file)
        ]
        with torch.serialization.safe_globals(placeholders), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about old pickles; an error is one line
            content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle raises anything
        raise UserError(
            f"{file} is damaged or holds more than tensors ({reason_of(error, file)}): nothing of it was run"
        ) from None
    candidates = candidates_in(content)
    if not candidates:
        raise UserError(f"{file} holds no state dict: expected tensors by name, alone or in a mapping")
    if weights is None or weights in candidates:
        if weights is None:
            refuse_several(candidates, file, f"choose one, such as --weights {list(candidates)[-1]}")
        return checked(candidates[weights or next(iter(candidates))], file)
    return checked(_part(candidates, weights, file), file)


def _part(candidates: Mapping[str, dict[str, Tensor]], prefix: str, file: Path) -> dict[str, Tensor]:
    """The tensors whose names begin with a prefix, which is removed.

    Raises:
        UserError: there are none, or they are in several of the state dicts.
    """
    start = f"{prefix}."
    parts = {
        path: {name.removeprefix(start): tensor for name, tensor in state.items() if name.startswith(start)}
        for path, state in candidates.items()
    }
    parts = {path: part for path, part in parts.items() if part}
    if len(parts) != 1:
        first = dict.fromkeys(name.split(".")[0] for state in candidates.values() for name in state if "." in name)
        known = [*candidates, *[name for name in first if name not in candidates]]
        more = " and others" if len(known) > 10 else ""
        raise UserError(f"--weights {prefix}: {file} holds {', '.join(known[:10])}{more}; choose one of these")
    return next(iter(parts.values()))


class _Placeholder:
    """Replaces objects of foreign classes, such as the settings that robustness saves beside the weights."""

    def __init__(self, *_: Any) -> None: ...

    def __setstate__(self, state: Any) -> None: ...


def _foreign_classes(file: Path) -> set[str]:
    """The names of all classes and functions a checkpoint mentions, read without running anything."""
    with file.open("rb") as stream:
        if not zipfile.is_zipfile(stream):
            stream.seek(0)
            return _globals(stream, pickles=5)  # magic number, protocol, system, the object, the names of its storages
    with zipfile.ZipFile(file) as archive:
        inside = [name for name in archive.namelist() if name.endswith("data.pkl")]
        if not inside:
            raise ValueError("it is a zip archive without tensors")
        return _globals(archive.open(inside[0]), pickles=1)


def _globals(stream: IO[bytes], pickles: int) -> set[str]:
    names = set()
    for _ in range(pickles):
        for opcode, argument, _ in pickletools.genops(stream):
            if opcode.name == "GLOBAL":
                names.add(str(argument).replace(" ", "."))
    return names
