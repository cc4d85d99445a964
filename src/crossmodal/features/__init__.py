"""Feature extractors, one per module; the packages beside them hold what they share, `engine` runs them."""
