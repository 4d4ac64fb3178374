"""Weights come back from a file as they went in, or one line says why not."""

import contextlib
import hashlib
import io
import pickle
import zipfile

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from gauntlet.errors import UserError
from gauntlet.models import small_resnet, with_weights
from gauntlet.models.weights import digest_of, read_weights, save_weights
from tests.fixtures import tapped


def same(one, other):
    return one.keys() == other.keys() and all(one[name].equal(other[name]) for name in one)


def refused(network, file, saying):
    """The one line a user sees; the network is as it was."""
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(UserError, match=saying) as caught:
        with_weights(network, file)
    assert same(network.state_dict(), before)
    message = str(caught.value)
    assert "\n" not in message
    assert str(file) in message
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def stored(content):
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def test_safetensors_give_back_every_tensor(tmp_path):
    network = small_resnet(3, [0.5], [0.2], width=4).to(memory_format=torch.channels_last)
    network(torch.rand(4, 1, 8, 8))  # moves buffers, integers included
    save_weights(network, tmp_path / "deep" / "weights.safetensors")
    again = with_weights(small_resnet(3, [0.1], [0.9], width=4), tmp_path / "deep" / "weights.safetensors")
    assert same(again.state_dict(), network.state_dict())


def test_the_same_weights_make_the_same_file(tmp_path):
    save_weights(tapped(), tmp_path / "one.safetensors")
    save_weights(tapped(), tmp_path / "other.safetensors")
    assert (tmp_path / "one.safetensors").read_bytes() == (tmp_path / "other.safetensors").read_bytes()


def test_a_lightning_checkpoint_gives_the_classifier_alone(tmp_path):
    network = tapped(seed=1)
    state = {f"classifier.{name}": tensor for name, tensor in network.state_dict().items()}
    torch.save({"epoch": 3, "state_dict": {**state, "monitor.total": torch.zeros(1)}}, tmp_path / "last.ckpt")
    assert same(with_weights(tapped(), tmp_path / "last.ckpt").state_dict(), network.state_dict())


@pytest.mark.parametrize("other", ["state_dict_ema", "ema"])
def test_of_two_networks_in_a_file_none_is_taken_unasked(tmp_path, other):
    state = tapped(seed=1).state_dict()
    torch.save({"state_dict": state, other: {name: t + 1 for name, t in state.items()}}, tmp_path / "weights.pt")
    refused(tapped(), tmp_path / "weights.pt", f"several networks, state_dict and {other}: save one alone")


def test_of_our_own_checkpoint_the_average_is_taken(tmp_path):
    """Lightning keeps the weights that are trained beside their average, which is the state dict."""
    network = tapped(seed=1)
    state = {f"classifier.{name}": tensor for name, tensor in network.state_dict().items()}
    raw = {name: tensor + 1 for name, tensor in state.items()}
    torch.save({"epoch": 3, "state_dict": state, "current_model_state": raw}, tmp_path / "last.ckpt")
    assert same(with_weights(tapped(), tmp_path / "last.ckpt").state_dict(), network.state_dict())


@pytest.mark.parametrize("wrap", [lambda state: state, lambda state: {"state_dict": state, "arch": "tapped"}])
def test_plain_state_dicts_are_read(tmp_path, wrap):
    network = tapped(seed=1)
    torch.save(wrap(network.state_dict()), tmp_path / "weights.pt")
    assert same(with_weights(tapped(), str(tmp_path / "weights.pt")).state_dict(), network.state_dict())


class Trap:
    """An object whose unpickling would run code."""

    def __reduce__(self):
        return (exec, ("raise SystemExit('unpickled')",))


class Custom:
    """An object of a class of one's own."""


DAMAGED = {
    "an empty file": b"",
    "a page of HTML": b"<!DOCTYPE html><html><body>404 Not Found</body></html>\n" * 20,
    "plain text": b"not a checkpoint",
    "a truncated checkpoint": stored(tapped().state_dict())[:-200],
    "the first bytes of a checkpoint": stored(tapped().state_dict())[:40],
    "a pickle of code": pickle.dumps({"state_dict": Trap()}),
    "a checkpoint with code": stored({"state_dict": Trap()}),
    "a checkpoint with an object": stored({"state_dict": {}, "model": Custom()}),
    "an old pickle protocol": pickle.dumps([1, 2], protocol=0),
    "a whole network": stored(nn.Linear(2, 2)),
    "some other zip file": None,
}
TENSORLESS = {
    "a list": stored([1, 2]),
    "a number": stored(3),
    "an empty mapping": stored({}),
    "numbers by name": stored({"a": 1}),
    "an empty state_dict": stored({"state_dict": {}}),
    "tensors by number": stored({"state_dict": {1: torch.zeros(1)}}),
    "a tensor": stored(torch.zeros(3)),
}


