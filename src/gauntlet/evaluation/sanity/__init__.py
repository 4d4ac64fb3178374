"""Sanity checks of records, attacks, classifiers and certificates."""
