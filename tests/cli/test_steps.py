"""More processes than a step has examples are refused before training begins."""

import pytest
import torch

from gauntlet.cli.train import check_steps
from gauntlet.data import Examples, ImageData
from gauntlet.data.module import Splits
from gauntlet.errors import UserError


class Few(ImageData):
    """Three training images."""

    def load(self):
        some = Examples(torch.zeros(3, 1, 2, 2, dtype=torch.uint8), torch.zeros(3, dtype=torch.long), torch.arange(3))
        return Splits(some, some, some)


@pytest.mark.parametrize("batch_size", [1, 2, 50])
def test_more_processes_than_examples_are_refused(batch_size):
    for world in (1, 2, 3):
        check_steps(Few(batch_size), world)
    with pytest.raises(UserError, match=r"3 training images for 4 processes: expected at least one for each; use"):
        check_steps(Few(batch_size), 4)
