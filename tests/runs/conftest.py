from tests.prepared import labelled, prepared

__all__ = ["labelled", "prepared"]
