"""The contract of certificates."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from gauntlet.attacks import PGD, Attack
from gauntlet.certificates import Certificate, Certified
from gauntlet.data import Batch
from gauntlet.evaluation.evidence import SCHEMAS
from gauntlet.kinds import Kind
from gauntlet.models import logits_of
from gauntlet.noise import Noise
from gauntlet.scopes import evaluating, exact
from gauntlet.testing.examples import DUAL_NORMS, linear_classifier, linear_margins, predicted_batch, some_images
from gauntlet.testing.expectations import (
    expect,
    expect_alike,
    expect_identity,
    expect_restored,
    expect_unchanged,
    first_row,
    name_of,
    tolerance_of,
)
from gauntlet.threats import SearchableThreatModel, ThreatModel
from gauntlet.tolerance import TOLERANCE
from gauntlet.varied import BOUND, altered

_FRESH = 0x6672657368  # a stream for predictions other than the certificate's


def check_certificate(
    certificate: Certificate,
    *,
    classifier: nn.Module | None = None,
    images: Tensor | None = None,
    attack: Attack | None = None,
    margin: Callable[[nn.Module, Tensor], Tensor] | None = None,
) -> None:
    """Check every property that tables and the soundness check rely on.

    A certificate with a confidence may be wrong at its error rate: its radii are not compared with a closed form, and a
    successful attack counts only if `predict` with fresh draws gives another class, too.

    Args:
        certificate: it is run a dozen times, so make it cheap.
        classifier: for the certificate; None for a linear one of `[3, 6, 6]` images and 3 classes, in float64.
        images: `[N, C, H, W]` with N ≥ 3, near the classifier's boundaries; None for six gray ones, in float64.
        attack: run at each radius; None for PGD if the threat model can be searched.
        margin: computes the true distance of each image to another class, `[N]`, from the classifier and images; no
            radius may exceed it. None for the closed form of the default classifier in L∞, L2 or L1.

    Raises:
        AssertionError: a property does not hold; the message names it and the deviation.
    """
    _check_declaration(certificate)
    if classifier is None and margin is None and type(certificate.threat_model) in DUAL_NORMS:
        dual = DUAL_NORMS[type(certificate.threat_model)]
        margin = lambda network, inputs: linear_margins(network, inputs, dual)  # noqa: E731
    classifier = (classifier or linear_classifier()).eval()
    images = some_images(low=0.45, high=0.55) if images is None else images
    check = _Check(certificate, classifier, predicted_batch(classifier, images))
    check.statement()
    check.determinism()
    check.batches()
    check.callers()
    if certificate.confidence is None and certificate.assumption is None and margin is not None:
        check.margins(margin(classifier, images))
    if certificate.assumption is None:
        check.attacked(attack)


def _check_declaration(certificate: Certificate) -> None:
    kind = name_of(certificate)
    expect(isinstance(certificate, Certificate), f"{kind} is no gauntlet.certificates.Certificate: subclass it")
    expect(certificate.kind is Kind.CERTIFICATE, f"{kind}.kind is {certificate.kind!r}: expected Kind.CERTIFICATE")
    threat_model = certificate.threat_model
    confidence = certificate.confidence
    assumption = certificate.assumption
    expect(isinstance(threat_model, ThreatModel), f"{kind}.threat_model needs a name, a bound and a unit")
    valid_confidence = confidence is None or (isinstance(confidence, float) and 0 < confidence < 1)
    expect(
        valid_confidence,
        f"{kind}.confidence is {confidence!r}: expected 1 − α in (0, 1), or None where nothing is drawn",
    )
    valid_assumption = assumption is None or (isinstance(assumption, str) and assumption != "")
    expect(valid_assumption, f"{kind}.assumption is {assumption!r}: expected a sentence, or None of a proof")
    names = list(inspect.signature(certificate).parameters)
    expect(
        len(names) == 3 and not {"label", "labels", "target", "targets", "y"} & set(names),
        f"{kind} is called with {names}: expected (classifier, images, noise); a certificate never sees labels",
    )
    expect_identity(certificate)


class _Check:
    """The checks of one certificate on one classifier and batch."""

    def __init__(self, certificate: Certificate, classifier: nn.Module, batch: Batch) -> None:
        self.certificate, self.classifier, self.batch = certificate, classifier, batch
        self.kind, self.tolerance = name_of(certificate), tolerance_of(batch.images)
        self.noise = Noise(batch.ids)
        with expect_unchanged(self.kind, images=batch.images, seeds=self.noise.seeds):
            self.certified = self.run(batch.images, self.noise)

    def run(self, images: Tensor, noise: Noise, classifier: nn.Module | None = None) -> Certified:
        """Run it as the evaluation does: in eval mode, in full precision."""
        classifier = classifier or self.classifier
        with exact(), evaluating(classifier):
            return self.certificate(classifier, images, noise)

    def statement(self) -> None:
        """Shapes and dtypes are right, radii are ≥ 0, and a deterministic certificate is about the prediction."""
        certified, count = self.certified, len(self.batch.images)
        for name, part in {**certified._asdict(), **certified.detail}.items():
            if not isinstance(part, Mapping):
                shape = list(part.shape)
                expect(shape == [count], f"{self.kind}: {name} of shape {shape} for {count} images, expected [N]")
                expect(not part.requires_grad, f"{self.kind}: {name} has a graph; detach it")
        taken = sorted(certified.detail.keys() & SCHEMAS[Kind.CERTIFICATE].keys())
        expect(not taken, f"{self.kind}: detail has columns {taken}, which every certificate has: rename them")
        precision = certified.radius.dtype
        expect(precision == torch.float64, f"{self.kind}: radius in {precision}, expected float64")
        whole = not certified.predictions.is_floating_point() and certified.predictions.dtype != torch.bool
        expect(whole, f"{self.kind}: predictions of {certified.predictions.dtype}, expected integers")
        booleans = certified.abstained.dtype == torch.bool
        expect(booleans, f"{self.kind}: abstained of {certified.abstained.dtype}, expected booleans")
        wrong = ~certified.abstained & ~(certified.radius >= 0)
        expect(
            not wrong.any(), f"{self.kind}: the radius of row {first_row(wrong)} is negative or NaN: abstain instead"
        )
        if self.certificate.confidence is None:
            other = ~certified.abstained & (certified.predictions != self.batch.labels)
            expect(
                not other.any(),
                f"{self.kind} states class {certified.predictions[other].tolist()[:1]} of row {first_row(other)}, where"
                f" the classifier answers {self.batch.labels[other].tolist()[:1]}: a radius is about its prediction",
            )

    def determinism(self) -> None:
        """The same noise gives bit-identical results; without a confidence, any noise does."""
        with torch.random.fork_rng():
            torch.manual_seed(20)
            again = self.run(self.batch.images, self.noise)
        advice = "draw every random number from the noise"
        self._expect_same(again, self.certified, 0.0, f"with the same noise; {advice}")
        if self.certificate.confidence is None:
            other = self.run(self.batch.images, self.noise.stream(1))
            self._expect_same(other, self.certified, 0.0, "with other noise, though its confidence is None")

    def batches(self) -> None:
        """An example gets the same radius in any batch: reversed, in part, alone; an empty batch is accepted."""
        count = len(self.batch.images)
        for rows in (torch.arange(count).flip(0), torch.arange(1, count, 2), torch.tensor([count - 1])):
            some = self.run(self.batch.images[rows], self.noise.rows(rows))
            detail = {name: part[rows] for name, part in self.certified.detail.items()}
            expected = Certified(
                self.certified.predictions[rows], self.certified.radius[rows], self.certified.abstained[rows], detail
            )
            self._expect_same(some, expected, self.tolerance, f"of {len(rows)} of {count} examples, in another batch")
        empty = self.run(self.batch.images[:0], self.noise.rows(torch.arange(0)))
        lengths = [len(part) for part in empty[:3]]
        expect(lengths == [0, 0, 0], f"{self.kind}: an empty batch gives {lengths} rows")

    def _expect_same(self, actual: Certified, expected: Certified, tolerance: float, when: str) -> None:
        for name in ("predictions", "radius", "abstained"):
            expect_alike(getattr(actual, name), getattr(expected, name), tolerance, f"{self.kind}: {name} {when}")
        names, expected_names = sorted(actual.detail), sorted(expected.detail)
        expect(names == expected_names, f"{self.kind}: detail {names} {when}, expected {expected_names}")
        for name in actual.detail:
            expect_alike(actual.detail[name], expected.detail[name], tolerance, f"{self.kind}: detail {name} {when}")

    def callers(self) -> None:
        """The classifier is restored, and gradients may be off."""
        for grad in (True, False):
            with torch.set_grad_enabled(grad), expect_restored(self.kind, self.classifier):
                again = self.run(self.batch.images, self.noise)
            self._expect_same(again, self.certified, self.tolerance, f"with gradients {'on' if grad else 'off'}")

    def margins(self, distances: Tensor) -> None:
        """No radius is above the true distance to another class."""
        above = ~self.certified.abstained & (self.certified.radius > distances.double() * (1 + self.tolerance))
        if above.any():
            row = first_row(above)
            raise AssertionError(
                f"{self.kind}: radius {self.certified.radius[row].item():.6g} of row {row}, whose nearest image of"
                f" another class is {distances[row].item():.6g} away: the certificate is not sound"
            )

    def attacked(self, attack: Attack | None) -> None:
        """No attack changes the prediction within its radius."""
        threat_model = self.certificate.threat_model
        if attack is None:
            if not isinstance(threat_model, SearchableThreatModel):
                return
            attack = PGD(threat_model=threat_model, steps=50, step_size=0.1, restarts=2)
        for row, radius in enumerate(self.certified.radius.tolist()):
            if not self.certified.abstained[row] and 0 < radius < float("inf"):
                within = _at_bound(attack, radius / (1 + TOLERANCE))
                if within is not None:
                    self._expect_not_broken(within, row, radius)

    def _expect_not_broken(self, attack: Attack, row: int, radius: float) -> None:
        images, rows = self.batch.images[row : row + 1], torch.tensor([row])
        certified, noise = self.certified.predictions[rows], self.noise.rows(rows)
        actual = attack(self.classifier, images, certified, seeds=noise.seeds).images
        with torch.no_grad():
            prediction = logits_of(self.classifier, actual).argmax(1)
        if self.certificate.confidence is not None and not prediction.equal(certified):
            fresh, abstained = self.certificate.predict(self.classifier, actual, noise.stream(_FRESH))
            prediction = torch.where(abstained, certified, fresh)
        expect(
            prediction.equal(certified),
            f"{self.kind}: {name_of(attack)} makes class {prediction.item()} of row {row}, whose class"
            f" {certified.item()} is certified within {radius:.6g}: the certificate is not sound",
        )


def _at_bound(attack: Attack, bound: float) -> Attack | None:
    """The attack at a bound; None if its threat model does not allow that bound."""
    try:
        other: Attack = altered(attack, BOUND, lambda _: bound)
    except ValueError:
        return None
    return other if other.threat_model.bound == bound else None
