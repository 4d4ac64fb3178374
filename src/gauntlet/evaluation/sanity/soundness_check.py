"""Run the soundness check of an evaluation: compare every certificate with every attack on the same threat model."""

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

_FRESH = 0x736F756E64  # seed of this check, whose draws must be independent of those of searches and certificates
_CLEAN = "the clean images"


def check_soundness(
    model: ModelUnderTest, suite: AttackSuite, grid: Grid, measured: Measured, folders: Mapping[str, RecordFolder]
) -> list[Soundness]:
    """Compare certificates and attacks of a finished evaluation. Conditional bounds are left out.

    Args:
        model: the classifier and the examples.
        suite: the suite that was run.
        grid: the settings of the evaluation.
        measured: the finished records.
        folders: folders of the records, by entry, with images if these were kept.
    """
    results = []
    for name, certificate in suite.certificates.items():
        attacks = measured.plan.attacks_against(name)
        if attacks and certificate.assumption is None:
            results.append(_Check(model, suite, grid, measured, folders, name, attacks).result())
    return results


class _Check:
    """The check of one certificate."""

    def __init__(
        self,
        model: ModelUnderTest,
        suite: AttackSuite,
        grid: Grid,
        measured: Measured,
        folders: Mapping[str, RecordFolder],
        name: str,
        attacks: Sequence[str],
    ) -> None:
        self.model = model
        self.suite = suite
        self.grid = grid
        self.measured = measured
        self.folders = folders
        self.name = name
        self.attacks = attacks
        self.certificate: Certificate = suite.certificates[name]
        self.records = measured.records[name]
        self._vote_only: set[int] = set()
        self._abstained: set[int] = set()

    def result(self) -> Soundness:
        stated = self.records.filter(~pl.col("abstained"))
        contradicted: dict[str, list[int]] = {}
        for attack in (_CLEAN, *self.attacks):
            if ids := self._contradicted(attack):
                contradicted[attack] = ids
        confidence = self.certificate.confidence
        wrong: set[int] = set().union(*contradicted.values())
        tried, broken = self._power()
        return Soundness(
            certificate=self.name,
            attacks=list(self.attacks),
            examples=len(stated),
            contradicted=contradicted,
            vote_only=len(self._vote_only - wrong),
            abstained=len(self._abstained - wrong - self._vote_only),
            allowed=0.0 if confidence is None else (1 - confidence) * len(stated),
            multiple=self.grid.multiple if tried else None,
            broken=broken / tried if tried else 0.0,
            tried=tried,
        )

    def _contradicted(self, attack: str) -> list[int]:
        if attack == _CLEAN:
            ids = disagreements(self.records).to_list()
        else:
            entry = self.measured.plan.entries[attack]
            ids = within_radius(self.records, self.measured.records[attack], entry.kind, entry.bound).to_list()
        if not ids or self.certificate.confidence is None:
            return ids
        return self._confirmed(attack, ids)

    def _confirmed(self, attack: str, ids: list[int]) -> list[int]:
        """Return the examples for which fresh draws at the attack's image give another class than the certified one."""
        images = self._images(attack, ids)
        stated = dict(self.records.select("example_id", "prediction").iter_rows())
        noise = Noise(mix(_FRESH, self.grid.seed, torch.tensor(ids, device=images.device)))
        try:
            with exact(), evaluating(self.model.classifier), torch.no_grad(), failures_of_an_entry():
                predictions, abstained = self.certificate.predict(self.model.classifier, images, noise)
        except AttackFailed as failure:
            raise UserError(f"{self.name} failed in the soundness check: {failure}: fix its predict") from None
        confirmed = []
        for example, prediction, abstains in zip(ids, predictions.tolist(), abstained.tolist(), strict=True):
            if abstains:
                self._abstained.add(example)
            elif prediction == stated[example]:
                self._vote_only.add(example)
            else:
                confirmed.append(example)
        return confirmed

    def _images(self, attack: str, ids: list[int]) -> Tensor:
        """Return the images that an attack found for examples: as kept, or computed again with the same batches."""
        device = device_of(self.model.classifier)
        if attack == _CLEAN:
            return self._examples(ids).images.to(device)
        images_by_id: dict[int, Tensor] = {}
        measured = set(self.measured.records[attack]["example_id"])
        for index, chunk in enumerate(self.grid.chunks(self.model)):
            batch = self.model.examples[chunk]
            if set(ids).isdisjoint(batch.ids.tolist()):
                continue
            if self.folders[attack].has_images(index):
                images_by_id |= self.folders[attack].read_images(index)
                continue
            batch = batch.rows([row for row, one in enumerate(batch.ids.tolist()) if one in measured])
            entry = self.suite.entries[attack]
            images = measure_chunk(self.model, entry, batch, self.grid.noise(entry, batch)).images
            if images is not None:
                images_by_id |= dict(zip(batch.ids.tolist(), images, strict=True))
        return torch.stack([images_by_id[one] for one in ids]).to(device)

    def _examples(self, ids: Sequence[int]) -> Batch:
        rows = {example: row for row, example in enumerate(self.model.examples.ids.tolist())}
        return self.model.examples[torch.tensor([rows[one] for one in ids])]

    def _power(self) -> tuple[int, int]:
        """Return how many certified examples were attacked at the multiple of their radius, and how many were broken.

        An attack at a bound is run once for all examples whose radii have the same power of two, at the multiple of
        the smallest of these radii.
        """
        correct = (pl.col("clean_prediction") == pl.col("label")) & pl.col("correct")
        finite = (pl.col("radius") > 0) & pl.col("radius").is_finite()
        chosen = self.records.filter(correct & finite).head(self.grid.probed)
        radii: dict[int, float] = dict(chosen.select("example_id", "radius").iter_rows())
        by_exponent: dict[int, list[int]] = {}
        for example, radius in radii.items():
            by_exponent.setdefault(math.frexp(radius)[1], []).append(example)
        tried: set[int] = set()
        broken: set[int] = set()
        for attack in self.attacks:
            if self.measured.plan.entries[attack].kind is Kind.MINIMUM_DISTANCE:
                distance = dict(self.measured.records[attack].select("example_id", "distance").iter_rows())
                broken |= {one for one, radius in radii.items() if distance[one] <= self.grid.multiple * radius}
                tried |= radii.keys()
                continue
            for ids in by_exponent.values():
                newly_broken = self._broken_at(attack, ids, self.grid.multiple * min(radii[one] for one in ids))
                if newly_broken is not None:
                    tried |= set(ids)
                    broken |= newly_broken
        return len(tried), len(broken)

    def _broken_at(self, name: str, ids: list[int], bound: float) -> set[int] | None:
        """Return the examples that an attack breaks at a bound; None if its threat model has no such bound."""
        try:
            attack: Any = altered(self.suite.attacks[name], BOUND, lambda _: bound)
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
