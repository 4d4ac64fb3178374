"""How Hydra's `-m` runs the jobs of a sweep. Hydra takes plugins from this package alone."""
