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

_PREFIX = "classifier."  # where a defense keeps its network


def read_weights(file: str | Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint by name.

    Raises:
        UserError: there is no such file, it is damaged, or it holds something else than tensors.
    """
    file = Path(file)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about old pickles; a refusal is one line
            if file.suffix == ".safetensors":
                content: Any = safetensors.torch.load(file.read_bytes())  # which itself opens no name that is not UTF-8
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
            f"{file} is damaged or no checkpoint of plain tensors ({reason_of(error, file)}): fetch or write it again"
        ) from None
    return checked(_tensors(content, file), file)


def reason_of(error: Exception, file: Path) -> str:
    """Why a checkpoint could not be read: what the libraries say of it is about their insides."""
    if asked := re.search(r"GLOBAL ([\w.]+)", str(error)):
        return f"it asks for {asked[1]}"
    if file.is_dir():
        return "it is a folder"
    if isinstance(error, PermissionError):
        return "you may not read it"
    with file.open("rb") as stream:
        head = stream.read(9)
    if head[:2] == b"PK" and not _is_whole_zip(file):
        return "it is cut off"
    if head[:1] == b"\x80":
        return "it is a pickle that torch.save has not written, or has not finished"
    if head[:2] == b"PK" and "Weights only" in str(error):  # torch's advice is to run it all
        return "it is a pickle of more than tensors"
    its_own = head[:2] == b"PK" or head[8:] == b"{"  # a zip archive, or safetensors: it began well
    return first_line(error)[:120] if its_own else beginning(file)


def _is_whole_zip(file: Path) -> bool:
    try:
        zipfile.ZipFile(file).close()
    except Exception:  # a damaged directory at its end raises anything
        return False
    return True


def checked(tensors: dict[str, Tensor], file: str | Path) -> dict[str, Tensor]:
    """The tensors, all of them dense and real.

    Raises:
        UserError: naming one that is not.
    """
    for name, tensor in tensors.items():
        if tensor.layout is not torch.strided or tensor.is_complex() or tensor.is_quantized:
            kind = f"{tensor.dtype}, {tensor.layout}".replace("torch.", "")
            raise UserError(f"{file} holds {name} as {kind}: expected dense tensors of real numbers; save it as such")
    return tensors


def _tensors(content: Any, file: Path) -> dict[str, Tensor]:
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
        ours = {str(n).removeprefix(_PREFIX): value for n, value in content.items() if str(n).startswith(_PREFIX)}
        content = ours or content
    named = isinstance(content, dict) and all(isinstance(name, str) for name in content)
    if not (named and content and all(isinstance(value, Tensor) for value in content.values())):
        raise UserError(f"{file} holds no state dict: expected tensors by name, or a mapping with a 'state_dict'")
    return content


def with_weights(network: nn.Module, weights: str | Path) -> nn.Module:
    """The network with the weights of a file.

    Raises:
        UserError: as in `read_weights`, or the file belongs to another architecture or number of classes.
    """
    load_weights(network, read_weights(weights), weights)
    return network


def load_weights(network: nn.Module, tensors: dict[str, Tensor], source: str | Path) -> None:
    """Copy tensors into a network of the very same architecture; `source` is for the message.

    Of tensors that the network holds under several names one is enough.
    """
    own = network.state_dict()
    tensors = _shared(own, tensors)
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
            f"{_example(missing)}, {len(unknown)} of its tensors are not in this network{_example(unknown)};"
            f" choose the model it was trained with, and convert another project's file with gauntlet.models.convert"
        )
    network.load_state_dict(tensors)


def _shared(own: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors, and under every name of a tensor that the network shares the one that is there."""
    kinds = {name: _memory(tensor) for name, tensor in own.items() if isinstance(tensor, Tensor)}
    present = {kinds[name]: tensor for name, tensor in tensors.items() if name in kinds}
    return {name: present[kind] for name, kind in kinds.items() if kind in present} | dict(tensors)


def _memory(tensor: Tensor) -> tuple[Any, ...]:
    """What two names of one tensor have in common."""
    empty = () if tensor.numel() else (id(tensor),)  # which has no place in memory
    return tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride(), *empty


def save_weights(network: nn.Module, file: Path) -> None:
    """Write the network's state as safetensors, complete or not at all."""
    write_atomically(file, weights_bytes(network))


def weights_bytes(network: nn.Module) -> bytes:
    """The network's state as safetensors; a tensor that several parts share is there under all of its names.

    Raises:
        UserError: there is something in it that no such file holds.
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
