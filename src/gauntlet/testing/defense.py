"""The contract of defenses."""

from __future__ import annotations

import copy
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader

from gauntlet.data import Batch, Digits
from gauntlet.defenses import Defense
from gauntlet.models import small_resnet
from gauntlet.testing.expectations import expect, expect_unchanged, name_of

_STEPS = 3

State = Mapping[str, Tensor]


def check_defense(
    make_defense: Callable[[nn.Module], Defense], *, classifier: nn.Module | None = None, batch: Batch | None = None
) -> None:
    """Check every property that training and its reports rely on, by a few steps on one batch, four times.

    Args:
        make_defense: makes the same defense for a given classifier every time; use few attack steps.
        classifier: to train, copied every time; None for a small residual network with batch norms.
        batch: of at least 4 examples; None for eight of the digits.

    Raises:
        AssertionError: a property does not hold; the message names it and the deviation.
    """
    batch = Digits().splits.train[slice(0, 8)] if batch is None else batch
    classifier = _small_classifier() if classifier is None else classifier
    with _quiet():
        check = _Check(make_defense, classifier, batch)
        check.declaration()
        check.first_step()
        check.training()
        check.validation()


def _small_classifier() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return small_resnet(10, [0.3] * 3, [0.3] * 3, width=4)


class _Check:
    """The checks of one defense on one batch."""

    def __init__(self, make: Callable[[nn.Module], Defense], classifier: nn.Module, batch: Batch) -> None:
        self.make, self.classifier, self.batch = make, classifier, batch
        self.kind = name_of(self.new_defense())

    def new_defense(self) -> Defense:
        """A new defense with its own copy of the classifier, in training mode."""
        return self.make(copy.deepcopy(self.classifier)).train()

    def declaration(self) -> None:
        """It is a module with a classifier and a list of the threat models it is trained on."""
        defense = self.new_defense()
        expect(isinstance(defense, Defense), f"{self.kind} is no gauntlet.defenses.Defense: subclass it")
        expect(isinstance(defense.classifier, nn.Module), f"{self.kind}.classifier is a {name_of(defense.classifier)}")
        names = defense.trained_on
        are_names = isinstance(names, list) and all(isinstance(name, str) and name for name in names)
        expect(are_names, f"{self.kind}.trained_on is {names!r}: expected a list of names of threat models")
        expect(len(set(names)) == len(names), f"{self.kind}.trained_on names {names}: expected each once")

    def first_step(self) -> None:
        """A step has one finite loss with a gradient per example, and one forward in training mode for batch norms."""
        observer = _FirstStep(self.kind)
        trainer, defense = _trainer(_STEPS, observer), self.new_defense()
        original_losses = defense.losses

        def losses(batch: Batch) -> Tensor:
            result = original_losses(batch)
            observer.losses = result.detach()
            self._expect_losses(result)
            return result

        defense.losses = losses  # type: ignore[method-assign]
        batch = self.batch
        with expect_unchanged(self.kind, images=batch.images, labels=batch.labels, ids=batch.ids):
            trainer.fit(defense, _loader(batch))

    def _expect_losses(self, losses: Tensor) -> None:
        count, shape = len(self.batch.labels), list(losses.shape)
        expect(
            losses.ndim == 1 and len(losses) > 0 and len(losses) % count == 0,
            f"{self.kind}: losses of shape {shape} for {count} examples: expected one per example, [N], or per attack"
            f" and example; no mean over the batch",
        )
        expect(losses.isfinite().all(), f"{self.kind}: a loss is not finite")
        expect(losses.requires_grad, f"{self.kind}: losses have no graph to the parameters")

    def training(self) -> None:
        """Steps change the weights, reproducibly, with any global generator, also after a resume."""
        before = copy.deepcopy(self.classifier.state_dict())
        with tempfile.TemporaryDirectory(prefix="gauntlet-") as folder:
            stop = Path(folder) / "stopped.ckpt"
            first = self._trained(0, _Save(stop))
            expect(
                any(not first[name].equal(before[name]) for name, _ in self.classifier.named_parameters()),
                f"{self.kind}: {_STEPS} steps change no weight: does the loss reach the parameters?",
            )
            advice = "draw from self.example_seeds or mix(self.seed, self.global_step)"
            self._expect_same(self._trained(1), first, f"training again gives other weights; {advice}")
            what = f"training resumed after step {_STEPS - 1} gives other weights; keep what it needs in the state"
            self._expect_same(self._trained(2, resume=stop), first, what)

    def _trained(self, generator: int, *callbacks: Callback, resume: Path | None = None) -> State:
        defense = self.new_defense()
        with torch.random.fork_rng():
            torch.manual_seed(generator)
            _trainer(_STEPS, *callbacks).fit(defense, _loader(self.batch), ckpt_path=resume, weights_only=False)
        state = defense.classifier.state_dict()
        wrong = [name for name, tensor in state.items() if not tensor.isfinite().all()]
        expect(not wrong, f"{self.kind}: after {_STEPS} steps {wrong[:1]} is not finite")
        return copy.deepcopy(state)

    def _expect_same(self, state: State, other: State, what: str) -> None:
        moved = {name: (state[name].double() - other[name].double()).abs().max().item() for name in other}
        worst = max(moved, key=lambda name: moved[name])
        expect(moved[worst] == 0, f"{self.kind}: {what} ({worst} by {moved[worst]:.3g})")

    def validation(self) -> None:
        """Validation does not change the state."""
        defense = self.new_defense()
        before = copy.deepcopy(defense.state_dict())
        _trainer(1).validate(defense, _loader(self.batch), verbose=False)
        changed = [name for name, tensor in defense.state_dict().items() if not tensor.equal(before[name])]
        expect(not changed, f"{self.kind}: validation changes {changed[:1]}: batch norms must see training alone")


