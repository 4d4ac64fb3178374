"""Run folders made of known answers, as train.py and evaluate.py write them."""

import json
from pathlib import Path

import numpy as np
import polars as pl
from PIL import Image

from gauntlet.evaluation import OutcomeFolder, write_flags

ATTACKS = {
    "clean": ("clean", 0.0),
    "linf": ("linf", 8 / 255),
    "l2": ("l2", 1.0),
    "stadv": ("stadv", 0.05),
    "recoloradv": ("recoloradv_luv", 0.06),
    "ppgd": ("perceptual", 0.5),
    "lpa": ("perceptual", 0.5),
}
"""The columns of table 2: threat model and bound."""
UNION = ["clean", "linf", "l2", "stadv", "recoloradv"]
CLASSES = {"ppgd": "perceptual_pgd", "lpa": "lpa", "clean": "clean"}


def identity(attack, checkpoint="sha", threat="linf", bound=0.0, **changed):
    """Of an attack's records."""
    threat_model = {"class": f"{threat}/1", "bound": bound}
    described = {"class": f"{CLASSES.get(attack, 'pgd')}/1", "steps": 10, "threat_model": threat_model}
    content = {"attack": described, "checkpoint": checkpoint, "classifier": checkpoint, "dataset": "f" * 64}
    return content | {"seed": 0, "examples": None, "chunk": 200, "weights": []} | changed


def records(robust, clean, seed=0):
    """A frame from two lists of booleans; distances that look like distances."""
    count, noise = len(robust), np.random.default_rng(seed)
    distance = noise.gamma(4, 0.1, count)
    return {
        "example_id": list(range(count)),
        "label": [0] * count,
        "clean_prediction": [0 if right else 1 for right in clean],
        "prediction": [0 if right else 1 for right in robust],
        "robust": list(robust),
        "inside": [True] * count,
        "size": [1.0] * count,
        "linf": list(distance / 4),
        "l2": list(distance * 3),
        "lpips": list(distance),
        "lpips_calibrated": [None] * count,
        "margin": [0.5] * count,
        "kind": ["attack"] * count,
        "radius": [None] * count,
        "abstained": [False] * count,
        "seconds": [0.01] * count,
    }


def answers(accuracies, count, seed=0):
    """Lists of booleans with these accuracies; whoever falls to clean images falls to everything."""
    order = np.random.default_rng(seed).permutation(count)
    found = {}
    for i, (name, share) in enumerate(accuracies.items()):
        standing = np.zeros(count, bool)
        shift = 0 if name == "clean" else i * 3
        right = np.roll(order[: round(accuracies["clean"] * count)], shift)[: round(share * count)]
        standing[right] = True
        found[name] = standing.tolist()
    return found


def make_run(folder, robust, *, name="normal/small_resnet/seed0", trained_on=(), suite="paper", dataset="cifar10"):
    """A run folder whose records have the given answers.

    Args:
        folder: of the run.
        robust: by attack, a list of booleans.
        name: defense/model/seed.
        trained_on: names of threat models.
        suite: its name.
        dataset: its name.
    """
    folder, checkpoint = Path(folder), (name.encode().hex() * 3)[:64]
    count, entries = len(next(iter(robust.values()))), {}
    for number, (attack, answer) in enumerate(robust.items()):
        threat, bound = ATTACKS[attack]
        place = OutcomeFolder(folder / "outcomes", attack, identity(attack, checkpoint, threat, bound))
        place.write(0, records(answer, robust["clean"], number))
        entries[attack] = {
            "folder": str(place.path.relative_to(folder)), "threat_model": threat, "bound": bound, "survivors_of": []
        }  # fmt: skip
    union = [attack for attack in UNION if attack in robust]
    plan = {"checkpoint": checkpoint, "attacks": entries, "union": union, "examples": count}
    defense, model, seed = name.split("/")
    card = {
        "name": name, "dataset": dataset, "model": model, "defense": defense, "seed": int(seed.removeprefix("seed")),
        "trained_on": list(trained_on), "checkpoint": checkpoint, "fingerprint": "f" * 64,
    }  # fmt: skip
    provenance = {"gauntlet": "0.1.0", "revision": "abc123def456", "python": "3.11", "packages": {"torch": "2.11.0"}}
    write(folder / "suites" / f"{suite}.json", plan)
    write(folder / "card.json", card)
    write(folder / "provenance.json", [provenance])
    write_flags(folder, suite, checkpoint, [])
    steps = pl.int_range(9, 4000, 10, eager=True)
    loss = {"step": steps, "train/loss": 2 / (1 + steps / 500), "train/adversarial_accuracy": 1 - 1 / (1 + steps / 500)}
    pl.DataFrame(loss).write_csv(folder / "metrics.csv")
    return folder


def add_bounds(folder, attack, shares, suite="paper"):
    """The same suite at shares of its bounds, as `evaluate.py bounds=[…]` leaves it: one attack is enough here."""
    plan = json.loads((folder / "suites" / f"{suite}.json").read_text())
    threat, bound = ATTACKS[attack]
    for share, robust in shares.items():
        place = OutcomeFolder(folder / "outcomes", attack, identity(attack, plan["checkpoint"], threat, share * bound))
        place.write(0, records(robust, [True] * len(robust)))
        entry = plan["attacks"][attack] | {"folder": str(place.path.relative_to(folder)), "bound": share * bound}
        write(folder / "suites" / f"{suite}@{share:g}.json", plan | {"attacks": {attack: entry}, "union": [attack]})


def add_pictures(folder, suite="paper", rows=14):
    """A sheet as large and as hard to compress as a sheet of real images is."""
    noise = np.random.default_rng(0).integers(0, 256, (rows * 112, 918, 3), dtype=np.uint8)
    smooth = np.kron(noise[::3, ::3], np.ones((3, 3, 1), np.uint8))[: rows * 112, :918]
    (folder / "pictures").mkdir()
    Image.fromarray(smooth).save(folder / "pictures" / f"{suite}.png")


def write(file, content):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))
