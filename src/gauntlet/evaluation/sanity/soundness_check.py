"""Run the soundness check of an evaluation: every certificate against every attack on the same threat model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl
import torch
from torch import Tensor

from gauntlet.certificates import Certificate
from gauntlet.data import Batch
from gauntlet.errors import AttackFailed, UserError
from gauntlet.evaluation.grid import Grid
from gauntlet.evaluation.run import Measured
from gauntlet.evaluation.soundness import Soundness, disagreements, within_radius
from gauntlet.evaluation.store import RecordFolder
from gauntlet.evaluation.suite import AttackSuite
from gauntlet.evaluation.verification import ModelUnderTest, device_of, failures_of_an_entry, measure_chunk
from gauntlet.identity import stream_of
from gauntlet.kinds import Kind
from gauntlet.noise import Noise, mix
from gauntlet.scopes import evaluating, exact
from gauntlet.varied import BOUND, altered

_FRESH = 0x736F756E64  # keeps the draws of this check apart from those of searches and certificates
_CLEAN = "the clean images"


def check_soundness(
    model: ModelUnderTest, suite: AttackSuite, grid: Grid, measured: Measured, places: Mapping[str, RecordFolder]
) -> list[Soundness]:
    """What the attacks of a finished evaluation say of its certificates; conditional bounds are not among these.

    Args:
        model: the classifier.
        suite: what it was measured by.
        grid: how.
        measured: the finished records.
        places: where they lie, with the images where these were kept.
    """
    found = []
    for name, certificate in suite.certificates.items():
        family = measured.plan.entries[name].family
        rivals = [
            other
            for other, entry in measured.plan.entries.items()
            if entry.kind in (Kind.ATTACK, Kind.MINIMUM_DISTANCE) and entry.family == family
        ]
        if rivals and certificate.assumption is None:
            found.append(_Check(model, suite, grid, measured, places, name, rivals).result())
    return found


class _Check:
    """Of one certificate."""

    def __init__(
        self,
        model: ModelUnderTest,
        suite: AttackSuite,
        grid: Grid,
        measured: Measured,
        places: Mapping[str, RecordFolder],
        name: str,
        rivals: Sequence[str],
    ) -> None:
        self.model, self.suite, self.grid, self.measured, self.places = model, suite, grid, measured, places
        self.name, self.rivals = name, rivals
        self.certificate: Certificate = suite.certificates[name]
        self.records = measured.records[name]
        self._vote_only: set[int] = set()
        self._abstained: set[int] = set()

    def result(self) -> Soundness:
        stated = self.records.filter(~pl.col("abstained"))
        contradicted: dict[str, list[int]] = {}
        for rival in (_CLEAN, *self.rivals):
            if ids := self._contradicted(rival):
                contradicted[rival] = ids
        confidence = self.certificate.confidence
        wrong = {one for ids in contradicted.values() for one in ids}
        tried, broken = self._power()
        return Soundness(
            certificate=self.name,
            attacks=list(self.rivals),
            examples=len(stated),
            contradicted=contradicted,
            vote_only=len(self._vote_only - wrong),
            abstained=len(self._abstained - wrong - self._vote_only),
            allowed=0.0 if confidence is None else (1 - confidence) * len(stated),
            multiple=self.grid.multiple if tried else None,
            broken=broken / tried if tried else 0.0,
            tried=tried,
        )

    def _contradicted(self, rival: str) -> list[int]:
        if rival == _CLEAN:
            ids = disagreements(self.records).to_list()
        else:
            entry = self.measured.plan.entries[rival]
            ids = within_radius(self.records, self.measured.records[rival], entry.kind, entry.bound).to_list()
        if not ids or self.certificate.confidence is None:
            return ids
        return self._confirmed(rival, ids)

    def _confirmed(self, rival: str, ids: list[int]) -> list[int]:
        """Those for which fresh draws at the attack's image give another class than the certificate stated."""
        images = self._images(rival, ids)
        stated = dict(self.records.select("example_id", "prediction").iter_rows())
        noise = Noise(mix(_FRESH, self.grid.seed, torch.tensor(ids, device=images.device)))
        try:
            with exact(), evaluating(self.model.classifier), torch.no_grad(), failures_of_an_entry():
                predictions, abstained = self.certificate.predict(self.model.classifier, images, noise)
        except AttackFailed as failure:
            raise UserError(f"{self.name} failed in the soundness check: {failure}: mend its predict") from None
        confirmed = []
        for example, prediction, nothing in zip(ids, predictions.tolist(), abstained.tolist(), strict=True):
            if nothing:
                self._abstained.add(example)
            elif prediction == stated[example]:
                self._vote_only.add(example)
            else:
                confirmed.append(example)
        return confirmed

    def _images(self, rival: str, ids: list[int]) -> Tensor:
        """The images that an attack found for examples: as kept, or found again by the same batches."""
        device = device_of(self.model.classifier)
        if rival == _CLEAN:
            return self._examples(ids).images.to(device)
        found: dict[int, Tensor] = {}
        measured = set(self.measured.records[rival]["example_id"])
        for index, chunk in enumerate(self.grid.chunks(self.model)):
            batch = self.model.examples[chunk]
            if set(ids).isdisjoint(batch.ids.tolist()):
                continue
            if self.places[rival].has_images(index):
                found |= self.places[rival].read_images(index)
                continue
            batch = batch.rows([row for row, one in enumerate(batch.ids.tolist()) if one in measured])
            entry = self.suite.entries[rival]
            images = measure_chunk(self.model, entry, batch, self.grid.noise(entry, batch)).images
            if images is not None:
                found |= dict(zip(batch.ids.tolist(), images, strict=True))
        return torch.stack([found[one] for one in ids]).to(device)

    def _examples(self, ids: Sequence[int]) -> Batch:
        rows = {example: row for row, example in enumerate(self.model.examples.ids.tolist())}
        return self.model.examples[torch.tensor([rows[one] for one in ids])]

    def _power(self) -> tuple[int, int]:
        """How many certified examples were attacked within the multiple of their radius, and how many of them broke.

        An attack at a bound runs once for examples whose radii differ by less than a factor of two, at the multiple of
        the smallest.
        """
        own = (pl.col("clean_prediction") == pl.col("label")) & pl.col("correct")
        finite = (pl.col("radius") > 0) & pl.col("radius").is_finite()
        chosen = self.records.filter(own & finite).head(self.grid.probed)
        radii: dict[int, float] = dict(chosen.select("example_id", "radius").iter_rows())
        octaves: dict[int, list[int]] = {}
        for one, radius in radii.items():
            octaves.setdefault(math.frexp(radius)[1], []).append(one)
        tried: set[int] = set()
        broken: set[int] = set()
        for rival in self.rivals:
            if self.measured.plan.entries[rival].kind is Kind.MINIMUM_DISTANCE:
                distance = dict(self.measured.records[rival].select("example_id", "distance").iter_rows())
                near = {one for one, radius in radii.items() if distance[one] <= self.grid.multiple * radius}
                tried, broken = tried | radii.keys(), broken | near
                continue
            for ids in octaves.values():
                reached = self._broken_at(rival, ids, self.grid.multiple * min(radii[one] for one in ids))
                if reached is not None:
                    tried, broken = tried | set(ids), broken | reached
        return len(tried), len(broken)

    def _broken_at(self, rival: str, ids: list[int], bound: float) -> set[int] | None:
        """Which examples an attack breaks at a bound; None where its threat model has no such bound."""
        try:
            attack: Any = altered(self.suite.attacks[rival], BOUND, lambda _: bound)
            if attack.threat_model.bound != bound:
                return None
        except ValueError:
            return None
        batch = self._examples(ids)
        noise = Noise(mix(_FRESH, self.grid.seed, stream_of(attack), batch.ids))
        try:
            records = measure_chunk(self.model, attack, batch, noise).records
        except AttackFailed:
            return None
        return set(records.filter(~pl.col("correct"))["example_id"])
