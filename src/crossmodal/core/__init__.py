"""The ground: errors, files, paths, limits and the registry. Nothing in here knows of retrieval."""
