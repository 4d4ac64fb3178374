"""Evaluate a classifier from Python, without configs. The records are those of `evaluate.py`."""

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
    """Run a suite on a classifier and return the records of every entry.

    Args:
        classifier: images in [0, 1] to logits, normalisation included; on the device to use.
        dataset: a dataset, whose test split is used, or the examples themselves, of classification.
        suite: the attacks, certificates and transforms to run.
        grid: seed, chunk size, number of examples and mode; None for the defaults.
        reference: the perceptual distance of the column `perceptual`; None leaves it empty.
        folder: where records are kept, so that the same call resumes an interrupted one; None keeps nothing.
        done: called after every chunk.

    Returns:
        One frame per entry, with a row per example and the columns of `gauntlet.evaluation.evidence.schema`. All but
        `seconds` equal those of `evaluate.py` for the same weights, examples, suite and grid.

    Raises:
        UserError: the images are not in [0, 1], attacks failed, or the suite asks for more than the task tells.
    """
    grid = grid or Grid()
    if isinstance(dataset, ImageData):
        examples, fingerprint, task = dataset.splits.test, dataset.fingerprint, dataset.task
    else:
        examples, fingerprint, task = dataset, dataset.digest(), CLASSIFICATION
    check_task(suite, task)
    model = ModelUnderTest(classifier, weights_digest(classifier), examples, fingerprint, reference, task=task)
    check = clean_check(model, slice(0, min(grid.chunk, grid.examples or grid.chunk)))
    print(check, flush=True)
    for warning in check.warnings:
        print(f"warning: {warning}", flush=True)
    with tempfile.TemporaryDirectory(prefix="gauntlet-") as scratch:
        root = Path(scratch if folder is None else folder)
        model = recognised(model, root)
        folders = grid.run(model, suite, root, done or _ignore)
        return {name: read_records(records.path, records.kind) for name, records in folders.items()}


def _ignore(progress: Progress) -> None:
    """Do nothing."""
