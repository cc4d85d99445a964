"""Finished runs in MLflow: what is logged of them, their models, the store, and the server of its pages."""
