"""What was measured: the numbers of finished runs, beside what the papers have published."""
