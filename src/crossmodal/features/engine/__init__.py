"""Runs extractors and stores features: the contract of extractors, the driver, the store and its catalogue."""