@pytest.mark.parametrize("suffix", [".ckpt", ".safetensors"])
@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_file_is_one_line(tmp_path, content, suffix):
    file = tmp_path / f"weights{suffix}"
    if content is None:
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("readme.txt", "hello")
    else:
        file.write_bytes(content)
    refused(tapped(), file, "damaged or not a checkpoint")


REASONS = {
    "an empty file": "it is empty",
    "a page of HTML": "it is a web page",
    "plain text": "it begins with b'not a checkp'",
    "a truncated checkpoint": "it is truncated",
    "the first bytes of a checkpoint": "it is truncated",
    "a pickle of code": "it is a pickle not written by torch.save, or incomplete",
    "a checkpoint with code": r"it needs (\w+\.)?exec",
    "a checkpoint with an object": r"it needs tests\.models\.test_weights\.Custom",
    "a whole network": r"it needs torch\.nn\.modules\.linear\.Linear",
}


@pytest.mark.parametrize("case", REASONS)
def test_why_is_said_in_our_words(tmp_path, case):
    (tmp_path / "weights.ckpt").write_bytes(DAMAGED[case])
    refused(tapped(), tmp_path / "weights.ckpt", rf"\({REASONS[case]}\): fetch or save it again$")


def test_the_line_is_all_there_is_to_read(tmp_path, recwarn):
    (tmp_path / "weights.ckpt").write_bytes(pickle.dumps({"state_dict": 1}, protocol=4))
    refused(tapped(), tmp_path / "weights.ckpt", "damaged or not a checkpoint")
    assert [str(warning.message) for warning in recwarn] == []


def test_truncated_safetensors_are_one_line(tmp_path):
    save_weights(tapped(), tmp_path / "whole.safetensors")
    content = (tmp_path / "whole.safetensors").read_bytes()
    for length in (4, 100, len(content) - 1):
        (tmp_path / "part.safetensors").write_bytes(content[:length])
        refused(tapped(), tmp_path / "part.safetensors", "damaged")


@pytest.mark.parametrize("content", TENSORLESS.values(), ids=TENSORLESS)
def test_a_file_without_tensors_is_one_line(tmp_path, content):
    (tmp_path / "weights.ckpt").write_bytes(content)
    refused(tapped(), tmp_path / "weights.ckpt", "holds no state dict")


def test_safetensors_without_tensors_are_one_line(tmp_path):
    safetensors.torch.save_file({}, tmp_path / "weights.safetensors")
    refused(tapped(), tmp_path / "weights.safetensors", "holds no state dict")


def test_a_missing_file_is_one_line(tmp_path):
    for name in ("none.ckpt", "none.safetensors"):
        refused(tapped(), tmp_path / name, "no checkpoint at")


def test_a_folder_is_one_line(tmp_path):
    for name in ("run", "run.safetensors"):
        (tmp_path / name).mkdir()
        refused(tapped(), tmp_path / name, r"damaged or not a checkpoint .*\(it is a folder\)")


@settings(deadline=None, max_examples=100)
@given(position=st.integers(0, 10**6), garbage=st.binary(min_size=1, max_size=8))
def test_flipped_bytes_never_raise_anything_else(tmp_path_factory, position, garbage):
    content = bytearray(stored({"state_dict": {"weight": torch.arange(3.0)}}))
    position %= len(content)
    content[position : position + len(garbage)] = garbage
    file = tmp_path_factory.getbasetemp() / "flipped.ckpt"
    file.write_bytes(content)
    with contextlib.suppress(UserError):
        assert all(isinstance(tensor, torch.Tensor) for tensor in read_weights(file).values())


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=40), st.sampled_from([b"", b"\x80\x02", pickle.dumps({"a": 1}, protocol=2)[:-1]]))
def test_arbitrary_bytes_never_raise_anything_else(tmp_path_factory, content, start):
    file = tmp_path_factory.getbasetemp() / "arbitrary.ckpt"
    file.write_bytes(start + content)
    with pytest.raises(UserError) as caught:
        read_weights(file)
    assert "\n" not in str(caught.value)


def test_another_number_of_classes_says_which(tmp_path):
    save_weights(tapped(classes=10), tmp_path / "ten.safetensors")
    refused(tapped(classes=4), tmp_path / "ten.safetensors", r"\[10.*\[4.*number of classes")


def test_another_architecture_names_a_tensor_of_each(tmp_path):
    save_weights(small_resnet(4, [0.5], [0.2], width=4), tmp_path / "resnet.safetensors")
    refused(tapped(channels=1), tmp_path / "resnet.safetensors", "(another architecture|does not fit)")
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "linear.pt")
    refused(tapped(), tmp_path / "linear.pt", r"another architecture.*such as \S+.*such as bias")


def test_a_digest_is_the_files_sha256(tmp_path):
    (tmp_path / "file").write_bytes(b"abc")
    assert digest_of(tmp_path / "file") == hashlib.sha256(b"abc").hexdigest()
