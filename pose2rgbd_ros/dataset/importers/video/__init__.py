"""Videos with a flight log to a dataset."""
