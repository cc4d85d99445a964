from tests.prepared import outside, prepared

__all__ = ["outside", "prepared"]
