from tests.prepared import outside

__all__ = ["outside"]
