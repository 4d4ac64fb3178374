"""Make the W&B workspace of a project: robust accuracy, training curves, pictures; runs grouped by sweep and by type.

    python scripts/wandb_workspace.py --entity <you> --project gauntlet --suite quick
    python scripts/wandb_workspace.py --entity <you> --project gauntlet --suite quick --dry-run

Needs `pip install wandb-workspaces` and an account. NOT VERIFIED AGAINST A SERVER: tests build the workspace with W&B's
package and compare every key in it with those of an offline run; whether the server accepts the workspace and draws it
as intended has not been tested. `--dry-run` prints what would be sent and sends nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from gauntlet.config.compose import CONF

if TYPE_CHECKING:
    from wandb_workspaces.workspaces import Workspace

CURVES = {
    "Loss": ["train/loss"],
    "Clean accuracy": ["train/clean_accuracy", "val/accuracy"],
    "Accuracy under the training attack": ["train/adversarial_accuracy", "val/adversarial_accuracy"],
    "Learning rate": ["lr-SGD"],
    "Images a second": ["speed/images_per_second"],
    "Seconds a step": ["speed/step_seconds"],
}
"""Panels of a training run and the metrics in them, as `Defense`, `Speed` and Lightning's monitor log them."""

STEP = "trainer/global_step"
"""The optimizer's step, which continues after a requeue; W&B's own step counts what was sent."""

TRAINING_PICTURES = "pictures/training"


def summary_keys(suite: str, columns: Iterable[str]) -> list[str]:
    """Return the summary keys of a table's columns, as `gauntlet.reports.dashboard.summary` writes them."""
    return [f"{suite}/{column.replace(' ', '_')}" for column in columns]


def attacks_of(suite: str) -> list[str]:
    """Return the attacks of an attack suite of conf/, in the order of its table.

    Raises:
        SystemExit: the suite does not exist.
    """
    file = CONF / "attack_suite" / f"{suite}.yaml"
    if not file.is_file():
        known = ", ".join(sorted(each.stem for each in file.parent.glob("*.yaml")))
        sys.exit(f"--suite {suite}: expected one of {known}; name the attacks of your own with --attacks")
    attacks: list[str] = []
    for entry in OmegaConf.load(file).get("defaults", []):
        if entry == "_self_":
            continue
        if isinstance(entry, str):
            attacks += attacks_of(entry)
            continue
        for key in entry:
            package = str(key).partition("@")[2].split(".")
            if len(package) == 2 and package[0] == "attacks":
                attacks.append(package[1])
    return attacks


def aggregates_of(suite: str) -> list[str]:
    """Return the aggregates of an attack suite of conf/: those of included suites first; none for other suites."""
    file = CONF / "attack_suite" / f"{suite}.yaml"
    if not file.is_file():
        return []
    node = OmegaConf.load(file)
    names: list[str] = []
    for entry in node.get("defaults", []):
        if isinstance(entry, str) and entry != "_self_":
            names += aggregates_of(entry)
    return list(dict.fromkeys([*names, *node.get("aggregates", [])]))


def build(entity: str, project: str, suite: str, attacks: Sequence[str], aggregates: Sequence[str]) -> Workspace:
    """Build the workspace, in memory.

    Args:
        entity: user or team.
        project: as in `logger.wandb.project`.
        suite: attack suite to show.
        attacks: columns of its attacks.
        aggregates: columns of its aggregates.

    Raises:
        SystemExit: the package is missing.
    """
    try:
        import wandb_workspaces.reports.v2 as panels
        import wandb_workspaces.workspaces as workspaces
    except ImportError:
        sys.exit("wandb-workspaces is not installed: pip install wandb-workspaces")

    def bars(title: str, columns: Sequence[str]) -> Any:
        metrics = [panels.SummaryMetric(key) for key in summary_keys(suite, columns)]
        return panels.BarPlot(title=title, metrics=metrics, range_x=(0, 1))

    accuracy = [bars(f"Robust accuracy, {name}", [name]) for name in attacks]
    curves = [panels.LinePlot(title=title, x=STEP, y=metrics) for title, metrics in CURVES.items()]
    pictures = [
        panels.MediaBrowser(title=title, media_keys=[key], num_columns=1)
        for title, key in (
            ("Clean, adversarial, magnified difference", f"{suite}/examples"),
            ("Training attack on held-out images", TRAINING_PICTURES),
        )
    ]
    return workspaces.Workspace(
        entity=entity,
        project=project,
        name=f"Gauntlet: {suite}",
        sections=[
            workspaces.Section(
                name="Aggregates",
                panels=[bars(each.capitalize(), [each]) for each in aggregates],
                is_open=True,
            ),
            workspaces.Section(name="Robust accuracy per attack", panels=accuracy, is_open=True),
            workspaces.Section(name="Training", panels=curves, is_open=True),
            workspaces.Section(name="Pictures", panels=pictures),
        ],
        runset_settings=workspaces.RunsetSettings(
            groupby=[workspaces.Metric("Group"), workspaces.Metric("JobType")],
            pinned_columns=[f"summary:{key}" for key in summary_keys(suite, aggregates)],
        ),
    )


def main() -> None:
    """Build the workspace, and send or print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entity", required=True, help="user or team at W&B")
    parser.add_argument("--project", default="gauntlet", help="as in logger.wandb.project")
    parser.add_argument(
        "--suite", default="quick", help="attack suite whose numbers are shown; quick@0.5 at half the bounds"
    )
    parser.add_argument("--attacks", nargs="+", help="its columns; left out, those of conf/attack_suite/<suite>.yaml")
    parser.add_argument("--aggregates", nargs="*", help="and those of several attacks; left out, those of that file")
    parser.add_argument("--dry-run", action="store_true", help="print what would be sent, and send nothing")
    given = parser.parse_args()
    own = given.suite.partition("@")[0]
    attacks = given.attacks or attacks_of(own)
    aggregates = aggregates_of(own) if given.aggregates is None else given.aggregates
    if not attacks:
        sys.exit(f"--suite {given.suite}: its file names no attacks; say which columns with --attacks")
    workspace = build(given.entity, given.project, given.suite, attacks, aggregates)
    if given.dry_run:
        print(json.dumps(workspace._spec, indent=1))
        return
    workspace.save()
    print(f"{workspace.url} (this script was not verified against a server: look whether every panel is there)")


if __name__ == "__main__":
    main()
