"""Checkpoints of other projects: every layout comes back as the same function, or one line says why not."""

import contextlib
import importlib
import itertools
import json
import os
import pickle
import re
import sys
import tarfile

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image
from torch import nn
from torchvision.models import get_model

from gauntlet.config.instantiate import check_targets, instantiate
from gauntlet.errors import UserError
from gauntlet.models import alexnet_cifar, resnet18, resnet18_imagenet, wide_resnet, with_weights
from gauntlet.models.convert import card_of, convert, main
from gauntlet.models.weights import digest_of, read_weights
from tests.fixtures import random_images, shared_data

WORDS = ["--model", "resnet18", "--classes", "4", "--out"]
MEAN, STD = [0.4914, 0.4822, 0.4465], [0.2023, 0.1994, 0.2010]
OTHER = {"mean": [0.1, 0.2, 0.3], "std": [0.5, 0.6, 0.7]}


def known(build, **given):
    """A network with weights and running statistics of its own, in eval mode."""
    torch.manual_seed(3)
    network = build(4, **given).train()
    with torch.no_grad():
        network(random_images(4, 3, 32, 32))
    return network.eval()


def bare(network):
    """Its state without our wrapper: the library's own names."""
    return {name.removeprefix("network."): t for name, t in network.state_dict().items() if name.startswith("network.")}


def renamed(state, *pairs):
    for pattern, replacement in pairs:
        state = {re.sub(pattern, replacement, name): tensor for name, tensor in state.items()}
    return state


def prefixed(prefix, state):
    return {prefix + name: tensor for name, tensor in state.items()}


def cifar_names(state):
    """As the CIFAR ResNets of MadryLab/robustness are called."""
    return renamed(state, (r"\.downsample\.", ".shortcut."), (r"^fc\.", "linear."))


def normaliser(mean=MEAN, std=STD):
    return {"new_mean": torch.tensor(mean)[:, None, None], "new_std": torch.tensor(std)[:, None, None]}


def robustness(network, names=cifar_names, **beside):
    state = names(bare(network))
    attacked = prefixed("model.", state) | prefixed("normalize.", normaliser())
    whole = prefixed("model.", state) | prefixed("normalizer.", normaliser()) | prefixed("attacker.", attacked)
    return {"model": prefixed("module.", whole), "optimizer": {"state": {0: torch.ones(2)}}, "epoch": 3, **beside}


def perceptual_advex_alexnet(network):
    """The whole wrapper: the network, and its features a second time as layers."""
    state = bare(network)
    cuts = (0, 2, 5, 8, 10, 12)
    layers = {}
    for number, (start, end) in enumerate(itertools.pairwise(cuts), 1):
        for index in range(start, end):
            part = {n: t for n, t in state.items() if n.startswith(f"features.{index}.")}
            layers |= renamed(part, (r"^features", f"layer{number}.0"))
    return {"model": prefixed("model.", state) | layers}


def trades(network):
    state = renamed(bare(network), (r"^(block\d)\.(\d+)", r"\1.layer.\2"), (r"\.shortcut\.", ".convShortcut."))
    unused = {n: t + 1 for n, t in state.items() if n.startswith("block1.")}
    return state | renamed(unused, (r"^block1", "sub_block1"))


def small_wide(*given, **named):
    return wide_resnet(*given, **named, depth=10, width=2)


