"""The grid without configs: records of any classifier in a notebook, the same that `evaluate.py` writes."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import polars as pl
from torch import nn

from gauntlet.data import ImageData, Split
from gauntlet.distances import LPIPS
from gauntlet.evaluation.grid import Grid
from gauntlet.evaluation.logits import recognised
from gauntlet.evaluation.runner import Progress
from gauntlet.evaluation.sanity.clean_check import clean_check
from gauntlet.evaluation.store import read_records
from gauntlet.evaluation.suite import AttackSuite
from gauntlet.evaluation.suite_of_task import check_task
from gauntlet.evaluation.verification import ModelUnderTest
from gauntlet.identity import weights_digest
from gauntlet.task import CLASSIFICATION


def evaluate(
    classifier: nn.Module,
    dataset: ImageData | Split,
    suite: AttackSuite,
    grid: Grid | None = None,
    *,
    reference: LPIPS | None = None,
    folder: str | Path | None = None,
    done: Callable[[Progress], None] | None = None,
) -> dict[str, pl.DataFrame]:
    """The records of every entry of a suite, by entry.

    Args:
        classifier: images in [0, 1] to logits, normalisation included; on the device to use.
        dataset: whose test split is used, or the examples themselves, of classification.
        suite: under which attacks.
        grid: seed, chunk, how many examples, on whom; None for the defaults.
        reference: the perceptual distance of the column `perceptual`; None leaves it empty.
        folder: keeps the records, so that the same call goes on where it was stopped; None keeps nothing.
        done: told after every chunk.

    Returns:
        One frame per entry, a row per example, the columns of `gauntlet.evaluation.evidence.schema`. All but
        `seconds` equal those of `evaluate.py` for the same weights, examples, suite and grid.

    Raises:
        UserError: the images are not in [0, 1], attacks failed, or the suite asks for more than the task tells.
    """
    grid = grid or Grid()
    examples, fingerprint, task = (
        (dataset.splits.test, dataset.fingerprint, dataset.task)
        if isinstance(dataset, ImageData)
        else (dataset, dataset.digest(), CLASSIFICATION)
    )
    check_task(suite, task)
    model = ModelUnderTest(classifier, weights_digest(classifier), examples, fingerprint, reference, task=task)
    look = clean_check(model, slice(0, min(grid.chunk, grid.examples or grid.chunk)))
    for line in (str(look), *(f"warning: {doubt}" for doubt in look.warnings)):
        print(line, flush=True)
    with tempfile.TemporaryDirectory(prefix="gauntlet-") as scratch:
        root = Path(scratch if folder is None else folder)
        model = recognised(model, root)
        folders = grid.run(model, suite, root, done or _silent)
        return {name: read_records(place.path, place.kind) for name, place in folders.items()}


def _silent(progress: Progress) -> None:
    """No report."""
