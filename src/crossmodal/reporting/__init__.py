"""Reports on finished runs: metrics, comparisons with the papers, tables, figures, one page, and records in MLflow.

The modules read the runs' folders and `papers/`; they train nothing and change no run.
"""
