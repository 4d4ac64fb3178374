"""How fast Gauntlet is, against plain restatements and against other packages: `python -m scripts.bench`, `make bench`.

Every row runs its sides in turn, several times over, in one process on one device, and shows the medians, the ratios
and, beside each speed, how strong what came out was. docs/performance.md has the results.
"""
