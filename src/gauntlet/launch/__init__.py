"""From a config to a run: the only room that reads configs."""
