"""Run folders made of known answers, as train.py and evaluate.py write them."""

import json
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from PIL import Image

from gauntlet.descriptions import digest
from gauntlet.evaluation import (
    SCHEMAS,
    Card,
    Kind,
    Measured,
    Plan,
    PlannedEntry,
    RecordFolder,
    Union,
    UnseenMean,
    read_plan,
    read_records,
    write_flags,
)
from gauntlet.identity import describe

ATTACKS = {
    "clean": ("clean", 0.0),
    "linf": ("linf", 8 / 255),
    "l2": ("l2", 1.0),
    "stadv": ("stadv", 0.05),
    "recoloradv": ("recoloradv_luv", 0.06),
    "ppgd": ("perceptual", 0.5),
    "lpa": ("perceptual", 0.5),
    "fog": ("fog", 0.0),
}
"""The columns of table 2: threat model and bound; and a transform."""
TRANSFORMS = ("clean", "fog")
UNITS = {"linf": "L∞", "l2": "L2"}
UNION = ["clean", "linf", "l2", "stadv", "recoloradv"]
CLASSES = {"ppgd": "perceptual_pgd", "lpa": "lpa", "clean": "clean"}


class Distances(NamedTuple):
    """What a minimum-distance attack found: 0 where the clean image is wrong, inf where it found nothing."""

    distances: list
    threat_model: str = "l2"
    bound: float = 1.0


class Radii(NamedTuple):
    """What a certificate states; None where it abstains, negative where its class is not the label."""

    radii: list
    threat_model: str = "l2"
    bound: float = 1.0
    confidence: float | None = None
    assumption: str | None = None


def identity(entry, checkpoint="sha", threat="linf", bound=0.0, kind=Kind.ATTACK, **changed):
    """Of an entry's records; that of a minimum-distance attack or a certificate has no bound."""
    threat_model = {"class": f"{threat}/1"}
    if kind in (Kind.ATTACK, Kind.TRANSFORM):
        threat_model["bound"] = bound
    described = {"class": f"{CLASSES.get(entry, 'pgd')}/1", "steps": 10, "threat_model": threat_model}
    content = {"kind": kind.value, "entry": described, "weights": [], "checkpoint": checkpoint}
    content |= {"classifier": checkpoint, "dataset": "f" * 64, "seed": 0, "examples": None, "chunk": 200}
    return content | changed


def records(correct, clean, seed=0, kind=Kind.ATTACK):
    """Records of an attack or a transform from two lists of booleans; distances that look like distances."""
    count, noise = len(correct), np.random.default_rng(seed)
    distance = noise.gamma(4, 0.1, count)
    columns = {
        "example_id": list(range(count)),
        "label": [0] * count,
        "clean_prediction": [0 if right else 1 for right in clean],
        "prediction": [0 if right else 1 for right in correct],
        "correct": list(correct),
        "seconds": [0.01] * count,
        "inside": [True] * count,
        "size": [1.0 if kind is Kind.ATTACK else None] * count,
        "linf": list(distance / 4),
        "l2": list(distance * 3),
        "perceptual": list(distance),
        "lpips": [None] * count,
        "margin": [0.5] * count,
    }
    return pl.DataFrame(columns, schema=SCHEMAS[kind])


def distance_records(found, seed=0):
    """Records of a minimum-distance attack."""
    distances = np.array(found.distances, float)
    clean = distances > 0
    frame = records(np.isinf(distances).tolist(), clean.tolist(), seed)
    size = pl.lit(None, pl.Float32).alias("size")
    column = pl.Series("distance", distances, dtype=pl.Float64)
    return frame.with_columns(size, column).select(*SCHEMAS[Kind.MINIMUM_DISTANCE])


def radius_records(stated, clean):
    """Records of a certificate."""
    abstained = [radius is None for radius in stated.radii]
    wrong = [radius is not None and radius < 0 for radius in stated.radii]
    columns = {
        "example_id": list(range(len(stated.radii))),
        "label": [0] * len(stated.radii),
        "clean_prediction": [0 if right else 1 for right in clean],
        "prediction": [1 if one else 0 for one in wrong],
        "correct": [not (one or nothing) for one, nothing in zip(wrong, abstained, strict=True)],
        "seconds": [0.01] * len(stated.radii),
        "radius": [0.0 if radius is None else abs(radius) for radius in stated.radii],
        "abstained": abstained,
    }
    return pl.DataFrame(columns, schema=SCHEMAS[Kind.CERTIFICATE])


def answers(accuracies, count, seed=0):
    """Lists of booleans with these accuracies; an example that is wrong when clean is wrong everywhere."""
    order = np.random.default_rng(seed).permutation(count)
    found = {}
    for i, (name, share) in enumerate(accuracies.items()):
        correct = np.zeros(count, bool)
        shift = 0 if name == "clean" else i * 3
        right = np.roll(order[: round(accuracies["clean"] * count)], shift)[: round(share * count)]
        correct[right] = True
        found[name] = correct.tolist()
    return found


