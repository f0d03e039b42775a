"""The simulated drone, live."""
