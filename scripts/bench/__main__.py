"""Measure, print and write the rows.

python -m scripts.bench                                    # every row, on networks trained on digits here
python -m scripts.bench pgd step --data <folder>           # two rows, on real CIFAR-10 networks
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from scripts.bench.evaluating import autoattack, pgd, suite
from scripts.bench.growth import draw, growth
from scripts.bench.memory import memory
from scripts.bench.models import bench_models
from scripts.bench.passes import active, folding
from scripts.bench.setting import Setting
from scripts.bench.sides import Row
from scripts.bench.training import flops, loader, step

ROWS: dict[str, Callable[[Setting], Iterator[Row]]] = {
    "step": step,
    "pgd": pgd,
    "folding": folding,
    "active": active,
    "flops": flops,
    "loader": loader,
    "memory": memory,
    "growth": growth,
    "autoattack": autoattack,
    "suite": suite,
}


def main() -> None:
    """Run the command."""
    given = _arguments()
    device = torch.device(
        "cuda" if given.device == "auto" and torch.cuda.is_available() else given.device.replace("auto", "cpu")
    )
    is_gpu = device.type == "cuda"
    setting = Setting(
        bench_models(given.data, device),
        device,
        images=given.images or (1000 if is_gpu else 64),
        few=given.few or (500 if is_gpu else 8),
        batch=given.batch or (256 if is_gpu else 50),
        turns=given.turns,
        queries=given.queries,
        targets=given.targets,
    )
    rows: list[Row] = []
    given.out.mkdir(parents=True, exist_ok=True)
    for key in given.rows or ROWS:
        for row in ROWS[key](setting):
            print(shown(row), flush=True)
            rows.append(row)
            _write(given.out, rows, _machine(device))
    if grown := [row for row in rows if row.key == "growth"]:
        draw(grown, given.out / "growth.png")
    print(f"written to {given.out}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m scripts.bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    data = os.environ.get("GAUNTLET_TEST_DATA")
    parser.add_argument("rows", nargs="*", metavar="row", help=f"of {', '.join(ROWS)}; all")
    parser.add_argument("--data", type=Path, default=Path(data) if data else None, help="a folder of real networks")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1")
    parser.add_argument("--images", type=int, help="of an attack; 64, on a GPU 1000")
    parser.add_argument("--few", type=int, help="images of the rows suite and autoattack; 8, on a GPU 500")
    parser.add_argument("--batch", type=int, help="of a training step; 50, on a GPU 256")
    parser.add_argument("--turns", type=int, default=5, help="how often each side runs")
    parser.add_argument("--queries", type=int, default=5000, help="of Square")
    parser.add_argument("--targets", type=int, default=9, help="target classes of AutoAttack")
    parser.add_argument("--out", type=Path, default=Path("outputs/bench"), help="a folder")
    given = parser.parse_args()
    if unknown := set(given.rows) - ROWS.keys():
        parser.error(f"no row {', '.join(sorted(unknown))}: there are {', '.join(ROWS)}")
    return given


def shown(row: Row) -> str:
    """Return Markdown: a line for every side, and one for the figures."""
    lines = []
    for index, side in enumerate(row.sides):
        job = "" if index else row.job
        ratio = f"{row.ratio(side):.2f} ×" if index else row.target
        strength = "" if side.strength is None else f"{side.strength:.1%}"
        lines.append(f"| {job} | {side.name} | {side.median:.4g} s | {ratio} | {strength} |")
    if row.figures:
        figures = ", ".join(f"{name}: {value:.4g}" for name, value in row.figures.items())
        lines.append(f"| {row.job} | {row.measure} | {figures} | | |")
    return "\n".join(lines)


def _write(folder: Path, rows: list[Row], machine: dict[str, Any]) -> None:
    head = "| job | side | median | takes as long as Gauntlet times | right after it |\n| --- | --- | --- | --- | --- |"
    title = ", ".join(f"{name} {value}" for name, value in machine.items())
    (folder / "bench.md").write_text("\n".join([title, "", head, *map(shown, rows)]) + "\n")
    (folder / "bench.json").write_text(
        json.dumps({"machine": machine, "rows": [row.plain() for row in rows]}, indent=1)
    )


def _machine(device: torch.device) -> dict[str, Any]:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    return {"device": name, "threads": torch.get_num_threads(), "torch": torch.__version__}


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
