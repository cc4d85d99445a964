"""A rehearsal: every selected job for two steps and one test, before hours are spent on it, and a plan of the hours."""
