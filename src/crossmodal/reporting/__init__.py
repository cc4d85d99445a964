"""Finished runs to what a person looks at: metrics, comparisons with the papers, tables, figures, one page, MLflow.

Reads the runs' folders and `papers/`; trains nothing and changes no run.
"""
