"""Run folders and what is done in them: references, evaluations, baselines, dry runs."""
