"""The numbers of finished runs, compared with those that the papers have published."""