WIDE = {"depth": 10, "width": 2}
LAYOUTS = {
    "robustness": ("resnet18", {}, resnet18, robustness),
    "perceptual-advex, a training checkpoint": (
        "resnet18",
        {},
        resnet18,
        lambda network: {"model": cifar_names(bare(network)), "optimizer": {}, "iteration": 7, "arch": "resnet50"},
    ),
    "perceptual-advex, the wrapper of a ResNet": (
        "resnet18",
        {},
        resnet18,
        lambda network: {
            "model": prefixed("model.", cifar_names(bare(network))) | prefixed("normalizer.", normaliser())
        },
    ),
    "perceptual-advex, the wrapper of AlexNet": ("alexnet_cifar", {}, alexnet_cifar, perceptual_advex_alexnet),
    "TRADES": ("wide_resnet", WIDE, small_wide, trades),
    "torchvision": ("resnet18_imagenet", {}, resnet18_imagenet, bare),
    "DataParallel": (
        "resnet18_imagenet",
        {},
        resnet18_imagenet,
        lambda network: {"state_dict": prefixed("module.", bare(network)), "best_prec1": 3.0},
    ),
    "robustness on ImageNet": (
        "resnet18_imagenet",
        OTHER,
        lambda classes: resnet18_imagenet(classes, **OTHER),
        lambda network: {"model": prefixed("module.model.", bare(network))},
    ),
    "ours": ("resnet18", {}, resnet18, lambda network: network.state_dict()),
}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_comes_back_as_the_same_function(tmp_path, layout, zipped):
    model, arguments, build, write = LAYOUTS[layout]
    network, file, out = known(build), tmp_path / "foreign.pt", tmp_path / "new" / "ours.safetensors"
    torch.save(write(network), file, _use_new_zipfile_serialization=zipped)
    card = convert(file, model, {"classes": 4, **arguments}, "https://example.org", ["linf"], out)

    again = with_weights(instantiate(card["node"]), out).eval()
    check_targets(card["node"])
    images = random_images(2, 3, 32, 32)
    with torch.no_grad():
        assert again(images).equal(network(images))
    assert json.loads(card_of(out).read_text()) == card
    assert card["sha256"] == digest_of(out)
    assert card["source"] == {"file": "foreign.pt", "sha256": digest_of(file), "from": "https://example.org"}
    assert card["trained_on"] == ["linf"]
    assert card["node"]["classes"] == 4
    assert card["node"]["mean"] == pytest.approx(network.normalise.mean.flatten().tolist())


def averaged(network):
    """Other weights, as an average would be."""
    return {name: tensor * 0.5 if tensor.is_floating_point() else tensor for name, tensor in bare(network).items()}


SEVERAL = {
    "timm": (("state_dict", "state_dict_ema"), lambda raw, ema: {"state_dict": raw, "state_dict_ema": ema}),
    "torchvision": (
        ("model", "model_ema"),
        lambda raw, ema: {"model": raw, "model_ema": {"n_averaged": torch.tensor(7)} | prefixed("module.", ema)},
    ),
    "a student and a teacher": (("student", "teacher"), lambda raw, ema: {"student": raw, "teacher": ema, "epoch": 3}),
    "folded": (("net.state", "ema.shadow"), lambda raw, ema: {"net": {"state": raw}, "ema": {"shadow": ema, "d": 0.9}}),
    "beside the tensors": ((".", "ema"), lambda raw, ema: raw | {"ema": ema}),
    "other tensors beside": (
        ("model", "ema"),
        lambda raw, ema: {"model": raw, "ema": ema, "confusion": torch.ones(4, 4), "best": torch.tensor(0.9)},
    ),
}


@pytest.mark.parametrize("kind", SEVERAL)
def test_of_several_networks_the_one_that_is_named_is_taken(tmp_path, kind, capsys):
    names, write = SEVERAL[kind]
    network, file, out = known(resnet18), tmp_path / "foreign.pt", tmp_path / "ours.safetensors"
    states = bare(network), averaged(network)
    torch.save(write(*states) | {"optimizer": {"state": {0: {"exp_avg": torch.ones(9, 9)}}}}, file)
    with pytest.raises(UserError, match="holds several networks") as refused:
        convert(file, "resnet18", {"classes": 4}, None, [], out)
    assert all(f" {name}" in str(refused.value) for name in names)
    assert [place.name for place in tmp_path.iterdir()] == ["foreign.pt"]
    for name, state in zip(names, states, strict=True):
        main([str(file), *WORDS, str(out), "--weights", name])
        written = read_weights(out)
        assert all(written[f"network.{key}"].equal(tensor) for key, tensor in state.items())
        assert json.loads(card_of(out).read_text())["source"]["weights"] == name
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main([str(file), *WORDS, str(out), "--weights", "nowhere"])
    assert f"--weights nowhere: {file} holds {names[0]}" in capsys.readouterr().err


