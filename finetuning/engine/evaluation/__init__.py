"""What predictions on held-out items are worth: metrics with intervals, paired comparisons, verdicts."""
