"""Other formats to datasets, one file per source."""