class _FirstStep(Callback):
    """Checks the first step."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.losses: Tensor | None = None
        self.forwards = 0
        self._hook: Any = None
        self._trained: list[str] = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Start counting forwards in training mode."""
        self.forwards = 0
        self._hook = _classifier(pl_module).register_forward_pre_hook(self._count)
        self._trained = [name for name, tensor in pl_module.named_parameters() if tensor.requires_grad]

    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check that every gradient is finite."""
        for name, parameter in pl_module.named_parameters():
            gradient = parameter.grad
            expect(gradient is None or gradient.isfinite().all(), f"{self.kind}: the gradient of {name} is not finite")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Check the loss, the number of forwards, and the state of the classifier."""
        self._hook.remove()
        if self.losses is None:
            raise AssertionError(f"{self.kind}: training_step does not call losses: override losses alone")
        loss, mean = float(outputs["loss"]), self.losses.mean().item()
        expect(abs(loss - mean) <= 1e-5 * max(1.0, abs(mean)), f"{self.kind}: the step's loss is {loss}, not {mean}")
        expect(
            self.forwards == 1,
            f"{self.kind}: {self.forwards} forwards in training mode in a step, expected 1: batch norms average what"
            f" they see; put images together (torch.cat), and use gauntlet.scopes.evaluating for the others",
        )
        in_eval = [name for name, part in _classifier(pl_module).named_modules() if not part.training]
        expect(not in_eval, f"{self.kind}: {in_eval[:1]} of the classifier is left in eval mode after a step")
        trained = [name for name, tensor in pl_module.named_parameters() if tensor.requires_grad]
        frozen = sorted(set(self._trained) - set(trained))
        expect(not frozen, f"{self.kind}: {frozen[:1]} asks for no gradient after a step: restore it")

    def _count(self, classifier: nn.Module, _: Any) -> None:
        self.forwards += classifier.training


def _classifier(defense: LightningModule) -> nn.Module:
    assert isinstance(defense, Defense)
    return defense.classifier


class _Save(Callback):
    """Writes a checkpoint after the last step but one."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save at the end of an epoch, which is one step here."""
        if trainer.global_step == _STEPS - 1:
            trainer.save_checkpoint(self.file)


def _loader(batch: Batch) -> Any:
    """A loader of one step per epoch."""
    return DataLoader([batch], batch_size=None)  # type: ignore[arg-type]


def _trainer(epochs: int, *callbacks: Callback) -> Trainer:
    """A trainer on the CPU that writes nothing."""
    return Trainer(
        max_epochs=epochs, accelerator="cpu", devices=1, inference_mode=False, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        num_sanity_val_steps=0, callbacks=list(callbacks),
    )  # fmt: skip


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress Lightning's messages."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
