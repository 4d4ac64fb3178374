"""Sweeper and launchers of Hydra's `-m`. Hydra finds plugins in this package only."""
