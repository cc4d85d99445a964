"""What both retrieval tasks share: encodings, rankings under each protocol, shards, and the choice of an epoch."""
