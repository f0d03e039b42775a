"""What reports are made of: tables, and one HTML page for all of them. Knows nothing of what is reported."""
