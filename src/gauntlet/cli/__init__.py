"""The front doors: train, evaluate, report, status."""