def test_an_average_without_names_is_not_overlooked(tmp_path):
    """As torch_ema keeps it: parameters by their order. It cannot be taken, and is not overlooked."""
    network, file, out = known(resnet18), tmp_path / "foreign.pt", tmp_path / "ours.safetensors"
    shadow = [parameter.detach() * 0.5 for parameter in network.parameters()]
    torch.save({"model": bare(network), "ema": {"decay": 0.9, "shadow_params": shadow}}, file)
    with pytest.raises(UserError, match=r"several networks, model and ema\.shadow_params"):
        convert(file, "resnet18", {"classes": 4}, None, [], out)
    convert(file, "resnet18", {"classes": 4}, None, [], out, "model")
    with pytest.raises(UserError, match="another architecture"):
        convert(file, "resnet18", {"classes": 4}, None, [], out, "ema.shadow_params")


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_part_of_the_names_is_a_network_too(tmp_path, suffix):
    """As Lightning modules keep an average: two networks in one state dict."""
    network, file, out = known(resnet18), tmp_path / f"foreign{suffix}", tmp_path / "ours.safetensors"
    whole = prefixed("student.", bare(network)) | prefixed("ema.module.", averaged(network))
    if suffix == ".pt":
        torch.save({"state_dict": whole, "epoch": 3}, file)
    else:
        safetensors.torch.save_file({name: tensor.clone() for name, tensor in whole.items()}, file)
    with pytest.raises(UserError, match="--weights <what the names of its tensors begin with>"):
        convert(file, "resnet18", {"classes": 4}, None, [], out)
    for name, state in (("student", bare(network)), ("ema", averaged(network)), ("ema.module", averaged(network))):
        convert(file, "resnet18", {"classes": 4}, None, [], out, name)
        written = read_weights(out)
        assert all(written[f"network.{key}"].equal(tensor) for key, tensor in state.items())


class Normalised(nn.Module):
    """A layer of other projects; its numbers are buffers, or not saved at all."""

    def __init__(self, names=("mean", "std"), saved=True):
        super().__init__()
        for name, values in zip(names, (OTHER["mean"], OTHER["std"]), strict=True):
            self.register_buffer(name, torch.tensor(values).reshape(1, 3, 1, 1), persistent=saved)
        self.names = names

    def forward(self, images):
        mean, std = (getattr(self, name) for name in self.names)
        return (images - mean) / std


WRAPPED = {
    "compiled": (lambda net, _: torch.compile(net), OTHER),
    "a compiled part": (lambda net, _: compiled_part(net), OTHER),
    "compiled inside DataParallel": (lambda net, _: nn.DataParallel(torch.compile(net)), OTHER),
    "DataParallel, compiled": (lambda net, _: torch.compile(nn.DataParallel(net)), OTHER),
    "averaged": (lambda net, _: torch.optim.swa_utils.AveragedModel(net), OTHER),
    "averaged and compiled": (lambda net, _: torch.compile(torch.optim.swa_utils.AveragedModel(net)), OTHER),
    "behind a normalisation": (lambda net, front: nn.Sequential(front(), net), {}),
    "behind a normalisation that is not saved": (lambda net, front: nn.Sequential(front(saved=False), net), OTHER),
    "behind μ and σ": (lambda net, front: nn.Sequential(front(("mu", "sigma")), net), {}),
    "behind a normalisation, averaged": (
        lambda net, front: torch.optim.swa_utils.AveragedModel(nn.Sequential(front(), net)),
        {},
    ),
}


def compiled_part(net):
    net.layer2 = torch.compile(net.layer2)
    return net


