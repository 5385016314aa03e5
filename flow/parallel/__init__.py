"""The same work on several cores (joblib) or computers (Dask): a map over small messages."""
