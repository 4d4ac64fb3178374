"""From a composed config to objects: compose, validate, instantiate, build."""
