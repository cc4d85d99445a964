"""Finished runs in MLflow: their records, their models, the store, and the server of MLflow's pages."""
