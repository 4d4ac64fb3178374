"""Growth of the time with batch size, steps of the attack, size of the images and number of classes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch

from gauntlet.attacks import PGD, Attack, FastLagrangianPerceptualAttack, Last
from gauntlet.distances import SelfLPIPS
from gauntlet.models import small_resnet
from gauntlet.threats import Linf, NeuralPerceptual
from scripts.bench.setting import Setting
from scripts.bench.sides import Row, Side, take_turns

BASE = {"batch": 16, "steps": 10, "size": 32, "classes": 10}
GRID = {
    "batch": (1, 2, 4, 8, 16, 32, 64),
    "steps": (1, 2, 5, 10, 20, 40),
    "size": (16, 32, 64, 96),
    "classes": (2, 10, 100, 1000),
}


def growth(setting: Setting, grid: Mapping[str, tuple[int, ...]] = GRID) -> Iterator[Row]:
    """Time attacks on a whole batch along one axis at a time; the others stay at `BASE`."""
    for name, make in _ATTACKS.items():
        for axis, values in grid.items():
            sides = [Side(f"{value}", _job(make, BASE | {axis: value}, setting.device)) for value in values]
            timed = take_turns(sides, setting.turns, setting.device)
            figures = {side.name: side.median for side in timed}
            yield Row("growth", f"{name} against {axis}", "seconds", [], "", figures)


def draw(rows: list[Row], file: Path) -> None:
    """Draw one panel per axis, logarithmic, with a line of proportional growth."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    axes = list(dict.fromkeys(row.job.split(" against ")[1] for row in rows))
    figure, panels = plt.subplots(1, len(axes), figsize=(3.2 * len(axes), 3), sharey=True, layout="constrained")
    for axis, panel in zip(axes, panels if len(axes) > 1 else [panels], strict=True):
        for row in rows:
            if not row.job.endswith(f" against {axis}"):
                continue
            values = [int(value) for value in row.figures]
            seconds = list(row.figures.values())
            panel.loglog(values, seconds, marker="o", label=row.job.split(" against ")[0])
        power = 2 if axis == "size" else 1
        proportional = [seconds[-1] * (value / values[-1]) ** power for value in values]
        if axis != "classes":
            panel.loglog(values, proportional, ":", color="grey", label="pixels" if power == 2 else "proportional")
        panel.set_xticks(values, [str(value) for value in values], fontsize="x-small")
        panel.minorticks_off()
        panel.set_xlabel({"size": "image height and width", "batch": "images"}.get(axis, axis))
        panel.legend(fontsize="x-small")
    panels_first = panels[0] if len(axes) > 1 else panels
    panels_first.set_ylabel("seconds per batch")
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=150)
    plt.close(figure)


def _pgd(steps: int) -> Attack:
    return PGD(threat_model=Linf(8 / 255), steps=steps, iterate=Last())


def _fast_lpa(steps: int) -> Attack:
    return FastLagrangianPerceptualAttack(threat_model=NeuralPerceptual(SelfLPIPS(), 0.5), steps=steps, iterate=Last())


_ATTACKS: dict[str, Callable[[int], Attack]] = {"PGD": _pgd, "Fast-LPA": _fast_lpa}


def _job(make: Callable[[int], Attack], given: Mapping[str, int], device: torch.device) -> Callable[[], object]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = small_resnet(given["classes"], [0.5] * 3, [0.25] * 3).to(device).eval()
        images = torch.rand(given["batch"], 3, given["size"], given["size"]).to(device)
    network.to(memory_format=torch.channels_last)
    labels = torch.zeros(len(images), dtype=torch.long, device=device)
    attack = make(given["steps"])
    seeds = torch.arange(len(images), device=device)
    return lambda: attack(network, images, labels, seeds=seeds)
