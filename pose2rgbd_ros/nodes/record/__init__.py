"""Live topics -> dataset, and an mcap beside it."""
