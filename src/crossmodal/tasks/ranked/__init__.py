"""The shared parts of both retrieval tasks: encodings, rankings by protocol, shards, and the choice of epochs."""
