"""Peak memory of the perceptual attacks at 224×224 with ResNet-50, each in its own process."""

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
    """Measure MiB per image beyond network and images; one or two steps have the peak of a whole attack."""
    count = 32 if setting.device.type == "cuda" else 8  # they share one folded copy of the weights
    figures = {name: _in_process(name, setting.device, count) for name in _JOBS}
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


def _in_process(name: str, device: torch.device, count: int) -> float:
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe()
    process = context.Process(target=_peak, args=(name, str(device), count, sender))
    process.start()
    sender.close()
    try:
        peak: float = receiver.recv()
    except EOFError:
        raise SystemExit(f"{name} on {count} images: its process was killed, probably out of memory") from None
    finally:
        process.join()
    return peak / count


def _peak(name: str, device: str, count: int, sender: Connection) -> None:
    """Send the peak memory of a job in MiB, beyond what was in use before it."""
    torch.manual_seed(0)
    network = resnet50_imagenet(100).to(device).eval().requires_grad_(False).to(memory_format=torch.channels_last)
    images, labels = torch.rand(count, 3, SIZE, SIZE, device=device), torch.arange(count, device=device)
    with torch.no_grad():
        network(images[:1])  # allocates the library's own buffers
    before = _in_use(device)
    _JOBS[name](network, images, labels)
    sender.send(_most(device) - before)


def _in_use(device: str) -> float:
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device) / 2**20
    pages = Path("/proc/self/statm")  # without it, as on a Mac, the peak so far is taken, and part of the job is missed
    if not pages.exists():
        return _most(device)
    return int(pages.read_text().split()[1]) * resource.getpagesize() / 2**20


def _most(device: str) -> float:
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