def make_run(
    folder,
    correct,
    *,
    distances=None,
    radii=None,
    aggregates=None,
    bounds=None,
    name="normal/small_resnet/seed0",
    trained_on=(),
    suite="paper",
    dataset="cifar10",
    soundness=(),
):
    """A run folder whose records have the given answers.

    Args:
        folder: of the run.
        correct: by attack or transform, a list of booleans; those of `clean` are among them.
        distances: by minimum-distance attack, its `Distances`.
        radii: by certificate, its `Radii`.
        aggregates: by name, beside the union of table 2 and the unseen mean.
        bounds: by attack, where they are not those of table 2.
        name: defense/model/seed.
        trained_on: names of threat models.
        suite: its name.
        dataset: its name.
        soundness: results of the soundness check.
    """
    folder, checkpoint = Path(folder), (name.encode().hex() * 3)[:64]
    frames, entries = {}, {}
    for number, (entry, answer) in enumerate(correct.items()):
        kind, (threat_model, bound) = Kind.TRANSFORM if entry in TRANSFORMS else Kind.ATTACK, ATTACKS[entry]
        frames[entry] = records(answer, correct["clean"], number, kind)
        entries[entry] = _planned(kind, threat_model, (bounds or {}).get(entry, bound))
    for number, (entry, found) in enumerate((distances or {}).items()):
        frames[entry] = distance_records(found, 100 + number)
        entries[entry] = _planned(Kind.MINIMUM_DISTANCE, found.threat_model, found.bound)
    for entry, stated in (radii or {}).items():
        frames[entry] = radius_records(stated, correct["clean"])
        entries[entry] = replace(
            _planned(Kind.CERTIFICATE, stated.threat_model, stated.bound),
            confidence=stated.confidence,
            assumption=stated.assumption,
        )
    for entry, frame in frames.items():
        planned = entries[entry]
        own = identity(entry, checkpoint, planned.threat_model, planned.bound, planned.kind)
        record_folder = RecordFolder(folder / "records", entry, planned.kind, own)
        record_folder.write(0, frame)
        entries[entry] = replace(planned, folder=str(record_folder.path.relative_to(folder)))
    defense, model, seed = name.split("/")
    card = Card(
        name, dataset, model, defense, int(seed.removeprefix("seed")), list(trained_on), checkpoint, "f" * 64
    )  # fmt: skip
    card.write(folder)
    made_of = {"union": Union([one for one in UNION if one in correct]), "unseen mean": UnseenMean()}
    write_plan(folder, suite, card, entries, made_of | (aggregates or {}), soundness=list(soundness))
    provenance = {"gauntlet": "0.1.0", "revision": "abc123def456", "python": "3.11", "packages": {"torch": "2.11.0"}}
    write(folder / "provenance.json", [provenance])
    write_flags(folder, suite, checkpoint, [])
    steps = pl.int_range(9, 4000, 10, eager=True)
    loss = {"step": steps, "train/loss": 2 / (1 + steps / 500), "train/adversarial_accuracy": 1 - 1 / (1 + steps / 500)}
    pl.DataFrame(loss).write_csv(folder / "metrics.csv")
    return folder


def _planned(kind, threat_model, bound):
    return PlannedEntry(kind, threat_model, bound, UNITS.get(threat_model, ""), "", digest(threat_model))


def write_plan(folder, suite, card, entries, aggregates, share=None, soundness=()):
    """The plan of a suite, and what its aggregates make of the records that are there."""
    found = {name: read_records(folder / entry.folder, entry.kind) for name, entry in entries.items()}
    described = {name: describe(aggregate) for name, aggregate in aggregates.items()}
    plan = Plan(card.checkpoint, max(map(len, found.values())), entries, described, share, soundness=soundness)
    measured = Measured(card, plan, found)
    results = {name: aggregate(name, measured) for name, aggregate in aggregates.items()}
    replace(plan, results=results).write(folder, suite)


def change_entry(folder, name, suite="paper", **changed):
    """Other values in the plan of one entry."""
    plan = read_plan(folder, suite)
    entries = {**plan.entries, name: replace(plan.entries[name], **changed)}
    replace(plan, entries=entries).write(folder, suite)


def add_bounds(folder, attack, shares, suite="paper"):
    """The same suite at shares of its bounds, as `evaluate.py bounds=[…]` leaves it: one attack is enough here."""
    card, entry = _card(folder), read_plan(folder, suite).entries[attack]
    for share, correct in shares.items():
        own = identity(attack, card.checkpoint, entry.threat_model, share * entry.bound)
        record_folder = RecordFolder(folder / "records", attack, Kind.ATTACK, own)
        record_folder.write(0, records(correct, [True] * len(correct)))
        there = replace(entry, folder=str(record_folder.path.relative_to(folder)), bound=share * entry.bound)
        write_plan(folder, f"{suite}@{share:g}", card, {attack: there}, {"union": Union([attack])}, share)


def _card(folder):
    return Card(**json.loads((folder / "card.json").read_text()))


def add_pictures(folder, suite="paper", rows=14):
    """A sheet as large and as hard to compress as a sheet of real images is."""
    noise = np.random.default_rng(0).integers(0, 256, (rows * 112, 918, 3), dtype=np.uint8)
    smooth = np.kron(noise[::3, ::3], np.ones((3, 3, 1), np.uint8))[: rows * 112, :918]
    (folder / "pictures").mkdir()
    Image.fromarray(smooth).save(folder / "pictures" / f"{suite}.png")


def write(file, content):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))
