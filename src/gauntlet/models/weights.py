"""Weights from files: safetensors, NumPy archives, our Lightning checkpoints, any plain state dict.

Nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn

from gauntlet.errors import UserError, first_line
from gauntlet.files import beginning, write_atomically
from gauntlet.models.candidates import candidates_in, refuse_several

_PREFIX = "classifier."  # the attribute of a defense that holds its network


def read_weights(file: str | Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint by name.

    Raises:
        UserError: there is no such file, it is damaged, or it holds anything but tensors.
    """
    file = Path(file)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about old pickles; an error is one line
            if file.suffix == ".safetensors":
                content: Any = safetensors.torch.load(
                    file.read_bytes()
                )  # its own open() fails on names that are not UTF-8
            elif file.suffix == ".npz":
                with np.load(file, allow_pickle=False) as arrays:
                    content = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
            else:
                content = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(
            f"no checkpoint at {file}: give a run folder or a .safetensors, .npz, .ckpt or .pt file"
        ) from None
    except Exception as error:  # a damaged pickle raises anything
        raise UserError(
            f"{file} is damaged or not a checkpoint of plain tensors ({reason_of(error, file)}): fetch or save it again"
        ) from None
    return checked(_tensors(content, file), file)


def reason_of(error: Exception, file: Path) -> str:
    """Why a checkpoint could not be read, in place of the libraries' messages about their internals."""
    if mentioned := re.search(r"GLOBAL ([\w.]+)", str(error)):
        return f"it needs {mentioned[1]}"
    if file.is_dir():
        return "it is a folder"
    if isinstance(error, PermissionError):
        return "you may not read it"
    with file.open("rb") as stream:
        head = stream.read(9)
    if head[:2] == b"PK" and not _is_whole_zip(file):
        return "it is truncated"
    if head[:1] == b"\x80":
        return "it is a pickle not written by torch.save, or incomplete"
    if head[:2] == b"PK" and "Weights only" in str(error):  # torch advises to run it
        return "it is a pickle of more than tensors"
    known_format = head[:2] == b"PK" or head[8:] == b"{"  # a zip archive, or safetensors
    return first_line(error)[:120] if known_format else beginning(file)


def _is_whole_zip(file: Path) -> bool:
    try:
        zipfile.ZipFile(file).close()
    except Exception:  # a damaged central directory raises anything
        return False
    return True


def checked(tensors: dict[str, Tensor], file: str | Path) -> dict[str, Tensor]:
    """The tensors, if all of them are dense and real.

    Raises:
        UserError: one is not; it is named.
    """
    for name, tensor in tensors.items():
        if tensor.layout is not torch.strided or tensor.is_complex() or tensor.is_quantized:
            kind = f"{tensor.dtype}, {tensor.layout}".replace("torch.", "")
            raise UserError(f"{file} holds {name} as {kind}: expected dense tensors of real numbers; save it as such")
    return tensors


def _tensors(content: Any, file: Path) -> dict[str, Tensor]:
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        checkpoint, content = content, content["state_dict"]
        ours = {}
        for name, value in content.items():
            if str(name).startswith(_PREFIX):
                ours[str(name).removeprefix(_PREFIX)] = value
        # A checkpoint of another project may hold the weights and their average; one of ours does not.
        if not ours:
            remedy = f"save one alone, or convert it: python -m gauntlet.models.convert {file} --weights …"
            refuse_several(candidates_in(checkpoint), file, remedy)
        content = ours or content
    named = isinstance(content, dict) and all(isinstance(name, str) for name in content)
    if not (named and content and all(isinstance(value, Tensor) for value in content.values())):
        raise UserError(f"{file} holds no state dict: expected tensors by name, or a mapping with a 'state_dict'")
    return content


def with_weights(network: nn.Module, weights: str | Path) -> nn.Module:
    """Load the weights of a file into a network and return it.

    Raises:
        UserError: see `read_weights`; or the file belongs to another architecture or number of classes.
    """
    load_weights(network, read_weights(weights), weights)
    return network


_INSTEAD = "choose the model it was trained with, and convert another project's file with gauntlet.models.convert"


def load_weights(network: nn.Module, tensors: dict[str, Tensor], source: str | Path, instead: str = _INSTEAD) -> None:
    """Copy tensors into a network of the same architecture.

    Of a tensor that the network shares under several names, one is enough.

    Args:
        network: the network.
        tensors: by name.
        source: the origin of the tensors, for messages.
        instead: the remedy if they belong to another architecture, for messages.

    Raises:
        UserError: they belong to another architecture.
    """
    own = network.state_dict()
    tensors = _with_shared_names(own, tensors)
    for name, tensor in own.items():
        if name in tensors and tensors[name].shape != tensor.shape:
            raise UserError(
                f"{source} does not fit this network: {name} is {list(tensors[name].shape)} in the file and"
                f" {list(tensor.shape)} here; choose the model and the number of classes it was trained with"
            )
    missing, unknown = sorted(own.keys() - tensors.keys()), sorted(tensors.keys() - own.keys())
    if missing or unknown:
        raise UserError(
            f"{source} belongs to another architecture: {len(missing)} tensors of this network are not in it"
            f"{_example(missing)}, {len(unknown)} of its tensors are not in this network{_example(unknown)}; {instead}"
        )
    network.load_state_dict(tensors)


def _with_shared_names(own: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors, with a shared tensor of the network under all of its names."""
    keys = {name: _memory(tensor) for name, tensor in own.items() if isinstance(tensor, Tensor)}
    present = {keys[name]: tensor for name, tensor in tensors.items() if name in keys}
    return {name: present[key] for name, key in keys.items() if key in present} | dict(tensors)


def _memory(tensor: Tensor) -> tuple[Any, ...]:
    """A key that is equal for two names of one tensor."""
    empty = () if tensor.numel() else (id(tensor),)  # an empty tensor has no memory
    return tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride(), *empty


def save_weights(network: nn.Module, file: Path) -> None:
    """Write the network's state as safetensors, complete or not at all."""
    write_atomically(file, weights_bytes(network))


def weights_bytes(network: nn.Module) -> bytes:
    """The network's state as safetensors; a tensor that several submodules share is stored under all of its names.

    Raises:
        UserError: the state has entries that safetensors cannot store.
    """
    state = network.state_dict()
    for name, value in state.items():
        if not isinstance(value, Tensor):
            raise UserError(
                f"{type(network).__name__} has {name}, a {type(value).__name__}, in its state dict, and weights are"
                f" saved as tensors: keep it in a buffer (register_buffer), or return a tensor from get_extra_state"
            )
    dense = checked(state, type(network).__name__)
    own = {name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in dense.items()}
    try:
        return safetensors.torch.save(own)
    except (ValueError, KeyError, RuntimeError) as error:
        raise UserError(f"{type(network).__name__} cannot be saved as safetensors: {first_line(error)[:120]}") from None


def digest_of(file: str | Path) -> str:
    """SHA-256 of a file."""
    with Path(file).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _example(names: list[str]) -> str:
    return f" (such as {names[0]})" if names else ""
