"""A grid of seconds' fractions, and what processes do in it."""

import os
import time
from pathlib import Path

import torch
from torch import nn

from gauntlet.attacks import PGD
from gauntlet.data import Examples
from gauntlet.evaluation import AttackSuite, Grid, ModelUnderTest, Union, read_records, runner
from gauntlet.evaluation.logits import recognised
from gauntlet.threats import L2, Linf
from gauntlet.transforms import Clean
from tests.fixtures import tapped

torch.set_num_threads(1)


class Double(nn.Module):
    """Computes in float64, where no example's numbers depend on its batch-mates."""

    def __init__(self, network):
        super().__init__()
        self.network = network.double()

    def forward(self, images):
        return self.network(images.double())


def examples(count=40):
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(256, (count, 3, 6, 5), generator=generator, dtype=torch.uint8)
    classifier = Double(tapped())
    with torch.no_grad():
        labels = classifier(images.float() / 255).argmax(1)
    labels[::7] = (labels[::7] + 1) % 4  # some are wrong from the start
    return Examples(images, labels, torch.arange(count) * 3 + 100)


def model(count=40, **changes):
    parts = {"classifier": Double(tapped()).eval(), "checkpoint": "c0ffee", "examples": examples(count)}
    return ModelUnderTest(**({**parts, "fingerprint": "f00d"} | changes))


def attacks(steps=3):
    return {
        "clean": Clean(),
        "linf": PGD(threat_model=Linf(0.1), steps=steps, step_size=0.4),
        "free": PGD(threat_model=Linf(0.15), steps=steps),
        "l2": PGD(threat_model=L2(0.6), steps=steps, step_size=0.4),
    }


def suite(**more):
    named = attacks() | more
    return AttackSuite(named, aggregates=union_of(name for name in named if name != "free"))


def union_of(names):
    return {"union": Union(list(names))}


GRID = Grid(chunk=8)
CHUNKS = 4 * 5  # of 40 examples under four attacks


def run(root, grid=GRID, subject_=None, suite_=None, done=lambda _: None):
    return grid.run(subject_ or model(), suite_ or suite(), Path(root), done)


def records(folders):
    return {name: read_records(folder.path, folder.kind).drop("seconds") for name, folder in folders.items()}


def same(one, other):
    return one.keys() == other.keys() and all(frame.equals(other[name], null_equal=True) for name, frame in one.items())


def noting(log, pause=0.0):
    """Write a line to a file for every chunk that is measured."""
    measure = runner.measure_chunk

    def noted(model, entry, batch, noise):
        with Path(log).open("a") as stream:
            stream.write(f"{entry.threat_model.name}-{entry.threat_model.bound} {int(batch.ids[0])}\n")
        time.sleep(pause)
        return measure(model, entry, batch, noise)

    return noted


def process(root, log, rank, world, pause):
    """What one process of several does."""
    runner.measure_chunk = noting(log, pause)
    run(root, Grid(chunk=8, rank=rank, world=world))


def hold(root, ready):
    """Take the first chunk under clean and never finish it."""
    with GRID.folders(model(), suite(), Path(root))["clean"].taking(0) as ours:
        ready.send(ours)
        time.sleep(600)


def fill(root, limit, connection):
    """Run where no file may grow beyond a limit: what the kernel does on a full disk, for one process."""
    import resource

    from gauntlet.errors import UserError

    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        run(root)
    except UserError as error:
        connection.send(str(error))
    else:
        connection.send("")
    os._exit(0)


class Noting(Double):
    """Writes a line to a file at every forward, and takes a while for it."""

    def __init__(self, log, pause):
        super().__init__(tapped())
        self._log, self._pause = Path(log), pause

    def forward(self, images):
        with self._log.open("a") as stream:
            stream.write(f"{os.getpid()} {len(images)}\n")
        time.sleep(self._pause)
        return super().forward(images)


def recognise(root, log, group, pause, said):
    """What one process does to find out whether records may be reused."""
    said.put(recognised(model(classifier=Noting(log, pause).eval()), Path(root), group).measurement)
