"""Pure functions of records: accuracies, intervals, paired tests, medians, distances, overlaps."""
