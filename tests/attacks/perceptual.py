"""What the tests of the perceptual attacks share: classifiers, networks of φ, balls, and φ in plain tensors."""

import torch

from gauntlet.distances import LPIPS, SelfLPIPS
from gauntlet.threats import NeuralPerceptual
from tests.fixtures import Ellipsoid, LinearClassifier, predictions, random_images, tapped

DOUBLE = torch.float64


def phi(phi_network, images):
    """φ by Laidlaw et al. 2021, §3, of a network's feature maps, `[N, P]`."""
    layers = []
    for maps in phi_network.features(images):
        length = maps.square().sum(1, keepdim=True).clamp(min=torch.finfo(maps.dtype).tiny).sqrt() + 1e-10
        layers.append((maps / (length * (maps.shape[2] * maps.shape[3]) ** 0.5)).reshape(len(images), -1))
    return torch.cat(layers, 1)


def setting(bounded, dtype, bound=0.3, count=5):
    """A classifier, the network of φ, a threat model, a batch."""
    classifier = tapped(classes=5, dtype=dtype)
    phi_network = classifier if bounded == "self" else tapped(seed=8, dtype=dtype)
    threat = NeuralPerceptual(SelfLPIPS() if bounded == "self" else LPIPS(phi_network), bound)
    images = random_images(count, 3, 7, 6, dtype=dtype).mul(1.2).sub(0.1).clamp(0, 1)
    return classifier, phi_network, threat, images, predictions(classifier, images), torch.arange(count)


def sharp(bound, count=40):
    """Half of the examples fall."""
    classifier, phi_network, _, images, _, seeds = setting("externally", DOUBLE, count=count)
    with torch.no_grad():
        classifier.head[2].weight.mul_(3)
    return (
        classifier,
        phi_network,
        NeuralPerceptual(LPIPS(phi_network), bound),
        images,
        predictions(classifier, images),
        seeds,
    )


def ellipsoid(seed, bound=0.05, count=3, size=12):
    """A linear classifier too sure to fall, an ellipsoidal ball, and the largest rise of the margin in it."""
    matrix = torch.randn(size + 8, size, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)
    classifier = LinearClassifier(size, bias=1e3, dtype=DOUBLE, seed=seed + 5)
    weight = classifier.weight.detach()
    rise = 2 * bound * (weight @ torch.linalg.solve(matrix.T @ matrix, weight)).sqrt()
    images = torch.full((count, size // 4, 2, 2), 0.5, dtype=DOUBLE)
    threat = NeuralPerceptual(Ellipsoid(tapped(dtype=DOUBLE), matrix), bound)
    return classifier, threat, images, torch.zeros(count, dtype=torch.long), rise
