"""Time all statistics of records, on synthetic records of 10,000 examples under 7 attacks.

python scripts/bench_summary.py
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

from gauntlet.attacks import PGD
from gauntlet.evaluation import (
    SCHEMAS,
    AttackSuite,
    Kind,
    RecordFolder,
    accuracy,
    compare,
    distance_statistics,
    flags_of_records,
    mean_accuracy,
    overlaps,
    read_records,
    union_accuracy,
)
from gauntlet.threats import Linf

RIGHT = {"clean": 0.82, "linf": 0.30, "l2": 0.35, "stadv": 0.46, "recoloradv": 0.71, "ppgd": 0.13, "lpa": 0.02}
"""Published accuracies of PAT-self on CIFAR-10, for a realistic number of overlaps."""


def main() -> None:
    """Print the seconds of every part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=10_000)
    parser.add_argument("--chunk", type=int, default=200)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folders = _write(Path(scratch), given.examples, given.chunk)
        start = before = time.perf_counter()
        frames = {name: read_records(folder, Kind.ATTACK) for name, folder in folders.items()}
        before = _print_seconds("read the files", before)
        names = [name for name in RIGHT if name != "clean"]
        for frame in frames.values():
            accuracy(frame)
        union_accuracy([frames[name] for name in names])
        mean_accuracy([frames[name] for name in names])
        before = _print_seconds("accuracies, union, mean", before)
        areas = overlaps(frames)
        before = _print_seconds(f"overlaps ({len(areas)} areas)", before)
        for frame in frames.values():
            distance_statistics(frame)
        before = _print_seconds("distances with bootstrap intervals", before)
        compare(frames, {name: frame.reverse() for name, frame in _swapped(frames).items()}, names)
        before = _print_seconds("McNemar against another checkpoint", before)
        suite = AttackSuite(dict.fromkeys(RIGHT, PGD(threat_model=Linf(0.1))))
        flags_of_records(suite, frames)
        _print_seconds("flags from records", before)
        print(f"{given.examples} examples x {len(RIGHT)} attacks: {time.perf_counter() - start:.2f} s in all")


def _swapped(frames: dict) -> dict:
    """Return records with other predictions for the same examples: their rows in reverse."""
    return {
        name: frame.with_columns(example_id=frame["example_id"].reverse(), label=frame["label"].reverse())
        for name, frame in frames.items()
    }


def _write(root: Path, examples: int, chunk: int) -> dict[str, Path]:
    rng = np.random.default_rng(0)
    shared = rng.random(examples)
    clean = rng.random(examples) < RIGHT["clean"]
    folders = {}
    for name, share in RIGHT.items():
        draws = np.where(rng.random(examples) < 0.6, shared, rng.random(examples))  # correlated between attacks
        correct = clean & (draws < share / RIGHT["clean"])
        folder = RecordFolder(root, name, Kind.ATTACK, {"entry": name})
        for index, begin in enumerate(range(0, examples, chunk)):
            rows = slice(begin, min(begin + chunk, examples))
            folder.write(index, _rows(rng, rows, clean[rows], correct[rows]))
        folders[name] = folder.path
    return folders


def _rows(rng: np.random.Generator, rows: slice, clean: np.ndarray, correct: np.ndarray) -> pl.DataFrame:
    ids = np.arange(rows.start, rows.stop)
    label = ids % 10
    distances = {name: rng.exponential(size=len(ids)).tolist() for name in ("linf", "l2", "perceptual", "lpips")}
    columns = distances | {
        "example_id": ids.tolist(),
        "label": label.tolist(),
        "clean_prediction": np.where(clean, label, (label + 1) % 10).tolist(),
        "prediction": np.where(correct, label, (label + 2) % 10).tolist(),
        "correct": correct.tolist(),
        "inside": [True] * len(ids),
        "size": rng.random(len(ids)).tolist(),
        "margin": rng.normal(size=len(ids)).tolist(),
        "seconds": [0.1] * len(ids),
    }
    schema = SCHEMAS[Kind.ATTACK]
    return pl.DataFrame({name: columns[name] for name in schema}, schema=schema)


def _print_seconds(what: str, before: float) -> float:
    now = time.perf_counter()
    print(f"{now - before:6.2f} s  {what}")
    return now


if __name__ == "__main__":
    main()