@pytest.mark.parametrize("wrapper", WRAPPED)
def test_a_wrapped_network_comes_back_as_the_same_function(tmp_path, wrapper):
    """Nothing is compiled by wrapping: the state dict has other names, that is all."""
    wrap, arguments = WRAPPED[wrapper]
    network = known(lambda classes: resnet18(classes, **OTHER))
    images = random_images(2, 3, 32, 32)
    with torch.no_grad():
        expected = network(images)
    file, out = tmp_path / "foreign.pt", tmp_path / "ours.safetensors"
    torch.save({"model": wrap(network.network, Normalised).state_dict(), "epoch": 3}, file)
    card = convert(file, "resnet18", {"classes": 4, **arguments}, None, [], out)
    again = with_weights(instantiate(card["node"]), out).eval()
    with torch.no_grad():
        assert again(images).allclose(expected, atol=1e-5)


def test_no_refusal_of_the_command_advises_the_command(tmp_path):
    torch.save({"stem.weight": torch.ones(3, 3), "fc.bias": torch.ones(4)}, tmp_path / "foreign.pt")
    with pytest.raises(UserError, match="another architecture") as refused:
        convert(tmp_path / "foreign.pt", "resnet18", {"classes": 4}, None, [], tmp_path / "o.safetensors")
    assert "gauntlet.models.convert" not in str(refused.value)
    with pytest.raises(UserError, match=r"gauntlet\.models\.convert"):
        with_weights(resnet18(4), tmp_path / "foreign.pt")


def test_the_normalisation_of_the_file_wins_and_must_agree(tmp_path):
    file, out = tmp_path / "foreign.pt", tmp_path / "ours.safetensors"
    state = {
        "model": prefixed("module.normalizer.", normaliser(**OTHER)) | prefixed("module.model.", bare(known(resnet18)))
    }
    torch.save(state, file)
    card = convert(file, "resnet18", {"classes": 4}, None, [], out)
    assert (card["node"]["mean"], card["node"]["std"]) == (OTHER["mean"], OTHER["std"])
    assert read_weights(out)["normalise.std"].flatten().tolist() == pytest.approx(OTHER["std"])
    assert convert(file, "resnet18", {"classes": 4, **OTHER}, None, [], out)["node"] == card["node"]
    with pytest.raises(UserError, match=r"--mean \[0.5, 0.5, 0.5\], but .* was trained with"):
        convert(file, "resnet18", {"classes": 4, "mean": [0.5] * 3}, None, [], out)


def test_old_files_do_not_count_their_batches(tmp_path):
    """Before PyTorch 0.4.1 batch norm had no num_batches_tracked."""
    network = known(resnet18)
    state = {name: tensor for name, tensor in bare(network).items() if not name.endswith("num_batches_tracked")}
    torch.save(state, tmp_path / "old.pt")
    convert(tmp_path / "old.pt", "resnet18", {"classes": 4}, None, [], tmp_path / "ours.safetensors")
    images = random_images(2, 3, 32, 32)
    with torch.no_grad():
        assert with_weights(resnet18(4), tmp_path / "ours.safetensors").eval()(images).equal(network(images))


class Trap:
    """An object whose unpickling would make a file."""

    def __init__(self, function, argument):
        self.call = function, argument

    def __reduce__(self):
        return self.call[0], (self.call[1],)


