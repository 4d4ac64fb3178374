"""Statistics over records: intervals, paired tests, medians, overlap, distances."""
