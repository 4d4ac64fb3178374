"""The most memory that the perceptual attacks take at 224×224 with ResNet-50, each in a process of its own."""

from __future__ import annotations

import multiprocessing
import resource
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from torch import Tensor, nn

from gauntlet.attacks import (
    Attack,
    CentralDifference,
    FastLagrangianPerceptualAttack,
    LagrangianPerceptualAttack,
    Last,
    PerceptualPGD,
)
from gauntlet.distances import SelfLPIPS
from gauntlet.models import resnet50_imagenet
from gauntlet.threats import NeuralPerceptual
from scripts.bench.naive import Naive
from scripts.bench.setting import Setting
from scripts.bench.sides import Row

SIZE = 224


def memory(setting: Setting) -> Iterator[Row]:
    """MiB per image beyond what network and images take; a step or two have the peak of all."""
    count = 32 if setting.device.type == "cuda" else 8  # which share one copy of the weights, folded
    figures = {name: _in_a_process(name, setting.device, count) for name in _JOBS}
    job = f"φ of ResNet-50 itself, {count} images of {SIZE}×{SIZE}"
    yield Row("memory", job, "MiB per image at the peak", [], "", figures)


def _attack(attack: Callable[[], Attack]) -> Callable[[nn.Module, Tensor, Tensor], object]:
    return lambda network, images, labels: attack()(network, images, labels, seeds=torch.arange(len(images)))


def _ball() -> NeuralPerceptual:
    return NeuralPerceptual(SelfLPIPS(), 0.5)


_JOBS: dict[str, Callable[[nn.Module, Tensor, Tensor], object]] = {
    "a forward and a backward": lambda network, images, labels: torch.autograd.grad(
        network(images.requires_grad_()).sum(), images
    ),
    "Fast-LPA": _attack(lambda: FastLagrangianPerceptualAttack(threat_model=_ball(), steps=2, iterate=Last())),
    "Fast-LPA, naive": lambda network, images, labels: Naive(network.requires_grad_(True), network).fast_lpa(
        images, labels, 0.5, 2
    ),
    "LPA": _attack(lambda: LagrangianPerceptualAttack(threat_model=_ball(), searches=1, steps=2)),
    "PPGD": _attack(lambda: PerceptualPGD(threat_model=_ball(), steps=1, iterations=2)),
    "PPGD by central differences": _attack(
        lambda: PerceptualPGD(threat_model=_ball(), steps=1, iterations=2, jacobian=CentralDifference())
    ),
}


def _in_a_process(name: str, device: torch.device, count: int) -> float:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_peak, args=(name, str(device), count, there))
    process.start()
    there.close()
    try:
        peak: float = here.recv()
    except EOFError:
        raise SystemExit(f"{name} on {count} images: its process ended without a word, for want of memory") from None
    finally:
        process.join()
    return peak / count


def _peak(name: str, device: str, count: int, answer: Connection) -> None:
    """MiB at the peak of a job beyond what there was before it."""
    torch.manual_seed(0)
    network = resnet50_imagenet(100).to(device).eval().requires_grad_(False).to(memory_format=torch.channels_last)
    images, labels = torch.rand(count, 3, SIZE, SIZE, device=device), torch.arange(count, device=device)
    with torch.no_grad():
        network(images[:1])  # the library's own buffers
    before = _held(device)
    _JOBS[name](network, images, labels)
    answer.send(_most(device) - before)


def _held(device: str) -> float:
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device) / 2**20
    pages = Path("/proc/self/statm")  # where there is none, as on a Mac, the peak so far, and some of the job is missed
    if not pages.exists():
        return _most(device)
    return int(pages.read_text().split()[1]) * resource.getpagesize() / 2**20


def _most(device: str) -> float:
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
