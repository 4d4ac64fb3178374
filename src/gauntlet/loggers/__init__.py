"""Loggers: a CSV file in every run folder, and W&B."""

from gauntlet.loggers.dashboard import Dashboard, finish_wandb, wandb_finished, wandb_logger
from gauntlet.loggers.metrics_csv import MetricsCSV

__all__ = ["Dashboard", "MetricsCSV", "finish_wandb", "wandb_finished", "wandb_logger"]
