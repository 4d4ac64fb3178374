"""The commands: train, evaluate, report, status."""
