"""The state of minimum-distance searches: the nearest success evaluated is returned, whatever comes after it."""

from dataclasses import dataclass

import pytest
import torch

from gauntlet.attacks import DistanceSearch, NearestState
from gauntlet.errors import NotFiniteError
from gauntlet.noise import Noise
from gauntlet.threats import L2
from tests.fixtures import LinearClassifier, batch_of, random_images


@dataclass(frozen=True, kw_only=True)
class Line(DistanceSearch):
    """Steps of given lengths along the weight of a linear classifier, towards the other class."""

    lengths: tuple[float, ...]
    stop_at_success: bool = False
    seen: list

    def search(self, state: NearestState) -> None:
        weight = state.classifier.weight.detach()
        unit = (weight / weight.norm()).reshape(1, *state.params.shape[1:]).to(state.params)
        for length in self.lengths:
            towards = torch.where(state.labels == 0, -length, length)[:, None, None, None]
            state.params = towards * unit
            _, wrong = state.evaluate()
            self.seen.append(len(state))
            if self.stop_at_success:
                state.drop(wrong)
            if not len(state):
                return


SHAPE = (3, 4, 4)
CLASSIFIER = LinearClassifier(48, bias=0.0)
IMAGES = 0.4 + 0.2 * random_images(6, *SHAPE)
LABELS = CLASSIFIER(IMAGES).argmax(1).detach()
DISTANCES = (CLASSIFIER.margin(IMAGES, LABELS) / (2 * CLASSIFIER.weight.detach().norm())).abs()


def line(lengths, **options):
    return Line(threat_model=L2(1.0), lengths=lengths, seen=[], **options)


def test_the_nearest_success_is_returned_and_not_the_last():
    far = DISTANCES.max().item() + 0.05
    attack = line((far + 0.02, far, far + 0.01))
    result = attack(CLASSIFIER, IMAGES, LABELS)
    assert CLASSIFIER(result.images).argmax(1).ne(LABELS).all()
    distance = attack.verify(CLASSIFIER, batch_of(IMAGES), result).distance
    assert distance.tolist() == pytest.approx([far] * 6, rel=1e-5)


def test_what_is_not_misclassified_or_not_an_image_is_no_success():
    attack = line((DISTANCES.min().item() * 0.99, 100.0))  # the second leaves [0, 1]
    result = attack(CLASSIFIER, IMAGES, LABELS)
    assert result.images.equal(IMAGES)
    assert not result.params.any()


def test_misclassified_clean_images_are_not_searched():
    labels = LABELS.clone()
    labels[:2] = 1 - labels[:2]
    attack = line((DISTANCES.max().item() + 0.05,))
    result = attack(CLASSIFIER, IMAGES, labels)
    assert attack.seen == [4]
    assert result.images[:2].equal(IMAGES[:2])
    assert CLASSIFIER(result.images[2:]).argmax(1).ne(labels[2:]).all()


def test_a_dropped_example_keeps_its_nearest_success_and_costs_no_more():
    lengths = tuple(sorted((DISTANCES + 0.01).tolist()))
    attack = line(lengths, stop_at_success=True)
    result = attack(CLASSIFIER, IMAGES, LABELS)
    assert attack.seen == sorted(attack.seen, reverse=True)
    assert attack.seen[-1] < 6
    expected = [min(length for length in lengths if length > distance) for distance in DISTANCES.tolist()]
    assert result.params.flatten(1).norm(dim=1).tolist() == pytest.approx(expected, rel=1e-5)


def test_a_batch_without_a_correct_image_needs_one_forward():
    attack = line((1.0,))
    assert attack(CLASSIFIER, IMAGES, 1 - LABELS).images.equal(IMAGES)
    assert attack.seen == []


def test_nan_of_the_classifier_is_an_error():
    class NaN(LinearClassifier):
        def forward(self, images):
            return super().forward(images).where(images.flatten(1).amax(1, keepdim=True) < 0.7, torch.nan)

    with pytest.raises(NotFiniteError):
        line((3.0,))(NaN(48), IMAGES, LABELS)


def test_buffers_and_noise_are_dropped_with_their_examples():
    region = L2(1.0).around(batch_of(IMAGES))
    state = NearestState(CLASSIFIER, region, LABELS, Noise(torch.arange(6)))
    state.buffers = (torch.arange(6),)
    state.drop(torch.tensor([True, False, True, False, False, False]))
    assert state.buffers[0].tolist() == [1, 3, 4, 5]
    assert state.noise.seeds.tolist() == [1, 3, 4, 5]
    assert state.region.images.equal(IMAGES[[1, 3, 4, 5]])
