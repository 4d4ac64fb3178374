"""Plots for a page: one file each, every one an SVG with the words that say what it shows."""

from gauntlet.reports.plots.accuracies import accuracy_plot
from gauntlet.reports.plots.bounds import bound_plots
from gauntlet.reports.plots.build_up import build_up_plot
from gauntlet.reports.plots.canvas import Plot
from gauntlet.reports.plots.distances import distance_plot
from gauntlet.reports.plots.overlap import overlap_plot
from gauntlet.reports.plots.training import training_plot

__all__ = [
    "Plot",
    "accuracy_plot",
    "bound_plots",
    "build_up_plot",
    "distance_plot",
    "overlap_plot",
    "training_plot",
]
