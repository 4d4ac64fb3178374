"""Answers that lie in [0, 1] are no logits: the check finds them in every precision, and nothing else."""

import pytest
import torch
from torch import nn

from gauntlet.attacks import PGD
from gauntlet.data import Batch
from gauntlet.evaluation import AttackSuite, probe
from gauntlet.threats import Linf
from tests.fixtures import random_images, tapped


class Ending(nn.Module):
    def __init__(self, end):
        super().__init__()
        self.body, self.end = tapped(classes=5), end

    def forward(self, images):
        return self.end(self.body(images))


def flagged(end):
    batch = Batch(random_images(16, 3, 8, 8), torch.zeros(16, dtype=torch.long), torch.arange(16))
    flags = probe(Ending(end).eval(), AttackSuite({"linf": PGD(threat_model=Linf(0.05), steps=1)}), batch)
    return next(flag for flag in flags if flag.name == "logits")


PROBABILITIES = {
    "softmax": lambda logits: logits.softmax(1),
    "sharp softmax": lambda logits: (200 * logits).softmax(1),
    "sigmoid": torch.sigmoid,
    "bfloat16 softmax": lambda logits: logits.bfloat16().softmax(1),
    "float16 softmax": lambda logits: logits.half().softmax(1),
    "bfloat16 sigmoid": lambda logits: logits.bfloat16().sigmoid(),
    "votes": lambda logits: nn.functional.one_hot(logits.argmax(1), 5).float(),
    "softmax of some classes": lambda logits: nn.functional.pad(logits.softmax(1), (0, 3), value=-torch.inf),
    "a tuple with a softmax": lambda logits: (logits.softmax(1), logits),
}
LOGITS = {
    "logits": lambda logits: logits,
    "tiny logits": lambda logits: 1e-3 * (logits - logits.mean(1, keepdim=True)),
    "positive logits": lambda logits: logits.exp() * 10,
    "log-probabilities": lambda logits: logits.log_softmax(1),
    "bfloat16 log-probabilities": lambda logits: logits.bfloat16().log_softmax(1),
    "log-sigmoid": nn.functional.logsigmoid,
    "masked logits": lambda logits: nn.functional.pad(logits - 1, (0, 3), value=-torch.inf),
}


@pytest.mark.parametrize("end", PROBABILITIES.values(), ids=PROBABILITIES)
def test_probabilities_are_flagged(end):
    assert flagged(end).raised
    assert flagged(end).value == 1


@pytest.mark.parametrize("end", LOGITS.values(), ids=LOGITS)
def test_logits_of_all_kinds_are_not(end):
    assert flagged(end).value == 0
