"""Plots for a page, one file each. Every plot is an SVG with a description in words."""

from gauntlet.reports.plots.accuracies import column_plot, row_plot
from gauntlet.reports.plots.bounds import bound_plots
from gauntlet.reports.plots.build_up import build_up_plot
from gauntlet.reports.plots.canvas import Plot
from gauntlet.reports.plots.certified import certified_plots
from gauntlet.reports.plots.distances import distance_plot
from gauntlet.reports.plots.overlap import overlap_plot
from gauntlet.reports.plots.training import training_plot

__all__ = [
    "Plot",
    "bound_plots",
    "build_up_plot",
    "certified_plots",
    "column_plot",
    "distance_plot",
    "overlap_plot",
    "row_plot",
    "training_plot",
]
