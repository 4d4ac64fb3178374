"""Checkpoint files of other projects, read without running or importing anything that they mention."""

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
    """The state dict of a checkpoint, whatever lies beside it.

    Args:
        file: the checkpoint.
        weights: which, where there are several: where it is in the file, such as `state_dict_ema`, or what the names of
            its tensors begin with.

    Raises:
        UserError: it is not there, damaged, holds no state dict, or several and it was not said which.
    """
    if file.suffix in (".safetensors", ".npz"):
        tensors = read_weights(file)
        return tensors if weights is None else _part({WHOLE: tensors}, weights, file)
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
    candidates = candidates_in(content)
    if not candidates:
        raise UserError(f"{file} holds no state dict: expected tensors by name, alone or in a mapping")
    if weights is None or weights in candidates:
        refuse_several(
            candidates if weights is None else {}, file, f"say which is meant, such as --weights {list(candidates)[-1]}"
        )
        return checked(candidates[weights or next(iter(candidates))], file)
    return checked(_part(candidates, weights, file), file)


def _part(candidates: Mapping[str, dict[str, Tensor]], prefix: str, file: Path) -> dict[str, Tensor]:
    """The tensors whose names begin with the prefix, under the rest of their names.

    Raises:
        UserError: there are none, or in several of the state dicts.
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
        raise UserError(f"--weights {prefix}: {file} holds {', '.join(known[:10])}{more}; say one of these")
    return next(iter(parts.values()))


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
