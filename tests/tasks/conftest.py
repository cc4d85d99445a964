from tests.prepared import labelled, outside, prepared

__all__ = ["labelled", "outside", "prepared"]
