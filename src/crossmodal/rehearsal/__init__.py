"""A rehearsal runs every selected job for two steps and one test, and estimates the hours of the whole run from it."""