@pytest.mark.parametrize("zipped", [True, False])
def test_strange_objects_are_skipped_and_their_code_is_never_imported(tmp_path, monkeypatch, zipped):
    """As the settings that robustness keeps beside its weights."""
    marker = tmp_path / "imported"
    (tmp_path / "stranger.py").write_text(
        f"from pathlib import Path\nPath({str(marker)!r}).touch()\nclass Settings:\n    pass\n"
        f"class Listing(list):\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    stranger = importlib.import_module("stranger")
    settings = stranger.Settings()
    settings.attack, settings.nested = "linf", {"lr": 0.1, "own": stranger.Settings()}
    network = known(resnet18)
    torch.save(
        robustness(network, args=settings, best=np.float64(3)), tmp_path / "a.pt", _use_new_zipfile_serialization=zipped
    )
    del sys.modules["stranger"]
    marker.unlink()
    convert(tmp_path / "a.pt", "resnet18", {"classes": 4}, None, [], tmp_path / "ours.safetensors")
    assert "stranger" not in sys.modules
    assert not marker.exists()
    images = random_images(2, 3, 32, 32)
    with torch.no_grad():
        assert with_weights(resnet18(4), tmp_path / "ours.safetensors").eval()(images).equal(network(images))


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("function", [exec, os.system, os.mkdir, eval])
def test_code_in_a_file_is_never_run(tmp_path, function, zipped):
    marker, file = tmp_path / "ran", tmp_path / "trap.pt"
    argument = {exec: f"open({str(marker)!r}, 'w')", os.system: f"touch {marker}", os.mkdir: str(marker)}
    trap = Trap(function, argument.get(function, f"open({str(marker)!r}, 'w')"))
    torch.save(robustness(known(resnet18), args=trap), file, _use_new_zipfile_serialization=zipped)
    with contextlib.suppress(UserError):  # refused or skipped, as PyTorch's own list of forbidden modules has it
        convert(file, "resnet18", {"classes": 4}, None, [], tmp_path / "ours.safetensors")
    assert not marker.exists()
    torch.load(file, weights_only=False)  # elsewhere it would
    assert marker.exists()


def without(state, word):
    return {name: tensor for name, tensor in state.items() if word not in name}


RESNET = known(resnet18)
REFUSED = {
    "another number of classes": (bare(RESNET), {"classes": 10}, r"fc.weight is \[4, 512\] in the file.*\[10, 512\]"),
    "another architecture": ({"stem.weight": torch.ones(3), "fc.bias": torch.ones(4)}, {}, "another architecture"),
    "a tensor too few": (without(bare(RESNET), "layer3.0.conv2"), {}, "1 tensors of this network are not in it"),
    "an untrained layer too many": (bare(RESNET) | {"extra.own.bias": torch.zeros(64)}, {}, "1 of its tensors are not"),
    "a tensor too many": (bare(RESNET) | {"extra.weight": torch.ones(7)}, {}, "1 of its tensors are not in this"),
    "two that differ": (
        bare(RESNET) | {"module.conv1.weight": bare(RESNET)["conv1.weight"] + 1},
        {},
        "two tensors for conv1.weight that differ: conv1.weight and module.conv1.weight",
    ),
    "two state dicts": (
        {"model": bare(RESNET), "state_dict": bare(RESNET)},
        {},
        "several networks, model and state_dict: choose one, such as --weights state_dict",
    ),
    "a network behind something that was not saved": (
        prefixed("1.", bare(RESNET)),
        {},
        "follows a layer of which nothing was saved, such as a normalisation: give --mean and --std",
    ),
    "a network behind something, compiled and averaged": (
        {"n_averaged": torch.tensor(3)} | prefixed("module._orig_mod.1.", bare(RESNET)),
        {},
        "give --mean and --std",
    ),
    "no tensors": ({"epoch": 3}, {}, "holds no state dict"),
    "a list": ([torch.ones(2)], {}, "holds no state dict"),
    "a whole network": (nn.Linear(2, 2), {}, "holds no state dict"),
    "a normalisation of other images": (
        bare(RESNET),
        {"mean": [0.5], "std": [0.5]},
        r"--mean and --std are of 1 channels, and .*foreign.pt is of images of 3 \(network.conv1.weight is \[64, 3",
    ),
    "a sparse tensor": (
        bare(RESNET) | {"conv1.weight": torch.ones(2, 3).to_sparse()},
        {},
        "conv1.weight as float32, sparse_coo: expected dense",
    ),
    "complex numbers": (
        bare(RESNET) | {"conv1.weight": bare(RESNET)["conv1.weight"].to(torch.complex64)},
        {},
        "conv1.weight as complex64, strided: expected dense tensors of real numbers",
    ),
    "a normalisation that cannot be": (bare(RESNET), {"std": [0.0] * 3}, "std above 0"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_one_line_and_leaves_nothing(tmp_path, case):
    content, arguments, says = REFUSED[case]
    torch.save(content, tmp_path / "foreign.pt")
    with pytest.raises(UserError, match=says) as caught:
        convert(tmp_path / "foreign.pt", "resnet18", {"classes": 4} | arguments, None, [], tmp_path / "o.safetensors")
    assert "\n" not in str(caught.value)
    assert [file.name for file in tmp_path.iterdir()] == ["foreign.pt"]


def test_the_command_line(tmp_path, capsys):
    network, file, out = known(small_wide, **OTHER), tmp_path / "nat.pt", tmp_path / "trades.safetensors"
    torch.save(trades(network), file)
    normalisation = ["--mean", "0.1", "0.2", "0.3", "--std", "0.5", "0.6", "0.7"]
    rest = ["--classes", "4", *normalisation, "--trained-on", "linf", "l2", "--source", "current", "--out", str(out)]
    main([str(file), "--model", "wide_resnet", *rest, "depth=10", "width=2"])
    card = json.loads(card_of(out).read_text())
    assert card["node"] == {"_target_": "gauntlet.models.wide_resnet", "classes": 4, **OTHER, **WIDE}
    assert (card["trained_on"], card["source"]["from"]) == (["linf", "l2"], "current")
    assert card["sha256"] in capsys.readouterr().out
    main([str(file), "width=2", "--model", "wide_resnet", *rest, "depth=10"])
    assert json.loads(card_of(out).read_text()) == card


def test_a_model_of_torchvision_by_name(tmp_path):
    theirs = get_model("mobilenet_v3_small", weights=None, num_classes=4).eval()
    torch.save(theirs.state_dict(), tmp_path / "foreign.pth")
    out = tmp_path / "ours.safetensors"
    plain = {"mean": [0.0] * 3, "std": [1.0] * 3}
    card = convert(
        tmp_path / "foreign.pth", "torchvision", {"name": "mobilenet_v3_small", "classes": 4, **plain}, None, [], out
    )
    images = random_images(2, 3, 32, 32)
    with torch.no_grad():
        assert with_weights(instantiate(card["node"]), out).eval()(images).equal(theirs(images))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["nowhere.pt", *WORDS, "a.safetensors"], "no checkpoint at nowhere.pt"),
        ([".", *WORDS, "a.safetensors"], r"\. is a folder: give a .pt"),
        (["page.pt", *WORDS, "a.safetensors"], r"page.pt is damaged .*\(it is a web page\): nothing of it was run"),
        (["empty.pt", *WORDS, "a.safetensors"], r"empty.pt is damaged .*\(it is empty\)"),
        (["zip.pt", *WORDS, "a.safetensors"], r"zip.pt is damaged .*\(it is a zip archive without tensors\)"),
        (["cut.pt", *WORDS, "a.safetensors"], r"cut.pt is damaged .*\(it is truncated\)"),
        (["trap.pt", *WORDS, "a.safetensors"], r"trap.pt .* \(it needs (\w+\.)?exec\): nothing of it was run"),
        (["old.pt", *WORDS, "a.safetensors"], r"old.pt .* \(it needs (\w+\.)?exec\): nothing of it was run"),
        (["new.pt", *WORDS, "a.safetensors"], r"new.pt .* \(it is a pickle of more than tensors\): nothing"),
        (["trap.pkl", *WORDS, "a.safetensors"], r"trap.pkl .* \(it is a pickle not written by torch.save"),
        (["good.pt", *WORDS, "page.pt/a.safetensors"], r"a.safetensors could not be written \(page.pt is a file\)"),
        (["good.pt", *WORDS, "folder.safetensors"], r"folder.safetensors could not be written \(Is a directory\)"),
        (["good.pt", *WORDS, "a.safetensors", "classes=5"], "classes=5: use the option --classes"),
        (["good.pt", *WORDS, "a.safetensors", "std=[1]"], r"std=\[1\]: use the option --std"),
        (["good.pt", *WORDS, "a.safetensors", "--mean", "0.5", "0.5"], "expected one of each per channel"),
        (["good.pt", *WORDS, "a.safetensors", "--trained-on", "linf", "banana"], r"--trained-on banana: .*\(linf, l2,"),
        (["good.pt", *WORDS, "a.safetensors", "--trained-on", "linf+fog"], r"--trained-on linf\+fog: expected"),
        (["page.pt", *WORDS, "a.pt"], "ends with .safetensors"),
        (["good.pt", *WORDS, "a.safetensors", "depth"], "depth: expected arguments of the model as key=value"),
        (
            ["good.pt", *WORDS, "a.safetensors", "depth=18"],
            "--model resnet18 has no argument depth: expected --classes …, --",
        ),
        (["good.pt", "--model", "resnet", *WORDS[2:], "a.safetensors"], "--model resnet: expected one of alexnet"),
        (
            ["good.pt", "--model", "small_resnet", *WORDS[2:], "a.safetensors"],
            "small_resnet has no default mean and std",
        ),
        (["good.pt", "--model", "torchvision", *WORDS[2:], "a.safetensors"], "add name=…, --mean …, --std …"),
    ],
)
def test_what_cannot_be_is_one_line(tmp_path, monkeypatch, capsys, words, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "page.pt").write_text("<html>quota exceeded</html>")
    (tmp_path / "empty.pt").touch()
    (tmp_path / "zip.pt").write_bytes(b"PK\x05\x06" + bytes(18))
    torch.save(bare(RESNET), tmp_path / "good.pt")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "good.pt").read_bytes()[:-500])
    trap = {"state_dict": bare(RESNET), "args": Trap(exec, "raise SystemExit('unpickled')")}
    torch.save(trap, tmp_path / "trap.pt")
    torch.save(trap, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    torch.save(trap, tmp_path / "new.pt", pickle_protocol=4)
    (tmp_path / "trap.pkl").write_bytes(pickle.dumps(trap["args"], protocol=4))
    (tmp_path / "folder.safetensors").mkdir()
    with pytest.raises(SystemExit) as stop:
        main(words)
    message = capsys.readouterr().err
    assert stop.value.code == 2
    assert re.search(says, message), message
    assert len(message.strip().splitlines()) == 1
    assert not (tmp_path / "a.safetensors").exists()


@pytest.fixture(scope="module")
def first_500():
    """CIFAR-10's first test images and their labels."""
    with tarfile.open(shared_data("cifar10", "cifar10_30k_webp.tar")) as archive:
        sheet = np.asarray(Image.open(archive.extractfile("cifar10/test_batch.webp")).convert("RGB"))
        labels = np.load(archive.extractfile("cifar10/labels.npz"))["test"][:500]
    tiles = sheet.reshape(-1, 32, 20, 32, 3).transpose(0, 2, 4, 1, 3).reshape(-1, 3, 32, 32)[:500]
    return torch.from_numpy(tiles.copy()).float() / 255, torch.from_numpy(labels).long()


@pytest.mark.parametrize(
    ("file", "model", "right"),
    [
        ("cifar10_resnet20/resnet20-12fca82f.th", "resnet20", 455),
        ("cifar10_resnet32/normal.resnet32.pt", "resnet32", 466),
        ("cifar10_resnet32/delta.resnet32.pt", "resnet32", 437),
        ("cifar10_resnet32/recoloradv_stadv_delta.resnet32.pt", "resnet32", 440),
    ],
)
def test_published_networks_are_right_as_often_as_published(tmp_path, first_500, file, model, right):
    out = tmp_path / "ours.safetensors"
    card = convert(shared_data("weights", *file.split("/")), model, {"classes": 10}, None, [], out)
    network = with_weights(instantiate(card["node"]), out).eval()
    images, labels = first_500
    with torch.no_grad():
        assert (network(images).argmax(1) == labels).sum() == right
