"""Make the W&B workspace of a project: robust accuracy, training curves, pictures; runs grouped by sweep and by type.

    python scripts/wandb_workspace.py --entity <you> --project gauntlet --suite quick
    python scripts/wandb_workspace.py --entity <you> --project gauntlet --suite quick --dry-run

Needs `pip install wandb-workspaces` and an account. NOT VERIFIED AGAINST A SERVER: tests build the workspace with W&B's
package and check every key in it against those that an offline run of ours holds; that the server takes the workspace
and draws it so has not been seen. `--dry-run` prints what would be sent and sends nothing.
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
"""The optimizer's own count, which goes on where it was after a requeue; W&B's counts what was sent."""

TRAINING_PICTURES = "pictures/training"


def summary_keys(suite: str, columns: Iterable[str]) -> list[str]:
    """Where the summary of a run has the cells of a table, as `gauntlet.reports.dashboard.summary` writes them."""
    return [f"{suite}/{column.replace(' ', '_')}" for column in columns]


def attacks_of(suite: str) -> list[str]:
    """The attacks of an attack suite of conf/, in the order of its table.

    Raises:
        SystemExit: there is no such suite.
    """
    file = CONF / "attack_suite" / f"{suite}.yaml"
    if not file.is_file():
        known = ", ".join(sorted(each.stem for each in file.parent.glob("*.yaml")))
        sys.exit(f"--suite {suite}: expected one of {known}; name the attacks of your own with --attacks")
    found: list[str] = []
    for entry in OmegaConf.load(file).get("defaults", []):
        if isinstance(entry, str):
            found += attacks_of(entry) if entry != "_self_" else []
        else:
            places = [str(key).partition("@")[2].split(".") for key in entry]
            found += [place[1] for place in places if len(place) == 2 and place[0] == "attacks"]
    return found


def aggregates_of(suite: str) -> list[str]:
    """The aggregates of an attack suite of conf/, its own after those of suites that it is made of; none of others."""
    file = CONF / "attack_suite" / f"{suite}.yaml"
    node = OmegaConf.load(file) if file.is_file() else OmegaConf.create()
    parts = [entry for entry in node.get("defaults", []) if isinstance(entry, str) and entry != "_self_"]
    return list(dict.fromkeys([*(name for part in parts for name in aggregates_of(part)), *node.get("aggregates", [])]))


def build(entity: str, project: str, suite: str, attacks: Sequence[str], aggregates: Sequence[str]) -> Workspace:
    """The workspace, in memory.

    Args:
        entity: user or team.
        project: as in `logger.wandb.project`.
        suite: whose numbers are shown.
        attacks: its columns …
        aggregates: … and those of several attacks.

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
            ("What the training attack does to held-out images", TRAINING_PICTURES),
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
    """Build it, and send it or print it."""
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
