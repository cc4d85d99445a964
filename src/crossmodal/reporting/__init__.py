"""Results to look at: tables, figures, the report page, the MLflow bridge. Reads what runs wrote, trains nothing."""
