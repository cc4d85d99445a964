"""Encoders and losses that several systems share."""
