"""Rows about attacks: PGD and AutoAttack beside other packages, the published suite beside naive implementations."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from gauntlet.attacks import (
    APGD,
    FAB,
    PGD,
    Adam,
    Attack,
    FirstSuccess,
    LagrangianPerceptualAttack,
    Last,
    OvershootingNewton,
    PerceptualPGD,
    Square,
    WorstCase,
)
from gauntlet.attacks.multipliers import Tenfold
from gauntlet.attacks.steps import Constant
from gauntlet.data import unidentified
from gauntlet.goals import RankedTargets, Untargeted
from gauntlet.losses import CrossEntropy, LogitDifference, TargetedDLR
from gauntlet.threats import L2, Linf, NeuralPerceptual, ReColorAdv, StAdv, ThreatModel
from scripts.bench.models import BenchModel
from scripts.bench.naive import Naive, adam
from scripts.bench.naive import autoattack as autoattacked
from scripts.bench.setting import Setting
from scripts.bench.sides import Row, Side, Timed, take_slices, take_turns

_ROBUST = "right after the attack"


def pgd(setting: Setting) -> Iterator[Row]:
    """Time PGD-40 at a bound with about 50 % robust accuracy, beside torchattacks and foolbox."""
    import foolbox
    import torchattacks

    bench_model = setting.bench_models["robust"]
    images, labels = bench_model.first(setting.images)
    bound = bench_model.half_robust_bound(len(images))
    attack = PGD(threat_model=Linf(bound), steps=40, step_size=0.1, goal=Untargeted(CrossEntropy()))
    seeds = torch.arange(len(images), device=images.device)

    def torchattacked(network: nn.Module) -> Tensor:
        return torchattacks.PGD(network, eps=bound, alpha=0.1 * bound, steps=40)(images, labels)

    def foolboxed(network: nn.Module) -> Tensor:
        model = foolbox.PyTorchModel(network, bounds=(0, 1), device=images.device)
        attacker = foolbox.attacks.LinfPGD(rel_stepsize=0.1, steps=40)
        return attacker(model, images, labels, epsilons=bound)[1]

    sides = [
        Side("Gauntlet", lambda: attack(bench_model.classifier, images, labels, seeds=seeds).images, bench_model.robust)
    ]
    for form, network in (("", bench_model.plain), (", channels last", bench_model.classifier)):
        sides.append(Side(f"torchattacks{form}", partial(torchattacked, network), bench_model.robust))
        sides.append(Side(f"foolbox{form}", partial(foolboxed, network), bench_model.robust))
    job = f"PGD-40, L∞ {255 * bound:.0f}/255, {len(images)} images, {bench_model.name}"
    yield Row("pgd", job, _ROBUST, take_turns(sides, setting.turns, setting.device, warm=False), "≥ 2")


def autoattack(setting: Setting) -> Iterator[Row]:
    """Time AutoAttack L∞ beside its authors' package; both attack only examples still correct, as published."""
    bench_model = setting.bench_models["robust"]
    images, labels = bench_model.first(setting.few)
    bound = bench_model.half_robust_bound(setting.images)
    ours = _autoattack(Linf(bound), setting)
    seeds = torch.arange(len(images), device=images.device)
    sides = [
        Side("Gauntlet", lambda: ours(bench_model.classifier, images, labels, seeds=seeds).images, bench_model.robust)
    ]
    for form, network in (("", bench_model.plain), (", channels last", bench_model.classifier)):
        theirs = autoattack_package(network, "Linf", bound, setting)
        run = partial(theirs.run_standard_evaluation, images, labels, batch_size=len(images))
        sides.append(Side(f"pyautoattack{form}", run, lambda result: bench_model.robust(result[0])))
    job = f"AutoAttack, L∞ {255 * bound:.0f}/255{_reduced(setting)}, {len(images)} images, {bench_model.name}"
    yield Row("autoattack", job, _ROBUST, take_slices(sides, max(1, setting.turns // 3), setting.device), "≥ 1.5")


def suite(setting: Setting) -> Iterator[Row]:
    """Time the published CIFAR-10 suite, by attack and in total, on a normal and a robust network."""
    for name, target in (("normal", "≥ 8"), ("robust", "≥ 3")):
        bench_model = setting.bench_models[name]
        rows = []
        for key, attack in published(bench_model, setting).items():
            rows.append(_against_naive(setting, bench_model, attack, key))
            yield rows[-1]
        total = [_summed(sides) for sides in zip(*(row.sides for row in rows), strict=True)]
        count = min(setting.few, len(bench_model.images))
        job = f"the published suite{_reduced(setting)}, {count} images, {bench_model.name}"
        yield Row("suite", job, "", total, target)


def _summed(sides: Sequence[Timed]) -> Timed:
    """Sum the seconds of one side over the attacks, turn by turn."""
    seconds = [sum(turn) for turn in zip(*(side.seconds for side in sides), strict=True)]
    return Timed(sides[0].name, seconds, None)


def published(bench_model: BenchModel, setting: Setting) -> dict[str, Attack]:
    """Return the attacks of `attack_suite=paper`."""
    bounds, ball = bench_model.bounds, NeuralPerceptual(bench_model.distance, bench_model.bounds.perceptual)
    last: dict[str, Any] = {"iterate": Last(), "step": Adam(), "steps": 100}
    return {
        "linf": _autoattack(Linf(bounds.linf), setting),
        "l2": _autoattack(L2(bounds.l2), setting),
        "stadv": PGD(threat_model=StAdv(bounds.stadv), step_size=0.2, **last),
        "recoloradv": PGD(threat_model=ReColorAdv(bounds.recoloradv), step_size=0.016667, **last),
        "ppgd": PerceptualPGD(
            threat_model=ball,
            steps=40,
            step_size=0.05,
            schedule=Constant(),
            projection=OvershootingNewton(),
            iterate=Last(),
        ),
        "lpa": LagrangianPerceptualAttack(
            threat_model=ball,
            searches=5,
            steps=40,
            multipliers=Tenfold(0.01, 10),
            projection=OvershootingNewton(),
            iterate=FirstSuccess(),
        ),
    }


def stopped(attack: Attack) -> Attack:
    """Return the attack with early stopping: an example is left alone once it is misclassified inside the bound."""
    return replace(attack, iterate=FirstSuccess()) if isinstance(attack, PGD | PerceptualPGD) else attack


def _against_naive(setting: Setting, bench_model: BenchModel, attack: Attack, key: str) -> Row:
    images, labels = bench_model.first(setting.few)
    seeds = torch.arange(len(images), device=images.device)

    def run(ours: Attack) -> Tensor:
        return ours(bench_model.classifier, images, labels, seeds=seeds).images

    sides = [
        Side("Gauntlet, stopped", partial(run, stopped(attack)), bench_model.robust),
        Side("Gauntlet, as published", partial(run, attack), bench_model.robust),
        _naive(setting, bench_model, attack, key),
    ]
    turns = max(1, setting.turns // 3)
    job = f"{key}, {len(images)} images, {bench_model.name}"
    return Row("suite", job, _ROBUST, take_slices(sides, turns, setting.device))


def _naive(setting: Setting, bench_model: BenchModel, attack: Attack, key: str) -> Side:
    """Return the attack without an active set; for AutoAttack, the attacks of its authors' package."""
    images, labels = bench_model.first(setting.few)
    bound = attack.threat_model.bound
    if key in ("linf", "l2"):
        package = autoattack_package(bench_model.plain, {"linf": "Linf", "l2": "L2"}[key], bound, setting)
        return Side("naive", lambda: autoattacked(package, images, labels), partial(_worst, bench_model))
    network = trainable(bench_model.plain)
    feature_network = trainable(bench_model.distance.network)
    if isinstance(attack, PGD):
        region = attack.threat_model.around(unidentified(images, labels))
        rate, steps = attack.step_size * bound, attack.steps
        return Side("naive", lambda: adam(network, region, labels, rate, steps), bench_model.robust)
    naive = Naive(network, feature_network)
    if key == "ppgd":
        return Side("naive", lambda: naive.ppgd(images, labels, bound, 40), bench_model.robust)
    return Side("naive", lambda: naive.lpa(images, labels, bound, 5, 40), bench_model.robust)


def trainable(network: nn.Module) -> nn.Module:
    """Return a copy in contiguous memory format whose parameters all require gradients."""
    return copy.deepcopy(network).to(memory_format=torch.contiguous_format).requires_grad_(True)


def _worst(bench_model: BenchModel, results: list[Tensor]) -> float:
    """Return the share of examples still correct under every attack."""
    with torch.no_grad():
        labels = bench_model.labels[: len(results[0])]
        right = torch.stack([bench_model.plain(images).argmax(1) == labels for images in results])
    return right.all(0).float().mean().item()


def _autoattack(threat: ThreatModel, setting: Setting) -> WorstCase:
    count = setting.targets
    return WorstCase(
        threat_model=threat,
        attacks={
            "apgd": APGD(threat_model=threat, goal=Untargeted(CrossEntropy())),
            "apgd_targeted": APGD(threat_model=threat, goal=RankedTargets(TargetedDLR(), count)),
            "fab": FAB(threat_model=threat, goal=RankedTargets(LogitDifference(), count), steps=100),
            "square": Square(threat_model=threat, queries=setting.queries),
        },
    )


def autoattack_package(network: nn.Module, norm: str, bound: float, setting: Setting) -> Any:
    """Return AutoAttack of its authors' package, with the setting's queries and targets."""
    from pyautoattack import AutoAttack

    logging.getLogger("auto-attack").setLevel(logging.ERROR)
    package = AutoAttack(network, norm=norm, eps=bound, seed=0, device=setting.device)  # type: ignore[arg-type]
    package.verbose = False
    package.square.n_queries = setting.queries
    package.apgd_targeted.n_target_classes = setting.targets
    package.fab.n_target_classes = setting.targets
    return package


def _reduced(setting: Setting) -> str:
    if setting.queries == 5000 and setting.targets == 9:
        return ""
    return f" (Square of {setting.queries} queries, {setting.targets} target classes)"
